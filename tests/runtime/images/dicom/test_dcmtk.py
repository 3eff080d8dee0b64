"""Streams that dcmtk and gdcm encode give the pixels that dcmtk decodes, and cuts of them are found."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames

from tests.runtime.images.dicom.drawing import decode_dicom, draw_xray, write_dicom
from wetread.errors import ImageError

END = b"\xff\xd9"
needs_dcmtk = pytest.mark.skipif(
    shutil.which("dcmcjpeg") is None, reason="no dcmtk: its encoder dcmcjpeg is not on the PATH"
)
# Options of an encoder, and the decoder that judges.
ENCODERS = {
    **{
        f"predictor {number}": (
            ["dcmcjpeg", "--encode-lossless", "--selection-value", str(number)],
            "dcmdjpeg",
        )
        for number in range(1, 8)
    },
    "sv1": (["dcmcjpeg", "--encode-lossless-sv1"], "dcmdjpeg"),
    "jpeg-ls": (["dcmcjpls", "--encode-lossless"], "dcmdjpls"),
    "near-lossless": (["dcmcjpls", "--encode-nearlossless"], "dcmdjpls"),
    "rle": (["dcmcrle"], "dcmdrle"),
}


def run(place: Path, data: bytes, *command: str) -> bytes:
    """What one of dcmtk's programs makes of a file."""
    (place / "in.dcm").write_bytes(data)
    subprocess.run(
        [*command, place / "in.dcm", place / "out.dcm"], check=True, timeout=60, capture_output=True
    )
    return (place / "out.dcm").read_bytes()


def read_codestream(data: bytes) -> bytes:
    (frame,) = generate_frames(pydicom.dcmread(io.BytesIO(data)).PixelData, number_of_frames=1)
    return frame


def replace_codestream(data: bytes, codestream: bytes) -> bytes:
    """The file with another codestream: whole, its lengths right, padded to an even length."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def encode_by_gdcm(data: bytes, place: Path, *, predictor: int) -> bytes:
    """What gdcm's own encoder makes of a plain file: lossless JPEG."""
    gdcm = pytest.importorskip("gdcm")
    source, target = place / "plain.dcm", place / "gdcm.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    codec = gdcm.JPEGCodec()
    codec.SetLossless(True)
    change = gdcm.ImageChangeTransferSyntax()
    kind = (
        gdcm.TransferSyntax.JPEGLosslessProcess14_1
        if predictor == 1
        else gdcm.TransferSyntax.JPEGLosslessProcess14
    )
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(target))
    assert writer.Write()
    return target.read_bytes()


@needs_dcmtk
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("bits", [8, *range(9, 17)])
def test_what_dcmtk_encodes_is_what_dcmtk_decodes(encoder, bits, tmp_path):
    command, decoder = ENCODERS[encoder]
    for seed in range(2):  # some of them odd, some even
        plain = write_dicom(draw_xray(bits, seed=seed), bits=bits)
        packed = run(tmp_path, plain, *command)
        found = decode_dicom(packed)
        np.testing.assert_array_equal(found, decode_dicom(run(tmp_path, packed, decoder)))
        if encoder != "near-lossless":
            np.testing.assert_array_equal(found, decode_dicom(plain))


@pytest.mark.parametrize("bits", range(9, 17))
@pytest.mark.parametrize("predictor", [1, 14])
def test_what_gdcm_encodes_is_read_exactly(bits, predictor, tmp_path):
    for seed in range(2):
        plain = write_dicom(draw_xray(bits, seed=seed), bits=bits)
        packed = encode_by_gdcm(plain, tmp_path, predictor=predictor)
        np.testing.assert_array_equal(decode_dicom(packed), decode_dicom(plain))


@needs_dcmtk
def test_dcmtk_pads_with_fill_bytes(tmp_path):
    padded = 0
    for seed in range(12):
        plain = write_dicom(draw_xray(12, seed=seed), bits=12)
        data = run(tmp_path, plain, "dcmcjpeg", "--encode-lossless-sv1")
        padded += data[data.rindex(END) - 1] == 0xFF
        np.testing.assert_array_equal(decode_dicom(data), decode_dicom(plain))
    assert padded


def test_the_known_files_are_what_dcmtk_decodes(known_cases, tmp_path):
    """Two pictures, each by both processes, one of them padded and the other not."""
    found = {path.stem: decode_dicom(path.read_bytes()) for path in known_cases("dicom").glob("*-p*.dcm")}
    assert len(found) == 6
    np.testing.assert_array_equal(found["lossless-padded"], found["lossless-sv1-plain"])
    np.testing.assert_array_equal(found["lossless-plain"], found["lossless-sv1-padded"])
    if shutil.which("dcmdjpeg"):
        for name, pixels in found.items():
            judged = decode_dicom(
                run(tmp_path, (known_cases("dicom") / f"{name}.dcm").read_bytes(), "dcmdjpeg")
            )
            np.testing.assert_array_equal(pixels, judged)


@pytest.fixture(scope="module")
def lossless(tmp_path_factory) -> list[bytes]:
    """Lossless JPEG of 9 to 16 bits by both encoders and both processes, padded and not."""
    place = tmp_path_factory.mktemp("lossless")
    files = []
    for bits in range(9, 17):
        plain = write_dicom(draw_xray(bits, shape=(26, 23), seed=bits), bits=bits)
        if shutil.which("dcmcjpeg"):
            files += [run(place, plain, *ENCODERS[name][0]) for name in ("predictor 6", "sv1")]
        files += [encode_by_gdcm(plain, place, predictor=number) for number in (1, 14)]
    return files


def check_cut(data: bytes, cut: int, tail: bytes) -> None:
    """A cut codestream in a whole file has a status; or what was cut was padding: the pixels are the same."""
    whole = read_codestream(data)
    try:
        found = decode_dicom(replace_codestream(data, whole[:cut] + tail))
    except ImageError as error:
        assert error.status in ("truncated", "malformed")
        return
    np.testing.assert_array_equal(found, decode_dicom(data))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_cut_of_lossless_jpeg_is_found(lossless, data):
    file = data.draw(st.sampled_from(lossless))
    cut = data.draw(st.integers(2, len(read_codestream(file)) - 1))
    check_cut(file, cut, data.draw(st.sampled_from([b"", END, b"\xff" + END, b"\xff\xff" + END])))


@pytest.mark.long
def test_every_cut_of_lossless_jpeg_is_found_at_every_byte(lossless):
    for file in lossless:
        for cut in range(2, len(read_codestream(file))):
            for tail in (b"", END, b"\xff" + END):
                check_cut(file, cut, tail)
