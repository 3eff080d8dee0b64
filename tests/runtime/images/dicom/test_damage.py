"""Cut, repaired, lying and corrupt DICOM: a status each time, never a wrong picture."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.runtime.images.dicom.drawing import (
    LOSSLESS,
    LOSSY,
    SYNTAXES,
    compress,
    decode_dicom,
    draw_xray,
    make_object,
    save,
    write_dicom,
)
from wetread.errors import ImageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

BITS = {"jpeg baseline": 8}
ENCAPSULATED = [*LOSSLESS, *LOSSY]


def bits_of(syntax: str) -> int:
    return BITS.get(syntax, 12)


def status_of(data: bytes) -> str:
    try:
        decode_dicom(data)
    except ImageError as error:
        assert "A fault of wetread" not in str(error)  # which scoring would take for one bad file
        return error.status
    return "ok"


def encapsulated(codestream: bytes, syntax: str, shape: tuple[int, int] = (52, 47)) -> bytes:
    """A whole file around a codestream, whatever that is."""
    bits = bits_of(syntax)
    found = make_object(draw_xray(bits, shape=shape), bits=bits, photometric="MONOCHROME2")
    found.PixelData = encapsulate([codestream])
    found["PixelData"].VR = "OB"
    return save(found, SYNTAXES[syntax])


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_cut_file_is_found(syntax):
    file = write_dicom(draw_xray(bits_of(syntax)), bits=bits_of(syntax), syntax=syntax)
    cuts = {*range(200, len(file) - 1, max(len(file) // 60, 1)), *range(len(file) - 12, len(file))}
    found = {cut: status_of(file[:cut]) for cut in cuts}
    # What is cut within its last padding byte has lost nothing.
    assert {cut: status for cut, status in found.items() if status == "ok" and cut < len(file) - 1} == {}
    assert set(found.values()) <= {"truncated", "ok"}


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_cut_codestream_in_a_whole_file_is_found_even_with_an_end_marker(syntax):
    whole = compress(draw_xray(bits_of(syntax)), bits=bits_of(syntax), syntax=syntax)
    assert status_of(encapsulated(whole, syntax)) == "ok"
    for cut in range(40, len(whole) - 20, max((len(whole) - 60) // 25, 1)):
        for tail in (b"", b"\xff\xd9"):
            assert status_of(encapsulated(whole[:cut] + tail, syntax)) == "truncated", (cut, tail)


def test_restart_markers_are_counted():
    """Between them a decoder makes up what is missing whatever follows, so a cut there leaves no trace."""
    imagecodecs = pytest.importorskip("imagecodecs")
    stored = draw_xray(12)
    whole = imagecodecs.jpeg8_encode(stored, level=95, bitspersample=12)
    start = whole.index(b"\xff\xda")
    one_row = b"\xff\xdd\x00\x04" + struct.pack(">H", -(-stored.shape[1] // 8))
    assert status_of(encapsulated(whole[:start] + one_row + whole[start:], "jpeg extended")) == "truncated"


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_frame_of_another_size_is_found_before_it_is_decoded(syntax):
    other = compress(draw_xray(bits_of(syntax), shape=(60, 40)), bits=bits_of(syntax), syntax=syntax)
    assert status_of(encapsulated(other, syntax)) == ("truncated" if syntax == "rle" else "malformed")


def test_a_lie_about_the_size_costs_no_memory():
    for name, value in (("Rows", 17_000), ("Columns", 17_000)):
        huge = write_dicom(draw_xray(12), bits=12, extra={name: value})
        assert status_of(huge) == "malformed"
    huge = write_dicom(draw_xray(12), bits=12, extra={"Rows": 60_000, "Columns": 60_000})
    with pytest.raises(ImageError, match="--max-memory") as caught:
        read_pixels(huge, PixelRecipe())
    assert caught.value.status == "too_large"


@pytest.mark.parametrize(
    "extra",
    [
        {"BitsStored": 14},  # more than the high bit allows
        {"HighBit": 16},
        {"SamplesPerPixel": 3},
        {"Rows": 0},
        {"Rows": [52, 0]},
        {"RescaleSlope": "0"},
        {"WindowCenter": "40", "RescaleSlope": "0.0"},
    ],
)
def test_contradictions_are_malformed(extra):
    assert status_of(write_dicom(draw_xray(12), bits=12, extra=extra)) == "malformed"


@pytest.mark.parametrize("extra", [{"PhotometricInterpretation": "CMYK"}, {"VOILUTFunction": "ODD"}])
def test_what_the_rule_does_not_cover_is_unsupported(extra):
    window = {"WindowCenter": "1", "WindowWidth": "5"}
    assert status_of(write_dicom(draw_xray(12), bits=12, extra=window | extra)) == "unsupported"


def test_a_presentation_lookup_table_is_refused():
    """It may make the negative of what the rule gives, and dcmtk's dcm2pnm passes over it as well."""
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 12], np.arange(4096, dtype="<u2")[::-1].tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    file = write_dicom(draw_xray(12), bits=12, extra={"PresentationLUTSequence": [item]})
    with pytest.raises(ImageError, match="Presentation LUT Sequence") as caught:
        decode_dicom(file)
    assert caught.value.status == "unsupported"


