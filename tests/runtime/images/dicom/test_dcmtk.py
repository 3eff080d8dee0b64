"""Streams that dcmtk's encoder writes, padded where their length is odd, give the original's pixels."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from tests.runtime.images.dicom.drawing import decode_dicom, draw_xray, write_dicom

pytestmark = pytest.mark.skipif(
    shutil.which("dcmcjpeg") is None, reason="no dcmtk: its encoder dcmcjpeg is not on the PATH"
)


@pytest.mark.parametrize("process", ["--encode-lossless", "--encode-lossless-sv1"])
@pytest.mark.parametrize("bits", range(9, 17))
def test_lossless_jpeg_of_dcmtk_is_read_exactly(process, bits, tmp_path):
    for seed in range(4):  # some of them odd, some even
        plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
        plain.write_bytes(write_dicom(draw_xray(bits, seed=seed), bits=bits))
        subprocess.run(["dcmcjpeg", process, plain, packed], check=True, timeout=60)
        data = packed.read_bytes()
        np.testing.assert_array_equal(decode_dicom(data), decode_dicom(plain.read_bytes()))


def test_dcmtk_pads_with_fill_bytes(tmp_path):
    padded = 0
    for seed in range(12):
        plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
        plain.write_bytes(write_dicom(draw_xray(12, seed=seed), bits=12))
        subprocess.run(["dcmcjpeg", "--encode-lossless-sv1", plain, packed], check=True, timeout=60)
        data = packed.read_bytes()
        padded += data[data.rindex(b"\xff\xd9") - 1] == 0xFF
        np.testing.assert_array_equal(decode_dicom(data), decode_dicom(plain.read_bytes()))
    assert padded
