"""Repair JPEG markers that make libjpeg warn although they do not affect the image, with a proof.

Strict decoding raises at every warning, and some warnings are only about a version number, or about stray
bytes. Only after such a warning is the file repaired here, in a copy. Its markers are written again, and
bytes between its coded data and the next marker are dropped if two things can be shown: the decoder finds
every block without them, but not if one more byte is removed, and they cannot be coded data themselves. The
copy is then decoded as strictly as any file. Nothing is ever decoded leniently.
"""

from __future__ import annotations

import re
from bisect import bisect_left

import simplejpeg

from wetread.errors import ImageError
from wetread.runtime.images.formats.header import malformed, truncated

SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = 0xC2
_APP0, _APP14, _APP15, _COM = 0xE0, 0xEE, 0xEF, 0xFE
# After FF: 00 is a stuffed byte of coded data, FF a fill byte, D0 to D7 are restarts inside coded data.
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_RESTART = re.compile(rb"(\xff[\xd0-\xd7])")
_END = b"\xff\xd9"
_SEQUENTIAL = b"\0\x3f\0"  # all coefficients, to the last bit

_HARMLESS = re.compile(
    "unknown JFIF revision|Unknown Adobe color transform|Invalid SOS parameters|bad ICC marker"
    "|extraneous bytes before|Premature end of JPEG file|two SOI markers"
)
_EXTRANEOUS, _SHORT = "extraneous bytes", "premature end of data segment"
# Data or restart intervals that libjpeg expected and that are missing.
_MISSING = re.compile(f"{_SHORT}|Premature end|marker 0xd9 instead of RST")
# Fill: a run of one byte, or a camera's trailer (a few zeros, then mostly text). Fewer bytes are no evidence.
_LEAST_RUN, _LEAST_TEXT = 4, 8
# A trailer is recognized by its first bytes, and searched for at the end of the coded data.
_TRAILER_BYTES, _REACH = 4096, 64
_TEXT = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
_UNEXPLAINED = "there are bytes between its markers that may belong to its picture"
_MOST_RESTARTS = 1 << 17
# The limit of the proof's cost, in decoded bytes; a pixel counts as a sixteenth.
_BUDGET, _BUDGET_PER_BYTE, _PIXELS_PER_BYTE = 64 << 20, 64, 16


def is_harmless(warning: str) -> bool:
    """Whether a warning of libjpeg may be only about markers."""
    return _HARMLESS.search(warning) is not None


def describe_fault(warning: str) -> ImageError:
    """Make the ImageError for a warning of libjpeg: 'truncated' if coded data or the end are missing."""
    return (truncated if _MISSING.search(warning) else malformed)(warning)


def skip_strays(data: bytes, at: int) -> int:
    """Find the marker after the stray bytes at `at`. Returns its position.

    Raises ImageError('malformed') unless they are one byte repeated: other bytes come from a wrong length.
    """
    found = _MARKER.search(data, at)
    if found is None:
        raise truncated("its header ends early")
    strays = data[at : found.start()].rstrip(b"\xff")
    if strays.strip(strays[:1]):
        raise malformed("its markers are out of step")
    return found.start()