@pytest.mark.parametrize("change", ["no length", "no fragments", "several frames"])
def test_pixel_data_that_are_whole_and_do_not_fit_are_malformed(change):
    if change == "no length":
        file = bytearray(write_dicom(draw_xray(8), bits=8))
        at = file.index(b"\xe0\x7f\x10\x00OB\0\0") + 8
        file[at : at + 4] = b"\xff" * 4
        assert status_of(bytes(file)) == "malformed"
    elif change == "no fragments":
        found = make_object(draw_xray(8), bits=8, photometric="MONOCHROME2")
        found.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        found["PixelData"].VR = "OB"
        found["PixelData"].is_undefined_length = True
        assert status_of(save(found, SYNTAXES["rle"])) == "malformed"
    else:
        frames = [draw_xray(8, seed=seed) for seed in range(3)]
        assert status_of(write_dicom(frames, bits=8, extra={"NumberOfFrames": 1})) == "malformed"


def test_an_rle_frame_of_other_segments_or_of_more_pixels_is_found():
    whole = compress(draw_xray(12), bits=12, syntax="rle")
    assert status_of(encapsulated(struct.pack("<I", 3) + whole[4:], "rle")) == "malformed"
    longer = whole + b"\x03" + b"abcd" + b"\0"
    assert status_of(encapsulated(longer, "rle")) == "truncated"
    assert status_of(encapsulated(whole + b"\0\0\0\0", "rle")) == "ok"


@pytest.mark.parametrize("text", [b"1e9999", b"nan   ", b"0x10  ", b"1/3   ", b"one   ", b"1,2345"])
def test_numbers_that_are_none_are_malformed(text):
    file = write_dicom(draw_xray(12), bits=12, extra={"RescaleSlope": "1.2345"})
    assert status_of(file.replace(b"1.2345", text)) == "malformed"


def mutate(file: bytes, random: np.random.Generator) -> bytes:
    """Flip bytes, cut, repeat or cross what is there."""
    damaged = bytearray(file)
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(128, len(damaged)))
        match random.integers(4):
            case 0:
                damaged[at] ^= 1 << int(random.integers(8))
            case 1:
                damaged[at : at + 4] = random.bytes(4)
            case 2:
                del damaged[at : at + int(random.integers(1, 40))]
            case _:
                damaged[at:at] = damaged[at : at + int(random.integers(1, 40))]
    return bytes(damaged)


def run_campaign(count: int) -> dict[str, int]:
    random = np.random.default_rng(0)
    files = [write_dicom(draw_xray(bits_of(s)), bits=bits_of(s), syntax=s) for s in SYNTAXES]
    found: dict[str, int] = {}
    for index in range(count):
        status = status_of(mutate(files[index % len(files)], random))
        found[status] = found.get(status, 0) + 1
    return found


def test_corrupt_files_never_crash(capfd):
    found = run_campaign(390)
    assert set(found) <= {"ok", "truncated", "malformed", "unsupported", "too_large", "not_an_image"}
    assert found["truncated"] > 50
    assert capfd.readouterr() == ("", "")  # nor does a C library print


@pytest.mark.long
def test_many_corrupt_files_never_crash(capfd):
    found = run_campaign(20_000)
    assert set(found) <= {"ok", "truncated", "malformed", "unsupported", "too_large", "not_an_image"}
    assert capfd.readouterr() == ("", "")


FILLED = [name for name in ENCAPSULATED if name.startswith("jpeg ") and "2000" not in name]


@pytest.mark.parametrize("fill", [1, 2, 5])
@pytest.mark.parametrize("syntax", FILLED)
def test_fill_bytes_before_the_end_marker_change_nothing(syntax, fill):
    """dcmtk pads odd JPEG streams so (T.81, B.1.1.2 allows it)."""
    plain = compress(draw_xray(bits_of(syntax)), bits=bits_of(syntax), syntax=syntax)
    padded = plain[: plain.rindex(b"\xff\xd9")] + b"\xff" * fill + b"\xff\xd9"
    expected = decode_dicom(encapsulated(plain, syntax))
    np.testing.assert_array_equal(decode_dicom(encapsulated(padded, syntax)), expected)


@pytest.mark.parametrize("syntax", FILLED)
def test_a_cut_frame_is_found_behind_fill_bytes(syntax):
    plain = compress(draw_xray(bits_of(syntax)), bits=bits_of(syntax), syntax=syntax)
    start = plain.rindex(b"\xff\xda") + 16
    for cut in range(start, len(plain) - 8, 7):
        repaired = plain[:cut].rstrip(b"\xff") + b"\xff\xff\xff\xd9"
        assert status_of(encapsulated(repaired, syntax)) == "truncated", cut


@pytest.mark.parametrize(
    "photometric, shape, status",
    [
        ("MONOCHROME2", "INVERSE", "unsupported"),
        ("MONOCHROME1", "IDENTITY", "unsupported"),
        ("MONOCHROME2", "IDENTITY", "ok"),
        ("MONOCHROME1", "INVERSE", "ok"),
        ("MONOCHROME2", "", "ok"),
    ],
)
def test_contradictory_polarity_is_never_silently_one_of_the_two(photometric, shape, status):
    extra = {"PresentationLUTShape": shape}
    data = write_dicom(draw_xray(12), bits=12, photometric=photometric, extra=extra)
    assert status_of(data) == status
    if status != "ok":
        with pytest.raises(ImageError, match="contradict") as caught:
            decode_dicom(data)
        assert photometric in str(caught.value) and shape in str(caught.value)


def test_the_known_cases(known_cases):
    """Files of the kinds that people reported of other tools."""
    folder = known_cases("dicom")
    found = {path.name: status_of(path.read_bytes()) for path in sorted(folder.glob("*.dcm"))}
    contradictory = {"monochrome1-identity.dcm", "monochrome2-inverse.dcm"}
    assert found == {name: "unsupported" if name in contradictory else "ok" for name in found}
    assert set(found) > contradictory
