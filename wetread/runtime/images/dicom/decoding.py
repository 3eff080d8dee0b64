"""A DICOM file to gray levels or colors of 8 bits: the rule 'voi-first', in order (docs/guides/dicom.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status
from wetread.runtime.images.blank import blank
from wetread.runtime.images.dicom.color import apply_palette, convert_ybr, to_eight_bits
from wetread.runtime.images.dicom.file_header import Stream, damaged, malformed
from wetread.runtime.images.dicom.frames import NATIVE, choose_frame, read_frame
from wetread.runtime.images.dicom.gray import (
    GrayRule,
    Lookup,
    Window,
    apply_gray_rule,
    hides_all,
    make_lookup,
)
from wetread.runtime.images.dicom.pixel_format import GRAYS, PALETTE, PixelFormat, read_format
from wetread.runtime.images.dicom.values import (
    PIXEL_DATA,
    Attributes,
    DicomObject,
    PixelElement,
    import_pydicom,
    parse_file,
)
from wetread.runtime.images.limits import MAX_MEMORY, Footprint

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_SOP_CLASS, _ROWS = 0x00080016, 0x00280010
_PER_FRAME, _SHARED = 0x52009230, 0x52009229
_PRESENTATION_LUT, _PRESENTATION_LUT_SHAPE = 0x20500010, 0x20500020
_PIXEL_VALUE_TRANSFORMATION, _FRAME_VOI = 0x00289145, 0x00289132
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006


@dataclass(frozen=True)
class Picture:
    """A DICOM object that has pixels, not yet decoded."""

    stream: Stream
    attributes: Attributes
    pixels: PixelElement
    form: PixelFormat

    def count_memory(self) -> Footprint:
        """Count the bytes that decoding needs: the object, its pixels taken out of it, what a codec holds
        (most of all JPEG 2000: 32 bits a sample, twice), values of 32 bits, and their levels.
        """
        form, body = self.form, len(self.stream.body)
        samples = form.rows * form.columns * form.samples
        colors = 2 * samples if form.photometric != PALETTE else 3 * samples
        if self.stream.syntax in NATIVE:
            return Footprint(2 * body + (4 + 2 * form.allocated // 8) * samples + colors, body + colors)
        stored = form.allocated // 8 * samples
        return Footprint(
            6 * body + max(10 * samples, 3 * stored + 4 * samples) + stored + colors, body + colors
        )

    def decode(self) -> NDArray[np.uint8]:
        """Decode the frame that stands for the object.

        Returns uint8 (H, W, 1) gray levels, 0 black, or (H, W, 3) RGB. Raises ImageError 'truncated',
        'unsupported', or 'blank' where the window clips all that is not padding.
        """
        index, values, form = self._read_frame()
        if form.photometric in GRAYS:
            return _apply_rule(values, read_gray_rule(self.attributes, form, frame=index))
        if form.photometric == PALETTE:
            return apply_palette(values, _read_palette(self.attributes, form))
        colors = to_eight_bits(values, form.stored)
        return colors if form.photometric == "RGB" else convert_ybr(colors)

    def read_stored(self) -> tuple[NDArray[np.int32], GrayRule] | None:
        """Read the gray values as stored, int32 (H, W), and what `decode` makes of them; None for colors."""
        if self.form.photometric not in GRAYS:
            return None
        index, values, form = self._read_frame()
        return values, read_gray_rule(self.attributes, form, frame=index)

    def _read_frame(self) -> tuple[int, NDArray[np.int32], PixelFormat]:
        index = choose_frame(self.attributes, self.form)
        return index, *read_frame(self.stream, self.pixels, self.form, index=index)


def _apply_rule(values: NDArray[np.int32], rule: GrayRule) -> NDArray[np.uint8]:
    """Gray levels (H, W, 1) of stored values. Raises ImageError 'blank' where a window clips all of them."""
    levels = apply_gray_rule(values, rule)
    if hides_all(values, levels, rule):
        raise blank("one whose window lies outside its values, so that all of them are black or white")
    return levels[..., None]


def open_picture(data: bytes | DicomObject, *, max_memory: int = MAX_MEMORY) -> Picture:
    """Read what a DICOM file, or its object, says of its pixels, without decoding them.

    `max_memory`: as in `read_stream`.

    Raises ImageError: 'truncated' (cut short or damaged), 'unsupported' (an object without pixels, more
    than 16 bits, or a missing package), 'too_large' (inflated). No message quotes the file.
    """
    found = data if isinstance(data, DicomObject) else parse_file(data, max_memory=max_memory)
    found.check_pixels()
    attributes, pixels = found.attributes, found.pixels
    if pixels is None:
        raise _no_pixels(attributes, found.stream.sop_class)
    if pixels.tag != PIXEL_DATA:
        raise ImageError(
            Status.UNSUPPORTED, "Its pixels are floating-point numbers; only whole numbers are read."
        )
    return Picture(found.stream, attributes, pixels, read_format(attributes))


def _no_pixels(attributes: Attributes, sop_class: str) -> ImageError:
    """Tell an image that was cut before its pixels from an object that has none."""
    text = sop_class or attributes.text(_SOP_CLASS)
    # Not validated: pydicom would quote what it does not like.
    name = str(import_pydicom("pydicom.uid").UID(text, 0).name)
    known = name if name != text else "an object of an unknown kind"
    if attributes.raw(_ROWS) or "Image Storage" in known:
        return damaged("it ends before its pixels")
    return ImageError(Status.UNSUPPORTED, f"The DICOM object holds no pixels: it is {known}.")


def read_gray_rule(attributes: Attributes, form: PixelFormat, *, frame: int) -> GrayRule:
    """Read what turns an object's stored values into gray levels. Raises ImageError where it is damaged."""
    _check_polarity(attributes, form)
    return GrayRule(
        bits=form.stored,
        signed=form.signed,
        modality=_read_modality(attributes, form, frame),
        voi=_read_voi(attributes, form, frame),
        padding=_read_padding(attributes, form),
        inverted=form.photometric == "MONOCHROME1",
    )