def mend_markers(data: bytes, *, components: int, pixels: int) -> bytes:
    """Write a JPEG again without harmless causes of libjpeg's warnings.

    `components`, `pixels`: from its header. Returns a file to be decoded strictly. Raises ImageError:
    'truncated' if coded data or the end are missing, 'malformed' if bytes may be coded data that are out of
    place.
    """
    pieces, coded, ended = _take_apart(data, components)
    if not coded:
        raise truncated("it ends before its picture")
    proof = _Proof(pieces, components, _BUDGET + _BUDGET_PER_BYTE * len(data), pixels // _PIXELS_PER_BYTE)
    if not ended:
        proof.cut_long(coded[:-1])
        if not proof.cut(coded[-1], unended=True):
            raise truncated("it has no end marker")
    proof.cut_long(coded)
    return b"".join(pieces) + _END


def _take_apart(data: bytes, components: int) -> tuple[list[bytes], list[int], bool]:
    """Split into repaired segments, coded data and restarts; also which are coded data, and if it has an end.

    The start of another file counts as an end marker.
    """
    pieces: list[bytes] = [b"\xff\xd8"]
    coded: list[int] = []
    at, progressive, strays = 2, False, False
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            return pieces, coded, False
        start = skip_strays(data, at)
        strays |= not coded and start > at and data[at] != 0xFF
        marker = data[start + 1]
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker in (SOI, EOI):
            break
        if at > len(data):
            return pieces, coded, False
        progressive |= marker == _PROGRESSIVE
        pieces.append(_mend_segment(data[start:at], components, progressive))
        if marker == SOS:
            found = NEXT_MARKER.search(data, at)
            end = found.start() if found else len(data)
            # Fill bytes belong to the marker; at the end of the file there is none.
            scan = data[at:end].rstrip(b"\xff") if found else data[at:end]
            if scan.count(b"\xff") - scan.count(b"\xff\0") > _MOST_RESTARTS:
                raise malformed(_UNEXPLAINED)
            for piece in _RESTART.split(scan):
                coded += [] if _RESTART.fullmatch(piece) else [len(pieces)]
                pieces.append(piece)
            at = end
    # Strays may come from a wrong length, and lead into a thumbnail: then the image follows the end.
    if strays and b"\xff\xda" in data[start:]:
        raise malformed("its markers are out of step")
    return pieces, coded, True


def _mend_segment(segment: bytes, components: int, progressive: bool) -> bytes:
    """Return a segment without harmless causes of warnings; empty for one that is not needed."""
    marker, body = segment[1], segment[4:]
    if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return segment[:9] + b"\1\2" + segment[11:]
    if marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        # libjpeg's choice for an unknown transform: YCbCr for three components, YCCK for four.
        known = {3: (0, 1), 4: (0, 2)}.get(components, (0,))
        return segment if body[11] in known else segment[:15] + bytes((known[-1],)) + segment[16:]
    if _APP0 <= marker <= _APP15 or marker == _COM:
        return b""
    if marker == SOS and not progressive and _count_flips(segment[-3:], _SEQUENTIAL) != 1:
        return segment[:-3] + _SEQUENTIAL
    return segment


def _count_flips(one: bytes, other: bytes) -> int:
    """Count the bits that differ: if only one does, damage is more likely than a careless writer."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


class _Proof:
    """Decodes the start of a file strictly, closed with an end marker, to see how many bytes it needs.

    `budget`: how many bytes may be decoded; `price`: the cost of one decoding in addition to its bytes.
    """

    def __init__(self, pieces: list[bytes], components: int, budget: int, price: int) -> None:
        self._pieces = pieces
        self._space = "CMYK" if components == 4 else "GRAY"
        self._budget = budget
        self._price = price

    def cut_long(self, coded: list[int]) -> None:
        """Cut bytes that no block needs from all coded data. Raises ImageError unless they are fill.

        Before a restart libjpeg only counts bytes that it has read ahead, and warns about them at the scan's
        end. So the bytes that it warns about may be earlier in the file.
        """
        while coded and self._is_long(coded[-1]):
            first = bisect_left(coded, True, key=self._is_long)
            if not any(self.cut(index) for index in reversed(coded[: first + 1])):
                raise malformed(_UNEXPLAINED)

    def cut(self, index: int, *, unended: bool = False) -> bool:
        """Cut coded data to the bytes that its blocks need. Returns whether there were more.

        Raises ImageError unless the rest is fill. `unended`: no marker follows.
        """
        piece = self._pieces[index]
        if self._is_short(index, len(piece)):
            raise truncated("its picture ends early")
        if _EXTRANEOUS in self._decode(index, 0):
            return False
        end = bisect_left(range(len(piece)), True, key=lambda size: not self._is_short(index, size))
        if end == len(piece):
            return False
        settled = self._is_settled(index, piece[:end])
        if not is_fill(piece[:end], piece[end:], settled=settled):
            raise truncated("it has no end marker") if unended else malformed(_UNEXPLAINED)
        self._pieces[index] = piece[:end]
        return True

    def _is_settled(self, index: int, coded: bytes) -> bool:
        """Whether coded data that end in one zero byte really end there, not in the zeros that follow.

        In a gray image that is stored in color, the blocks of both color channels take at most eight zeros:
        there such a byte is common and right. Unused bits are ones, so all of the byte is needed.
        """
        scans = [piece for piece in self._pieces if piece.startswith(b"\xff\xda")]
        if not coded.endswith(b"\0") or coded.endswith((b"\0\0", b"\xff\0")):
            return False
        if [scan[4] for scan in scans] != [3] or not self._is_colorless():
            return False
        piece, self._pieces[index] = self._pieces[index], coded[:-1] + b"\1"
        short = self._is_short(index, len(coded))
        self._pieces[index] = piece
        return short

    def _is_colorless(self) -> bool:
        file = b"".join([*self._pieces, _END])
        small = simplejpeg.decode_jpeg(file, "RGB", min_height=1, min_width=1, strict=False)
        return bool((small == small[..., :1]).all())

    def _is_long(self, index: int) -> bool:
        return _EXTRANEOUS in self._decode(index, len(self._pieces[index]))

    def _is_short(self, index: int, size: int) -> bool:
        return _SHORT in self._decode(index, size)

    def _decode(self, index: int, size: int) -> str:
        """Decode the file up to `size` bytes of piece `index`. Returns libjpeg's first warning."""
        file = b"".join([*self._pieces[:index], self._pieces[index][:size], _END])
        self._budget -= len(file) + self._price
        if self._budget < 0:
            raise malformed("it has too many bytes between its markers")
        try:
            simplejpeg.decode_jpeg(file, self._space, min_height=1, min_width=1)
        except (ValueError, KeyError, RuntimeError) as error:
            return str(error)
        return ""


def is_fill(coded: bytes, rest: bytes, *, settled: bool = False) -> bool:
    """Whether bytes after coded data are fill, and cannot be coded data that is out of place.

    Fill is one byte repeated, or zeros and then mostly text. It must not extend back into the coded data: a
    decoder would take as many of its bytes for coded data as a cut image lacks. `settled`: the last coded
    byte is known to be coded data, although the same byte follows.
    """
    before = 0xFF if coded.endswith(b"\xff\0") else coded[-1] if coded else rest[0]
    if before == rest[0] and not settled:
        return False
    if not rest.strip(rest[:1]):
        # Coded data hardly ever end in a zero: unused bits are ones.
        return rest[0] == 0 or len(rest) >= _LEAST_RUN
    rest = rest[:_TRAILER_BYTES]
    near = coded[-_REACH:]
    earlier = (near[at:] + rest for at in range(len(near)) if near.startswith(b"\0\0", at))
    return _is_trailer(rest) and not any(map(_is_trailer, earlier))


def _is_trailer(rest: bytes) -> bool:
    others = rest.replace(b"\0", b"")
    text = len(others) - len(others.translate(None, _TEXT))
    return rest.startswith(b"\0\0") and text >= _LEAST_TEXT and 4 * text >= 3 * len(others)
