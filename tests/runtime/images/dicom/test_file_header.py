from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tests.runtime.images.dicom.drawing import (
    NATIVE,
    decode_dicom,
    draw_xray,
    inflate,
    strip_meta,
    write_dicom,
)
from wetread.errors import ImageError
from wetread.runtime.images.dicom import looks_like_dicom
from wetread.runtime.images.dicom.file_header import read_element, read_stream

STORED = draw_xray(12, shape=(20, 30))


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_stream_says_how_it_is_written(syntax):
    file = write_dicom(STORED, bits=12, syntax=syntax)
    found = read_stream(file)
    assert (found.syntax, found.implicit, found.little) == (
        NATIVE[syntax],
        syntax == "implicit",
        syntax != "big",
    )
    assert found.sop_class == "1.2.840.10008.5.1.4.1.1.1.1"
    assert found.body == (inflate(file)[1] if syntax == "deflated" else strip_meta(file))


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big"])
def test_a_bare_object_is_found_by_content(syntax):
    bare = strip_meta(write_dicom(STORED, bits=12, syntax=syntax))
    assert looks_like_dicom(bare)
    found = read_stream(bare)
    assert (found.syntax, found.implicit, found.little) == (
        NATIVE[syntax],
        syntax == "implicit",
        syntax != "big",
    )
    assert found.body == bare


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DICM",
        b"\x08\x00",
        b"\0" * 200,
        b"\x89PNG\r\n\x1a\n" + b"\0" * 200,
        b"\x08\x00\x05\x00CS\x00\x00" + b"plain text after one good element" * 5,
        bytes(range(256)),
        b"\x08\x00\x05\x00\x04\x00\x00\x00abcd" + b"\xff" * 90,
    ],
)
def test_other_bytes_are_no_dicom(data):
    assert not looks_like_dicom(data)


def test_random_bytes_are_no_dicom():
    random = np.random.default_rng(5)
    assert not any(looks_like_dicom(random.bytes(300)) for _ in range(2000))


def test_a_deflated_object_inflates_within_a_bound():
    file = write_dicom(STORED, bits=12, syntax="deflated")
    with pytest.raises(ImageError) as caught:
        read_stream(file, max_memory=1000)
    assert caught.value.status == "too_large"


def test_a_bomb_costs_no_more_than_the_bound():
    meta, _ = inflate(write_dicom(STORED, bits=12, syntax="deflated"))
    bomb = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    with pytest.raises(ImageError, match="2 MiB are allowed. Raise --max-memory"):
        read_stream(meta + bomb.compress(b"\0" * (64 << 20)) + bomb.flush(), max_memory=2 << 20)


def test_headers_of_elements():
    explicit = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2) + b"\1\2"
    assert read_element(explicit, 0, implicit=False, little=True).end == 10
    long = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 6)
    found = read_element(long, 0, implicit=False, little=True)
    assert (found.tag, found.kind, found.start, found.length) == (0x7FE00010, b"OW", 12, 6)
    with pytest.raises(ImageError, match="ends inside an element"):
        read_element(explicit[:5], 0, implicit=False, little=True)


def test_a_file_that_says_nothing_of_itself_is_damage():
    with pytest.raises(ImageError, match="nothing says how it is written"):
        decode_dicom(b"\0" * 128 + b"DICM")