def _check_polarity(attributes: Attributes, form: PixelFormat) -> None:
    """Refuse an object that says of its levels both that they are to be inverted and that they are not.

    PS3.3, C.11.6: IDENTITY goes with MONOCHROME2 and INVERSE with MONOCHROME1. Readers disagree on which
    of the two counts where they contradict one another, and one of them shows the negative.
    """
    if attributes.items(_PRESENTATION_LUT) or attributes.raw(_PRESENTATION_LUT):
        raise ImageError(
            Status.UNSUPPORTED,
            "Its Presentation LUT Sequence changes its levels, up to the negative, and few readers apply it. "
            "Ask its sender for the object without one.",
        )
    shape = attributes.text(_PRESENTATION_LUT_SHAPE)
    if (form.photometric, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        raise ImageError(
            Status.UNSUPPORTED,
            f"Its Photometric Interpretation {form.photometric} and its Presentation LUT Shape {shape} "
            "contradict one another: which levels are bright cannot be told. Ask its sender to correct one.",
        )


def _read_modality(
    attributes: Attributes, form: PixelFormat, frame: int
) -> Lookup | tuple[Fraction, Fraction]:
    for item in attributes.items(0x00283000)[:1]:
        return _read_lookup(item, form)
    for scope in _scopes(attributes, _PIXEL_VALUE_TRANSFORMATION, frame):
        slope, intercept = scope.decimal(0x00281053), scope.decimal(0x00281052)
        if slope is not None or intercept is not None:
            if slope == 0:
                raise malformed("its rescale slope is 0")
            return (Fraction(1) if slope is None else slope, intercept or Fraction(0))
    return Fraction(1), Fraction(0)


def _read_voi(attributes: Attributes, form: PixelFormat, frame: int) -> Lookup | Window | None:
    """The first VOI lookup table, else the first window, else none."""
    for item in attributes.items(0x00283010)[:1]:
        return _read_lookup(item, form)
    for scope in _scopes(attributes, _FRAME_VOI, frame):
        center, width = scope.decimal(0x00281050), scope.decimal(0x00281051)
        function = scope.text(0x00281056) or "LINEAR"
        if function not in _FUNCTIONS:
            raise ImageError(Status.UNSUPPORTED, f"Its VOI LUT Function is none of {', '.join(_FUNCTIONS)}.")
        if center is not None and width is not None:
            window = Window(center, width, function)
            return window if window.is_usable else None
    return None


def _scopes(attributes: Attributes, group: int, frame: int) -> Iterator[Attributes]:
    """Where an attribute of a frame may stand: its own functional group, the shared one, the object."""
    for holder in (*attributes.items(_PER_FRAME)[frame : frame + 1], *attributes.items(_SHARED)[:1]):
        yield from holder.items(group)[:1]
    yield attributes


def _read_lookup(item: Attributes, form: PixelFormat) -> Lookup:
    typed = item.is_signed(_LUT_DESCRIPTOR)
    descriptor = item.shorts(_LUT_DESCRIPTOR, signed=form.signed if typed is None else typed)
    return make_lookup(descriptor, item.raw(_LUT_DATA), little=item.is_little(_LUT_DATA))


def _read_padding(attributes: Attributes, form: PixelFormat) -> tuple[int, int] | None:
    value = attributes.short(0x00280120, signed=form.signed)
    if value is None:
        return None
    limit = attributes.short(0x00280121, signed=form.signed)
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def _read_palette(attributes: Attributes, form: PixelFormat) -> tuple[Lookup, Lookup, Lookup]:
    if attributes.raw(0x00281221):
        raise ImageError(Status.UNSUPPORTED, "Its palette is segmented; only plain palettes are read.")
    red, green, blue = (
        make_lookup(
            attributes.shorts(0x00281101 + k, signed=form.signed),
            attributes.raw(0x00281201 + k),
            little=attributes.is_little(0x00281201 + k),
        )
        for k in range(3)
    )
    return red, green, blue
