"""Drawn X-rays as DICOM files: every transfer syntax, bit depth and photometric interpretation."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from wetread.runtime.images.dicom import open_picture

NATIVE = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
}
LOSSLESS = {
    "rle": uid.RLELossless,
    "jpeg lossless": uid.JPEGLossless,
    "jpeg lossless sv1": uid.JPEGLosslessSV1,
    "jpeg-ls": uid.JPEGLSLossless,
    "jpeg 2000 lossless": uid.JPEG2000Lossless,
    "htj2k": uid.HTJ2KLossless,
}
LOSSY = {
    "jpeg baseline": uid.JPEGBaseline8Bit,
    "jpeg extended": uid.JPEGExtended12Bit,
    "jpeg-ls near": uid.JPEGLSNearLossless,
    "jpeg 2000": uid.JPEG2000,
}
SYNTAXES = NATIVE | LOSSLESS | LOSSY


def draw_xray(bits: int, *, shape: tuple[int, int] = (52, 47), signed: bool = False, seed: int = 0) -> Any:
    """Stored values of a made-up chest: smooth, noisy, and using all of the bits."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    lungs = np.exp(-((x - 0.3) ** 2 + (y - 0.5) ** 2) * 20) + np.exp(-((x - 0.7) ** 2 + (y - 0.5) ** 2) * 20)
    values = lungs + 0.3 * y + random.normal(0, 0.02, shape)
    values = (values - values.min()) / (values.max() - values.min()) * ((1 << bits) - 1)
    whole = np.rint(values).astype(np.int64) - (1 << bits - 1 if signed else 0)
    return whole.astype(
        (np.int8 if signed else np.uint8) if bits <= 8 else (np.int16 if signed else np.uint16)
    )


def write_dicom(
    frames: NDArray[Any] | list[NDArray[Any]],
    *,
    bits: int,
    syntax: str = "explicit",
    photometric: str = "MONOCHROME2",
    planar: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The bytes of a DICOM file of one frame, or of several, (H, W) or (H, W, 3)."""
    frames = frames if isinstance(frames, list) else [frames]
    first = frames[0]
    found = make_object(first, bits=bits, photometric=photometric)
    found.PlanarConfiguration = planar if first.ndim == 3 else None
    if first.ndim == 2:
        del found.PlanarConfiguration
    if len(frames) > 1:
        found.NumberOfFrames = len(frames)
    for name, value in (extra or {}).items():
        setattr(found, name, value)
    target = SYNTAXES[syntax]
    if syntax in NATIVE:
        order = ">" if syntax == "big" else "<"
        data = b"".join(
            _plain(frame, planar).astype(frame.dtype.newbyteorder(order)).tobytes() for frame in frames
        )
        found.PixelData = data + b"\0" * (len(data) % 2)
        found["PixelData"].VR = "OB" if first.dtype.itemsize == 1 else "OW"
    else:
        found.PixelData = encapsulate([compress(frame, bits=bits, syntax=syntax) for frame in frames])
        found["PixelData"].VR = "OB"
    return save(found, target)


def make_object(frame: NDArray[Any], *, bits: int, photometric: str) -> Dataset:
    """A digital X-ray of a made-up patient, without its pixels."""
    found = Dataset()
    found.SpecificCharacterSet = "ISO_IR 192"
    found.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    found.SOPInstanceUID = "1.2.3.4.5"
    found.StudyDate = "20260102"
    found.Modality = "DX"
    found.PatientName = "Doe^Secret"
    found.PatientID = "SECRET-42"
    found.Rows, found.Columns = frame.shape[:2]
    found.SamplesPerPixel = 3 if frame.ndim == 3 else 1
    found.PhotometricInterpretation = photometric
    found.BitsAllocated = frame.dtype.itemsize * 8
    found.BitsStored, found.HighBit = bits, bits - 1
    found.PixelRepresentation = 1 if frame.dtype.kind == "i" else 0
    return found


def save(found: Dataset, target: uid.UID) -> bytes:
    """Write an object as a file, with its meta information and preamble."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = target
    meta.MediaStorageSOPClassUID = found.SOPClassUID
    meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    file = FileDataset("", found, preamble=b"\0" * 128, file_meta=meta)
    file.set_original_encoding(target.is_implicit_VR, target.is_little_endian)
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _plain(frame: NDArray[Any], planar: int) -> NDArray[Any]:
    return np.ascontiguousarray(frame.transpose(2, 0, 1)) if planar and frame.ndim == 3 else frame


def compress(frame: NDArray[Any], *, bits: int, syntax: str) -> bytes:
    """One frame's codestream. Signed values go in as the bits that they are stored as."""
    unsigned = (frame.astype(np.int64) & (1 << bits) - 1).astype(f"u{frame.dtype.itemsize}")
    if syntax == "rle":
        return _compress_rle(frame)
    if syntax == "jpeg baseline":
        color = "GRAY" if frame.ndim == 2 else "RGB"
        pixels = unsigned[..., None] if frame.ndim == 2 else unsigned
        return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95, colorspace=color)
    if syntax == "jpeg extended":
        return imagecodecs.jpeg8_encode(unsigned, level=95, bitspersample=bits)
    if syntax.startswith("jpeg lossless"):
        predictor = 1 if syntax.endswith("sv1") else 4
        return imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=predictor, bitspersample=bits)
    if syntax.startswith("jpeg-ls"):
        return _compress_jpegls(unsigned, bits=bits, error=3 if syntax.endswith("near") else 0)
    if syntax == "htj2k":
        return imagecodecs.htj2k_encode(frame)
    reversible = syntax.endswith("lossless")
    return imagecodecs.jpeg2k_encode(
        frame, codecformat="j2k", reversible=reversible, level=0 if reversible else 45, bitspersample=bits
    )


