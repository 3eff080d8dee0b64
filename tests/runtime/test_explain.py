from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from wetread.cli import run
from wetread.errors import ImageError, UsageError
from wetread.runtime.explain import Explanation, choose_patches, explain_image, map_occlusion, place_map
from wetread.runtime.explanation_picture import draw_explanation, make_caption
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import METADATA_KEY, ModelSpec, stamp_digest
from wetread.runtime.scoring.classifier import Classifier


def build_looking_model(spec: ModelSpec, rows: slice, columns: slice, *, gain: float = 6.0) -> bytes:
    """A network whose second label grows with the brightness of one rectangle and with nothing else."""
    height, width, channels = spec.pixels.shape
    looks = np.zeros((height, width, channels), np.float32)
    looks[rows, columns] = 1
    weights = np.zeros((looks.size, len(spec.labels)), np.float32)
    weights[:, 1] = looks.ravel() * gain / looks.sum() / 255
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "looks",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(spec.labels)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(model)
    return stamp_digest(model.SerializeToString())


def make_classifier(
    rows: slice = slice(0, 16), columns: slice = slice(0, 16), *, gain: float = 6.0, **recipe: object
) -> Classifier:
    spec = ModelSpec(labels=("NORMAL", "PNEUMONIA"), pixels=PixelRecipe(**recipe))
    return Classifier(build_looking_model(spec, rows, columns, gain=gain), device="cpu")


def draw_bright_corner(height: int, width: int, *, exif: int = 1, suffix: str = "png") -> bytes:
    """A dark picture whose top left quarter is bright, as it is stored."""
    picture = np.full((height, width), 30, np.uint8)
    picture[: height // 2, : width // 2] = 220
    tags = Image.Exif()
    tags[274] = exif
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format={"jpg": "JPEG"}.get(suffix, suffix), exif=tags, quality=95)
    return file.getvalue()


def draw(found: Explanation, model: Classifier) -> np.ndarray:
    """The whole picture of an explanation."""
    caption = make_caption(model.spec, model="m", digest=model.digest, identity="1.2.3")
    return draw_explanation(found, caption)


