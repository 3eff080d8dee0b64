from __future__ import annotations

import io
import sys
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    convert_color_space,
    pixel_array,
)
from pydicom.sequence import Sequence

from tests.runtime.images.dicom.drawing import (
    LOSSLESS,
    LOSSY,
    NATIVE,
    compress,
    decode_dicom,
    draw_xray,
    make_object,
    save,
    strip_meta,
    write_dicom,
)
from tests.runtime.images.dicom.reference import reference_gray
from wetread.errors import ImageError
from wetread.runtime.images.dicom import looks_like_dicom
from wetread.runtime.images.dicom.decoding import read_gray_rule
from wetread.runtime.images.dicom.frames import read_frame
from wetread.runtime.images.dicom.pixel_format import read_format
from wetread.runtime.images.dicom.values import parse_file

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
WINDOW = {
    "WindowCenter": ["300", "10"],
    "WindowWidth": ["500.5", "20"],
    "RescaleSlope": "0.25",
    "RescaleIntercept": "-7.5",
}


def expected_gray(file: bytes, stored: np.ndarray) -> np.ndarray:
    """What docs/guides/dicom.md makes of stored values, by the slow reference."""
    attributes = parse_file(file).attributes
    form = read_format(attributes)
    return reference_gray(stored, read_gray_rule(attributes, form, frame=0))[..., None]


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS])
@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (10, True), (12, False), (12, True), (16, False), (16, True)]
)
def test_lossless_syntaxes_give_the_rule_exactly(syntax, bits, signed):
    stored = draw_xray(bits, signed=signed)
    file = write_dicom(stored, bits=bits, syntax=syntax, photometric="MONOCHROME1", extra=WINDOW)
    np.testing.assert_array_equal(decode_dicom(file), expected_gray(file, stored))


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_come_close(syntax):
    bits = {"jpeg baseline": 8, "jpeg extended": 12}.get(syntax, 16)
    stored = draw_xray(bits)
    file = write_dicom(stored, bits=bits, syntax=syntax)
    # Their own extremes differ a little from those that were drawn: so does the range.
    difference = decode_dicom(file).astype(int) - expected_gray(file, stored)
    assert np.abs(difference).max() <= 8
    assert np.abs(difference).mean() <= 2


@pytest.mark.parametrize("syntax", [*NATIVE, *LOSSLESS, "jpeg baseline", "jpeg 2000"])
def test_color(syntax):
    colors = np.stack([draw_xray(8, seed=seed) for seed in range(3)], axis=2)
    decoded = decode_dicom(write_dicom(colors, bits=8, syntax=syntax, photometric=color_of(syntax)))
    tolerance = 0 if syntax in NATIVE or syntax in LOSSLESS else 40
    assert np.abs(decoded.astype(int) - colors).max() <= tolerance
    assert np.abs(decoded.astype(int) - colors).mean() <= tolerance / 5


def color_of(syntax: str) -> str:
    return {"jpeg baseline": "YBR_FULL_422", "jpeg 2000": "YBR_ICT", "jpeg 2000 lossless": "YBR_RCT"}.get(
        syntax, "RGB"
    )


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", NATIVE)
def test_color_by_plane_and_of_16_bits(syntax, planar):
    colors = np.stack([draw_xray(12, seed=seed) for seed in range(3)], axis=2)
    decoded = decode_dicom(write_dicom(colors, bits=12, syntax=syntax, photometric="RGB", planar=planar))
    np.testing.assert_array_equal(decoded, np.floor(colors / 4095 * 255 + 0.5).astype(np.uint8))


def palette(bits: int) -> dict[str, object]:
    random = np.random.default_rng(bits)
    found: dict[str, object] = {}
    for color in ("Red", "Green", "Blue"):
        data = random.integers(0, 1 << bits, 200, dtype=np.uint16)
        found[f"{color}PaletteColorLookupTableDescriptor"] = [200, 10, bits]
        found[f"{color}PaletteColorLookupTableData"] = data.astype("<u2").tobytes()
    return found


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits):
    stored = draw_xray(8)
    tables = palette(bits)
    decoded = decode_dicom(write_dicom(stored, bits=8, photometric="PALETTE COLOR", extra=tables))
    rows = [np.frombuffer(tables[f"{c}PaletteColorLookupTableData"], "<u2") for c in ("Red", "Green", "Blue")]
    at = np.clip(stored.astype(int) - 10, 0, 199)
    expected = [np.floor(row[at] / ((1 << bits) - 1) * 255 + 0.5) for row in rows]
    np.testing.assert_array_equal(decoded, np.stack(expected, axis=2).astype(np.uint8))