def _compress_jpegls(frame: NDArray[Any], *, bits: int, error: int) -> bytes:
    """By pyjpegls, which states the precision; where it is missing, by what wetread decodes with."""
    try:
        import jpeg_ls
    except ImportError:
        return imagecodecs.jpegls_encode(frame, level=error)
    rows, columns, samples = (*frame.shape, 1)[:3]
    mode = 2 if samples > 1 else 0
    return bytes(
        jpeg_ls.encode_buffer(
            frame.tobytes(), rows, columns, samples, bits, lossy_error=error, interleave_mode=mode
        )
    )


def _compress_rle(frame: NDArray[Any]) -> bytes:
    """RLE Lossless from literal runs alone: right by eye, and no copy of the decoder's thinking."""
    planes = frame.reshape(*frame.shape[:2], -1)
    segments = []
    for sample in range(planes.shape[2]):
        samples = np.ascontiguousarray(planes[..., sample]).astype(frame.dtype.newbyteorder(">"))
        octets = samples.view(np.uint8).reshape(-1, frame.dtype.itemsize)
        for octet in range(frame.dtype.itemsize):
            data = octets[:, octet].tobytes()
            runs = [data[at : at + 128] for at in range(0, len(data), 128)]
            segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
            segments.append(segment + b"\0" * (len(segment) % 2))
    starts = [64 + sum(map(len, segments[:k])) for k in range(len(segments))]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(starts))) + b"".join(segments)


def decode_dicom(file: bytes) -> NDArray[np.uint8]:
    """The levels or colors of a DICOM file, before anything is scaled."""
    return open_picture(file).decode()


def inflate(file: bytes) -> tuple[bytes, bytes]:
    """A deflated file's meta information and its inflated object."""
    length = struct.unpack_from("<I", file, 140)[0]
    start = 144 + length
    return file[:start], zlib.decompress(file[start:], -zlib.MAX_WBITS)


def strip_meta(file: bytes) -> bytes:
    """The bare object of a file: no preamble, no meta information."""
    return file[144 + struct.unpack_from("<I", file, 140)[0] :]