def split(drawn: np.ndarray, found: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """The image and the tinted one beside it, or below it, of a picture without the patient's directions."""
    height, width = found.picture.shape[:2]
    tall, broad = height * max(1, found.display.aspect), width * max(1, 1 / found.display.aspect)
    factor = min(max(tall, broad, 512), 1024) / max(tall, broad)
    high, wide = max(1, round(tall * factor)), max(1, round(broad * factor))
    top, left = (0, wide + 8) if wide <= 2 * high else (high + 8, 0)
    tinted = drawn[top : top + high, left : left + wide]
    return drawn[:high, :wide].astype(int), tinted.astype(int)


def test_the_map_lights_the_corner_that_the_network_looks_at() -> None:
    model = make_classifier()
    found = explain_image(model, draw_bright_corner(200, 200), label="PNEUMONIA")
    assert found.map.shape == (64, 64)
    assert found.map[4:12, 4:12].min() > 0.3 * found.map.max() > 0
    # No patch (16 pixels at most) that covers these touches the corner.
    assert np.abs(found.map[32:, :]).max() < 1e-5
    assert np.abs(found.map[:, 32:]).max() < 1e-5
    row, column = np.unravel_index(found.map.argmax(), found.map.shape)
    assert row < 16 and column < 16


def test_hiding_the_whole_rectangle_costs_what_the_network_says() -> None:
    """One patch as large as the image: the fall is that from the image to its mean."""
    model = make_classifier()
    pixels = read_pixels(draw_bright_corner(200, 200), model.spec.pixels)
    heat = map_occlusion(model, pixels, column=1, patches=((64, 64),))
    expected = 6.0 * (220 - round(float(pixels.mean()))) / 255
    # In the middle the patch that covers all counts most; those that leave the corner free count 0.
    assert 0.3 * expected < heat[8, 8] <= expected + 1e-4


def test_what_speaks_for_one_label_speaks_against_the_other() -> None:
    model, data = make_classifier(), draw_bright_corner(100, 100)
    for_it, against = (explain_image(model, data, label=label).map for label in ("PNEUMONIA", "NORMAL"))
    assert against == pytest.approx(-for_it, abs=1e-4)


def test_the_map_repeats_to_the_bit() -> None:
    model, data = make_classifier(), draw_bright_corner(100, 100)
    first, second = (explain_image(model, data) for _ in range(2))
    assert np.array_equal(first.map, second.map)
    assert np.array_equal(draw(first, model), draw(second, model))


def test_the_label_is_the_chosen_one_unless_asked() -> None:
    model = make_classifier()
    bright, dark = (
        draw_bright_corner(100, 100),
        cv2.imencode(".png", np.diag([0] * 49 + [255]).astype(np.uint8))[1].tobytes(),
    )
    found = explain_image(model, bright)
    assert (found.label, found.probability) == ("PNEUMONIA", found.probabilities["PNEUMONIA"])
    assert found.probability == pytest.approx(
        model.classify(read_pixels(bright, model.spec.pixels)[None])[0, 1]
    )
    assert explain_image(model, dark, label="NORMAL").probability == pytest.approx(0.5)
    with pytest.raises(UsageError, match="NORMAL, PNEUMONIA, not 'COVID'"):
        explain_image(model, bright, label="COVID")
    with pytest.raises(ImageError):
        explain_image(model, bright[:60])


def test_a_certain_network_still_has_a_finite_map() -> None:
    found = explain_image(make_classifier(gain=30.0), draw_bright_corner(100, 100))
    assert found.probability == 1.0
    assert np.isfinite(found.map).all()
    assert found.map[8, 8] > 0


@pytest.mark.parametrize("exif", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_turned_originals_are_explained_upright(exif: int, suffix: str) -> None:
    """The network looks at the top left of the upright image, wherever that is stored."""
    data = draw_bright_corner(120, 200, exif=exif, suffix=suffix)
    model = make_classifier()
    found = explain_image(model, data, label="PNEUMONIA")
    with Image.open(io.BytesIO(data)) as opened:
        turned = Image.Image.getexif(opened)[274] >= 5
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(opened))
    assert found.picture.shape[:2] == ((200, 120) if turned else (120, 200))
    assert found.picture[..., 0] == pytest.approx(upright, abs=2)
    lit = bool(upright[10, 10] > 128)
    assert (found.map[8, 8] > 0.05) == lit
    plain, tinted = split(draw(found, model), found)
    red = tinted[..., 0] - tinted[..., 2]
    height, width = red.shape
    assert (red[height // 8, width // 8] > 20) == lit
    # The corner is where the network looks, whichever way it speaks; the rest has no colour.
    assert np.array_equal(tinted[height // 2 + 5 :], plain[height // 2 + 5 :])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(20, 300),
    width=st.integers(20, 300),
    mode=st.sampled_from(["stretch", "fit", "crop"]),
    size=st.tuples(st.sampled_from([16, 33, 64]), st.sampled_from([16, 48])),
)
def test_the_map_lies_where_the_model_saw_it(height, width, mode, size) -> None:
    """An image whose gray levels number its rows tells which of them each model row shows."""
    recipe = PixelRecipe(height=size[0], width=size[1], resize=mode, scaled_decoding=0)
    (rows, columns), box = place_map((height, width), recipe)
    levels = np.rint((np.arange(height) + 0.5) * 250 / height).astype(np.uint8)
    ramp = np.repeat(levels[:, None], width, axis=1)
    seen = read_pixels(cv2.imencode(".png", ramp)[1].tobytes(), recipe)[rows, columns, 0].mean(axis=1)
    centres = box.top + (np.arange(len(seen)) + 0.5) / len(seen) * box.height
    assert seen == pytest.approx(centres * 250 / height, abs=2 + 250 / height + 125 / len(seen))
    assert abs(seen.mean() - centres.mean() * 250 / height) < 2
    if mode == "crop":
        assert (len(seen), columns) == (size[0], slice(0, size[1]))
        assert box.height == pytest.approx(height) or box.width == pytest.approx(width)
    else:
        assert (box.top, box.left, box.height, box.width) == (0, 0, height, width)
    if mode == "fit":
        outside = np.ones(size, bool)
        outside[rows, columns] = False
        white = cv2.imencode(".png", np.full((height, width), 255, np.uint8))[1].tobytes()
        assert (read_pixels(white, recipe)[..., 0] > 0).tolist() == (~outside).tolist()


@pytest.mark.parametrize("mode", ["fit", "crop"])
def test_fitted_and_cropped_maps_are_drawn_in_their_place(mode: str) -> None:
    """The network looks at the middle: so does the picture, and what a crop left out keeps its pixels."""
    model = make_classifier(slice(24, 40), slice(24, 40), resize=mode)
    picture = np.full((100, 300), 40, np.uint8)
    picture[40:60, 140:160] = 250
    found = explain_image(model, cv2.imencode(".png", picture)[1].tobytes(), label="PNEUMONIA")
    plain, tinted = split(draw(found, model), found)
    red = tinted[..., 0] - tinted[..., 2]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert 0.35 < row / red.shape[0] < 0.65 and 0.43 < column / red.shape[1] < 0.57
    if mode == "crop":
        assert found.box.left == pytest.approx(100, abs=1)
        third = red.shape[1] // 3
        assert np.array_equal(tinted[:, : third - 2], plain[:, : third - 2])
        assert np.array_equal(tinted[:, 2 * third + 3 :], plain[:, 2 * third + 3 :])
    else:
        assert found.map.shape == (21, 64)


class Counting:
    """A model that counts what it is asked."""

    def __init__(self, size: int) -> None:
        self.spec = ModelSpec(labels=("a", "b", "c"), pixels=PixelRecipe(height=size, width=size))
        self.device = "cpu"
        self.images = 0
        self.shapes: set[int] = set()

    def classify(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        self.shapes.add(len(images))
        return np.full((len(images), 3), 1 / 3, np.float32)


@pytest.mark.parametrize("size", [1, 5, 64, 224])
def test_the_work_is_bounded_whatever_the_size(size: int) -> None:
    """About 650 images in whole batches: 0.4 s of one core for a 64 x 64 network of 98,017 parameters."""
    model = Counting(size)
    found = explain_image(model, draw_bright_corner(50, 50))
    assert found.map == pytest.approx(np.zeros((size, size)), abs=1e-6)
    assert model.images <= 770
    assert model.shapes == {1, 64}
    assert found.patches == choose_patches(model.spec.pixels)


def run_command(*arguments: object) -> int:
    return run(["explain", *map(str, arguments)])


def test_the_command_draws_and_prints(tmp_path: Path, capfdbinary) -> None:
    model, image, output = tmp_path / "m.onnx", tmp_path / "image.png", tmp_path / "out.png"
    spec = ModelSpec(labels=("NORMAL", "PNEUMONIA"))
    model.write_bytes(build_looking_model(spec, slice(0, 16), slice(0, 16)))
    image.write_bytes(draw_bright_corner(120, 400))
    assert run_command(image, "--model", model, "--output", output) == 0
    assert cv2.imread(str(output)).shape[1] == 1032
    assert run_command(image, "--model", model, "--output", output) == 1
    assert run_command(image, "--model", model, "--output", output, "--overwrite") == 0
    capfdbinary.readouterr()
    assert run_command(image, "--model", model, "--format", "json", "--label", "NORMAL") == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert (found["image"], found["label"], found["method"]) == (str(image), "NORMAL", "occlusion")
    assert found["model"] == {"name": str(model), "sha256": Classifier(model, device="cpu").digest}
    assert found["picture"] == {"height": 120, "width": 400}
    assert found["box"] == [0.0, 0.0, 120.0, 400.0]
    heat = np.array(found["map"])
    assert heat.shape == (64, 64) and heat[8, 8] < -0.1
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert run_command(image, "--format", "json") == 0
    said = capfdbinary.readouterr()
    assert b"no --model given: using the packaged chest-xray.onnx" in said.err
    assert json.loads(said.out)["model"]["name"].endswith("chest-xray.onnx")


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capfd) -> None:
    model, image = tmp_path / "m.onnx", tmp_path / "image.png"
    model.write_bytes(build_looking_model(ModelSpec(labels=("a", "b")), slice(0, 16), slice(0, 16)))
    image.write_bytes(draw_bright_corner(50, 50))
    assert run_command(image, "--model", model) == 2
    assert run_command(image, "--model", model, "--format", "gif") == 2
    assert run_command(image, "--model", model, "--format", "json", "--label", "c") == 2
    assert run_command(tmp_path, "--model", model, "--format", "json") == 1
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:50])
    assert run_command(tmp_path / "cut.png", "--model", model, "--format", "json") == 1
    errors = capfd.readouterr().err
    assert errors.count("wetread: ") == 5
    assert "takes one image file" in errors and "truncated" not in errors.split("\n")[0]
    assert run_command(image, "--model", model, "--output", tmp_path / "no" / "out.png") == 1
