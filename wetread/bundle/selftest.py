"""The installer's self-test: three drawn images and their scores here, to compare on the target machine."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wetread.errors import SetupError, Status
from wetread.runtime.model.golden_inputs import draw_image
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.rows import encode_header, encode_rows

# How far a probability on another processor may be from the recorded one.
TOLERANCE = 0.001


def draw_pictures(*, with_dicom: bool) -> dict[str, bytes]:
    """Draw a JPEG, a 12-bit PNG, and a 12-bit DICOM file (without the extra: a color PNG)."""
    gray = draw_image(101, shape=(300, 260, 1))
    deep = draw_image(102, shape=(280, 340, 1)).astype(np.uint16) * 16 + 7
    pictures = {
        "1.jpg": simplejpeg.encode_jpeg(gray, quality=92, colorspace="GRAY"),
        "2.png": _encode_png(deep),
    }
    if with_dicom:
        return pictures | {"3.dcm": encode_dicom(4095 - deep[..., 0])}
    return pictures | {"3.png": _encode_png(draw_image(103, shape=(310, 290, 3)))}


def _encode_png(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise SetupError("OpenCV cannot write a PNG. Install opencv-python-headless again.")
    return bytes(data.tobytes())


def encode_dicom(stored: NDArray[np.uint16]) -> bytes:
    """Write 12-bit values (H, W) as a DICOM file: MONOCHROME1, explicit little endian, one window."""
    rows, columns = stored.shape
    image_class = b"1.2.840.10008.5.1.4.1.1.7"
    meta = _element(2, 2, b"UI", image_class) + _element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    body = b"".join(
        (
            _element(8, 0x16, b"UI", image_class),
            _element(0x28, 2, b"US", struct.pack("<H", 1)),
            _element(0x28, 4, b"CS", b"MONOCHROME1"),
            _element(0x28, 0x10, b"US", struct.pack("<H", rows)),
            _element(0x28, 0x11, b"US", struct.pack("<H", columns)),
            *(_element(0x28, 0x100 + k, b"US", struct.pack("<H", n)) for k, n in enumerate((16, 12, 11, 0))),
            _element(0x28, 0x1050, b"DS", b"2048"),
            _element(0x28, 0x1051, b"DS", b"3500"),
        )
    )
    pixels = stored.astype("<u2").tobytes()
    body += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(pixels)) + pixels
    length = _element(2, 0, b"UL", struct.pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + length + meta + body


def _element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    value += (b"\0" if kind == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value


def score_pictures(model: Path, pictures: dict[str, bytes]) -> bytes:
    """Score the images here. Returns CSV with file names only. Raises SetupError for one without a score."""
    classifier = Classifier(model, device="cpu")
    with TemporaryDirectory() as folder:
        for name, data in pictures.items():
            Path(folder, name).write_bytes(data)
        rows = sorted(classifier.score(folder), key=lambda row: row.path)
    for row in rows:
        if row.status != Status.OK:
            raise SetupError(
                f"An image of the self-test has no score, but the status {row.status}: {row.error}"
            )
    bare = [replace(row, path=Path(row.path).name) for row in rows]
    labels = classifier.spec.labels
    return encode_header(labels, kind="csv") + encode_rows(bare, labels, kind="csv")