def lookup_item(first: int, entries: np.ndarray, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    return Sequence([item])


@pytest.mark.parametrize("extra", [{}, WINDOW])
def test_lookup_tables_come_before_rescale_and_window(extra):
    stored = draw_xray(10)
    curve = np.arange(1000) ** 2 // 300
    tables = {
        "ModalityLUTSequence": lookup_item(20, curve, 12),
        "VOILUTSequence": lookup_item(100, np.arange(3000) // 3, 10),
    }
    file = write_dicom(stored, bits=10, extra={**extra, **tables})
    modality = curve[np.clip(stored.astype(int) - 20, 0, 999)]
    voi = (np.arange(3000) // 3)[np.clip(modality - 100, 0, 2999)]
    np.testing.assert_array_equal(decode_dicom(file)[..., 0], np.floor(voi / 1023 * 255 + 0.5))
    np.testing.assert_array_equal(decode_dicom(file), expected_gray(file, stored))


def test_padding_is_black_and_stretches_no_range():
    stored = draw_xray(12)
    stored[:5] = 4000
    stored[5:8] = 4001
    stored[8:] = stored[8:] // 2
    extra = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        decoded = decode_dicom(write_dicom(stored, bits=12, photometric=photometric, extra=extra))
        assert not decoded[:8].any()
        assert (decoded[8:].min(), decoded[8:].max()) == (0, 255)


def test_monochrome1_is_the_negative_of_monochrome2():
    stored = draw_xray(12)
    one, two = (decode_dicom(write_dicom(stored, bits=12, photometric=f"MONOCHROME{k}")) for k in (1, 2))
    np.testing.assert_array_equal(one, 255 - two)


@pytest.mark.parametrize("window", [{"WindowCenter": "100", "WindowWidth": "0.5"}, {"WindowCenter": "100"}])
def test_what_is_no_window_leaves_the_full_range(window):
    stored = draw_xray(12)
    decoded = decode_dicom(write_dicom(stored, bits=12, extra=window))
    np.testing.assert_array_equal(decoded, decode_dicom(write_dicom(stored, bits=12)))


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg baseline", "jpeg-ls"])
def test_the_representative_frame_stands_for_many(syntax):
    frames = [draw_xray(8, seed=seed) for seed in range(3)]
    plain = [decode_dicom(write_dicom(frame, bits=8, syntax=syntax)) for frame in frames]
    second = write_dicom(frames, bits=8, syntax=syntax, extra={"RepresentativeFrameNumber": 2})
    np.testing.assert_array_equal(decode_dicom(second), plain[1])
    last = write_dicom(frames, bits=8, syntax=syntax, extra={"RepresentativeFrameNumber": 3})
    np.testing.assert_array_equal(decode_dicom(last), plain[2])


@pytest.mark.parametrize("extra", [{}, {"RepresentativeFrameNumber": 9}])
def test_several_frames_of_which_none_is_said_to_count_are_unsupported(extra):
    frames = [draw_xray(8, seed=seed) for seed in range(3)]
    status, message = status_of(write_dicom(frames, bits=8, extra=extra))
    assert status == "unsupported"
    assert "It has 3 frames and no Representative Frame Number" in message


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg baseline", "jpeg-ls", "jpeg 2000 lossless"])
@pytest.mark.parametrize("stated", [None, 1])
def test_several_frames_that_are_called_one_are_not_its_first(syntax, stated):
    frames = [draw_xray(8, seed=seed) for seed in range(3)]
    dataset = pydicom.dcmread(io.BytesIO(write_dicom(frames, bits=8, syntax=syntax)))
    del dataset.NumberOfFrames
    if stated:
        dataset.NumberOfFrames = stated
    out = io.BytesIO()
    dataset.save_as(out)
    assert status_of(out.getvalue())[0] == "malformed"


def test_color_of_a_lossless_jpeg_is_converted_once():
    """libjpeg converts none there: the object says what the components are."""
    gray = draw_xray(8)
    components = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    stream = number_components(compress(components, bits=8, syntax="jpeg lossless sv1"))
    for photometric, expected in (
        ("YBR_FULL", convert_color_space(components, "YBR_FULL", "RGB")),
        ("RGB", components),
    ):
        found = make_object(components, bits=8, photometric=photometric)
        found.PlanarConfiguration = 0
        found.PixelData = encapsulate([stream])
        found["PixelData"].VR = "OB"
        shown = decode_dicom(save(found, LOSSLESS["jpeg lossless sv1"]))
        assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


def number_components(stream: bytes) -> bytes:
    """Call the components of a lossless JPEG 1, 2 and 3, not R, G and B, and leave out Adobe's marker."""
    at = stream.find(b"\xff\xee")
    if at > 0:
        stream = stream[:at] + stream[at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big") :]
    numbered = bytearray(stream)
    frame, scan = stream.index(b"\xff\xc3"), stream.index(b"\xff\xda")
    for component in range(3):
        numbered[frame + 10 + 3 * component] = numbered[scan + 5 + 2 * component] = component + 1
    return bytes(numbered) + b"\0" * (len(numbered) % 2)


def test_a_frame_may_have_its_own_window():
    def group(**values):
        item, inner = Dataset(), Dataset()
        for name, value in values.items():
            setattr(inner, name, value)
        voi = "WindowCenter" in values
        setattr(item, "FrameVOILUTSequence" if voi else "PixelValueTransformationSequence", Sequence([inner]))
        return item

    frames = [draw_xray(12, seed=seed) for seed in range(2)]
    own = {
        "SharedFunctionalGroupsSequence": Sequence([group(RescaleSlope="2", RescaleIntercept="-50")]),
        "PerFrameFunctionalGroupsSequence": Sequence(
            [group(WindowCenter="1", WindowWidth="9"), group(WindowCenter="4000", WindowWidth="3000")]
        ),
        "RepresentativeFrameNumber": 2,
    }
    plain = {"WindowCenter": "4000", "WindowWidth": "3000", "RescaleSlope": "2", "RescaleIntercept": "-50"}
    many = decode_dicom(write_dicom(frames, bits=12, extra=own))
    np.testing.assert_array_equal(many, decode_dicom(write_dicom(frames[1], bits=12, extra=plain)))


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big"])
def test_a_bare_object_reads_like_the_file(syntax):
    file = write_dicom(draw_xray(12), bits=12, syntax=syntax, extra=WINDOW)
    assert looks_like_dicom(strip_meta(file))
    np.testing.assert_array_equal(decode_dicom(strip_meta(file)), decode_dicom(file))
    np.testing.assert_array_equal(decode_dicom(file[128 + 4 :]), decode_dicom(file))  # no preamble


def test_bits_beside_the_stored_ones_are_not_pixels():
    stored = draw_xray(12)
    file = write_dicom(stored, bits=12)
    overlaid = write_dicom(stored | 0xA000, bits=12)
    np.testing.assert_array_equal(decode_dicom(overlaid), decode_dicom(file))
    shifted = write_dicom(stored << 4, bits=12, extra={"HighBit": 15})
    np.testing.assert_array_equal(decode_dicom(shifted), decode_dicom(file))


@lru_cache(maxsize=1)
def bundled_images() -> list[Path]:
    """Every image that pydicom brings and that the rule covers."""
    found = []
    for path in sorted([*BUNDLED.glob("*.dcm"), *BUNDLED.glob("dicomdirtests/*/*/*")]):
        if path.is_dir():
            continue
        try:
            decode_dicom(path.read_bytes())
        except ImageError:
            continue
        found.append(path)
    return found


def test_pydicom_brings_many_images_that_decode():
    assert len(bundled_images()) >= 70


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", bundled_images(), ids=lambda path: path.name)
def test_bundled_images_look_as_pydicom_shows_them(path):
    """Within one level for lossless ones: pydicom works in floating point, and rounds down."""
    decoded = decode_dicom(path.read_bytes())
    try:
        shown = shown_by_pydicom(path)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"pydicom has no decoder here: {error}")
    lossy = (decoded.shape[2] == 3 and "jpeg" in path.name.lower()) or "dcmtk" in path.name
    tolerance = 12 if lossy else 1.01  # libjpeg's own ways of spreading chroma
    assert np.abs(decoded - shown).max() <= tolerance


def shown_by_pydicom(path: Path) -> np.ndarray:
    """Gray levels or colors of 0 to 255, in floating point."""
    dataset = pydicom.dcmread(path)
    frame = pixel_array(dataset, index=0)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return (
            apply_color_lut(frame, dataset)
            / (65535 if dataset.RedPaletteColorLookupTableDescriptor[2] == 16 else 255)
            * 255
        )
    if frame.ndim == 3:
        return frame / ((1 << dataset.BitsStored) - 1) * 255.0
    padding = frame == dataset.get("PixelPaddingValue", 1 << 20)
    values = apply_modality_lut(frame, dataset).astype(float)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        low, high = _voi_range(dataset, values)
        values = apply_voi_lut(values, dataset, prefer_lut=True)
    else:
        low, high = values[~padding].min(), values[~padding].max()
    gray = (values - low) / (high - low) * 255
    gray = 255 - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray
    return np.where(padding, 0, gray)[..., None]


def _voi_range(dataset: pydicom.Dataset, values: np.ndarray) -> tuple[float, float]:
    """The range that pydicom's windows fill: that of the stored bits, through the rescale."""
    low, high = (-(1 << dataset.BitsStored - 1), (1 << dataset.BitsStored - 1) - 1)
    if not dataset.PixelRepresentation:
        low, high = 0, (1 << dataset.BitsStored) - 1
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def test_12_bit_extended_jpeg_has_the_values_that_its_makers_state():
    found = parse_file((BUNDLED / "JPGExtended.dcm").read_bytes())
    stored, form = read_frame(found.stream, found.pixels, read_format(found.attributes), index=0)
    assert (stored[420, 140], stored[230, 120], form.stored) == (244, 95, 12)


def status_of(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        decode_dicom(data)
    return caught.value.status, str(caught.value)


def test_objects_without_pixels_say_what_they_are():
    status, message = status_of((BUNDLED / "reportsi.dcm").read_bytes())
    assert status == "unsupported"
    assert "holds no pixels: it is Basic Text SR Storage" in message


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("rtdose.dcm", "unsupported"),  # 32 bits
        ("liver_1frame.dcm", "unsupported"),  # 1 bit
        ("MR_truncated.dcm", "truncated"),
        ("waveform_ecg.dcm", "unsupported"),
        ("badVR.dcm", "malformed"),
    ],
)
def test_bundled_files_without_a_picture_of_8_to_16_bits(name, status):
    assert status_of((BUNDLED / name).read_bytes())[0] == status


def test_floating_point_pixels_and_videos_are_unsupported():
    found = pydicom.dcmread(BUNDLED / "MR_small.dcm")
    found.FloatPixelData = b"\0" * 64 * 64 * 4
    del found.PixelData
    out = io.BytesIO()
    found.save_as(out)
    assert status_of(out.getvalue()) == (
        "unsupported",
        "Its pixels are floating-point numbers; only whole numbers are read.",
    )
    video = write_dicom(draw_xray(8), bits=8, syntax="jpeg baseline")
    video = video.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.55")
    assert status_of(video) == (
        "unsupported",
        "Its transfer syntax, 1.2.840.10008.1.2.4.55, is not one of still images.",
    )


@pytest.mark.parametrize("package", ["pydicom", "imagecodecs"])
def test_without_the_extra_the_status_names_the_command(monkeypatch, package):
    file = write_dicom(draw_xray(12), bits=12, syntax="jpeg-ls")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    status, message = status_of(file)
    assert status == "unsupported"
    assert "pip install 'wetread[dicom]'" in message
    assert package in message


def test_nothing_of_the_patient_is_ever_said(recwarn, caplog, capfd):
    """Whatever is wrong with a file, no message, warning or log line quotes it."""
    file = write_dicom(draw_xray(12), bits=12, extra=WINDOW).replace(b"ISO_IR 192", b"NO_SUCH_19")
    messages = []
    random = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(file)
        at = random.integers(0, 900)
        damaged[at] ^= 1 << int(random.integers(8))
        try:
            decode_dicom(bytes(damaged[: random.integers(300, len(file))]))
        except ImageError as error:
            assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
            messages.append(str(error))
    said = (
        " ".join(messages)
        + caplog.text
        + "".join(capfd.readouterr())
        + " ".join(str(w.message) for w in recwarn)
    )
    assert messages
    assert "Doe" not in said
    assert "Secret" not in said
    assert "SECRET" not in said


def test_warnings_of_pydicom_do_not_reach_the_user():
    file = write_dicom(draw_xray(12), bits=12).replace(b"ISO_IR 192", b"NO_SUCH_19")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_dicom(file)
    whole = decode_dicom(write_dicom(draw_xray(12), bits=12))
    np.testing.assert_array_equal(found, whole)
