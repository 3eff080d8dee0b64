from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import build_model, toy_spec
from wetread.errors import ConfigError, ModelError, TamperedModelError
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import (
    METADATA_KEY,
    Band,
    Golden,
    ModelSpec,
    check_digest,
    extract_spec,
    read_spec,
    stamp_digest,
)

labels = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=6, unique=True).map(tuple)


@given(
    labels=labels,
    threshold=st.floats(0, 1),
    height=st.integers(1, 4096),
    color=st.sampled_from(["gray", "rgb"]),
    resize=st.sampled_from(["stretch", "fit", "crop"]),
)
def test_json_round_trip(labels, threshold, height, color, resize):
    recipe = PixelRecipe(height=height, width=17, color=color, resize=resize)
    golden = Golden(
        jpeg="a",
        pixels="b",
        seeds=(3,),
        intensities=(0, 255),
        exact=((0.25, 0.75),),
        keras=((0.5, 0.5),),
        exact_tolerance=1e-4,
        keras_tolerance=0.1,
    )
    spec = ModelSpec(labels=labels, pixels=recipe, threshold=threshold, golden=golden, training={"seed": 1})
    assert ModelSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda v: v.update(version=2), "version 2"),
        (lambda v: v["pixels"].update(gamma=1.1), "gamma"),
        (lambda v: v["pixels"].update(resize="squeeze"), "squeeze"),
        (lambda v: v["pixels"].update(height="64"), "height"),
        (lambda v: v["pixels"].update(height=True), "height"),
        (lambda v: v.update(colour="gray"), "colour"),
        (lambda v: v.pop("labels"), "labels"),
        (lambda v: v.update(labels=["one"]), "labels"),
        (lambda v: v.update(labels=["a", "a"]), "labels"),
        (lambda v: v.update(threshold=1.5), "threshold"),
        (lambda v: v.update(positive="OTHER"), "OTHER"),
        (lambda v: v.update(scale=[1.0, 1.0]), "scale"),
        (lambda v: v.update(head="relu"), "relu"),
        (lambda v: v.update(temperature=0), "temperature"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_name(change, named):
    values = json.loads(toy_spec().to_json())
    change(values)
    with pytest.raises(ModelError, match=named):
        ModelSpec.from_json(json.dumps(values))


def test_text_that_is_not_json_is_refused():
    with pytest.raises(ModelError, match="JSON"):
        ModelSpec.from_json("{")


def test_a_spec_over_20_kilobytes_is_refused():
    spec = dataclasses.replace(toy_spec(), training={"note": "x" * 20_000})
    with pytest.raises(ModelError, match="the limit is 20,000"):
        spec.to_json()


def test_a_recipe_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="from 1 to 4096"):
        PixelRecipe(height=0)


def test_two_labels_are_decided_by_the_threshold_and_more_by_the_largest():
    two = dataclasses.replace(toy_spec(), threshold=0.75)
    rows = np.array([[0.25, 0.75], [0.26, 0.74], [0.9, 0.1]], np.float32)
    assert two.decide(rows).tolist() == [1, 0, 0]
    first = dataclasses.replace(two, positive="NORMAL")
    assert first.decide(rows).tolist() == [1, 1, 0]
    three = toy_spec(labels=("a", "b", "c"))
    assert three.positive is None
    assert three.decide(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], np.float32)).tolist() == [1, 0]


def test_extract_spec_reads_what_onnx_reads():
    model = build_model(toy_spec(labels=("chat", "chien", "été ✓"), color="rgb"))
    (entry,) = [p for p in onnx.load_from_string(model).metadata_props if p.key == METADATA_KEY]
    assert extract_spec(model, name="m") == ModelSpec.from_json(entry.value)
    with pytest.raises(ModelError, match="wetread export"):
        extract_spec(b"not a model", name="m")


def test_digest_holds_every_byte():
    model = build_model(toy_spec())
    digest = check_digest(model, name="m")
    assert extract_spec(model, name="m").digest == digest
    assert stamp_digest(build_model(toy_spec())) == model
    random = np.random.default_rng(0)
    for at in random.integers(0, len(model), 60):
        flipped = bytearray(model)
        flipped[at] ^= 1 << int(random.integers(0, 8))
        with pytest.raises(ModelError):
            check_digest(bytes(flipped), name="m")
            extract_spec(bytes(flipped), name="m")
    with pytest.raises(TamperedModelError, match="Copy it again"):
        check_digest(model + b"\0", name="m")


def test_a_spec_that_changed_says_so_and_not_what_it_says_now():
    """A bit in a field's name reads as a field of a newer wetread."""
    model = build_model(toy_spec())
    at = model.index(b'"orientation"') + 3
    flipped = model[:at] + bytes([model[at] ^ 1]) + model[at + 1 :]
    with pytest.raises(ModelError, match="newer"):
        extract_spec(flipped, name="m")
    with pytest.raises(TamperedModelError, match="Copy it again"):
        read_spec(flipped, name="m")
    assert read_spec(model, name="m") == extract_spec(model, name="m")
    with pytest.raises(ModelError, match="wetread export"):
        read_spec(b"not a model", name="m")


def test_a_band_tells_what_is_uncertain_and_only_a_file_with_one_holds_it():
    plain, band = toy_spec(), Band(low=0.3, high=0.6, rule="images 0.05")
    assert "uncertain" not in plain.to_json()
    spec = dataclasses.replace(plain, uncertain=band)
    assert ModelSpec.from_json(spec.to_json()) == spec
    shown = np.array([0.29, 0.3, 0.5, 0.6, 0.61], np.float32)
    probabilities = np.stack([1 - shown, shown], axis=1)
    assert spec.find_uncertain(probabilities).tolist() == [False, True, True, True, False]
    assert plain.find_uncertain(probabilities).tolist() == [False] * 5
    turned = dataclasses.replace(spec, positive=spec.labels[0], threshold=0.6)
    assert turned.find_uncertain(probabilities[:, ::-1]).tolist() == [False, True, True, True, False]
