"""Draw the golden corpus and its two models anew: `python -m tests.machines.drawing`.

Only to add cases: encoders of other versions write other bytes, so every expected value changes with them.
`--keep-models` draws the corpus alone, `--keep-files` nothing: a new packaged model changes scores.csv only.
"""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from tests.runtime.corpus import (
    draw_corpus,
    draw_noise,
    draw_picture,
    find_segment,
    insert_segment,
    join_png,
    make_bmp,
    make_exif,
    make_plain_tiff,
    make_png,
    make_pnm,
    make_tiff,
    save,
    tag_tiff,
)

GOLDEN = Path(__file__).parent / "golden"
JPEG_SIDES = {"large": (211, 307), "tall": (450, 61), "exact": (192, 256), "tiny": (5, 7)}


def draw_files() -> dict[str, bytes]:
    """Every file of the corpus by name: whole ones of all kinds, and broken ones."""
    whole = {
        **draw_corpus(),
        **dict(draw_scaled_jpegs()),
        **dict(draw_orientations()),
        **dict(draw_depths()),
        **dict(draw_colors()),
        **dict(draw_warnings()),
        **dict(draw_dicom()),
    }
    later = (draw_blanks(), draw_padded_dicom(), draw_animations(), draw_scopes())
    added = {name: data for drawn in later for name, data in drawn}
    return whole | dict(break_files(whole)) | dict(draw_others()) | added


def draw_scaled_jpegs() -> Iterator[tuple[str, bytes]]:
    """JPEGs that are decoded at 1/8, 2/8, 4/8 and in full, with sides that are no multiples of 8."""
    for name, sides in JPEG_SIDES.items():
        for channels in (1, 3):
            picture = draw_picture(*sides, channels)
            for subsampling in (0, 2) if channels == 3 else (0,):
                kind = "gray" if channels == 1 else f"42{2 * (2 - subsampling)}"[:3]
                yield f"scaled-{name}-{kind}", save(picture, "JPEG", quality=85, subsampling=subsampling)
        yield f"scaled-{name}-progressive", save(draw_picture(*sides), "JPEG", progressive=True)


def draw_orientations() -> Iterator[tuple[str, bytes]]:
    """All eight orientations, in each format that has them; and impossible ones."""
    jpeg, gray = save(draw_picture(90, 130), "JPEG"), draw_picture(channels=1)
    for value in range(10):
        exif = make_exif(value)
        yield f"turned-jpeg-{value}", insert_segment(jpeg, 0xE1, b"Exif\0\0" + exif)
        yield f"turned-png-{value}", make_png(gray, 8, 0, (b"eXIf", exif))
        yield f"turned-tiff-{value}", make_plain_tiff(gray, 8, 1, more={274: (value,)})
    for value in (2, 7):
        yield f"turned-webp-{value}", save(draw_picture(), "WEBP", exif=b"Exif\0\0" + make_exif(value))


def draw_depths() -> Iterator[tuple[str, bytes]]:
    """Every depth, stored as 16 bits of which some are used, and as fewer than 8."""
    for bits in (8, 9, 10, 12, 14, 16):
        samples = draw_picture(channels=1, top=(1 << bits) - 1).astype(np.uint16)
        yield f"depth-png-{bits}", make_png(samples, 16, 0)
        yield f"depth-tiff-{bits}", make_plain_tiff(samples, 16, 1, order=">" if bits % 4 else "<")
        yield f"depth-pnm-{bits}", make_pnm(samples, top=(1 << bits) - 1)
    for bits in (1, 2, 4, 8):
        samples = draw_noise(20, 30, 1, top=(1 << bits) - 1)
        yield f"depth-png-of-{bits}", make_png(samples, bits, 0, interlace=bits == 2)
        for zero in (0, 1):
            yield f"depth-tiff-of-{bits}-{zero}", make_plain_tiff(samples, bits, zero)
    yield "depth-pnm-100", make_pnm(draw_noise(20, 30, 3, top=100), top=100)


def draw_colors() -> Iterator[tuple[str, bytes]]:
    """Alpha, inks, palettes and masks, and TIFFs in strips, tiles and planes."""
    rgb = draw_picture()
    rgba, deep = np.dstack([rgb, draw_picture(channels=1)[::-1]]), draw_noise(20, 30, 4, top=65535)
    yield "color-png-rgba-16", make_png(deep, 16, 6)
    yield "color-png-gray-alpha", make_png(rgba[..., 2:], 8, 4)
    yield (
        "color-png-one-transparent",
        make_png(rgb, 8, 2, (b"tRNS", struct.pack(">3H", *map(int, rgb[3, 4])))),
    )
    yield "color-webp-lossless-alpha", save(rgba, "WEBP", lossless=True, exact=True)
    yield "color-jpeg-ycck", save(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=90, subsampling=2)
    yield "color-jpeg-rgb", save(rgb, "JPEG", keep_rgb=True, quality=90)
    for extra in (0, 1, 2):
        yield f"color-tiff-alpha-{extra}", make_plain_tiff(rgba, 8, 2, more={338: (extra,)})
    planes = [np.ascontiguousarray(rgb[..., k]).tobytes() for k in range(3)]
    yield "color-tiff-planes", make_tiff(planes, tag_tiff(rgb, 8, 2) | {284: (2,)})
    tiles = draw_noise(32, 32, 3)
    blocks = [tiles[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    yield "color-tiff-tiles", make_tiff(blocks, tag_tiff(tiles, 8, 2) | {322: (16,), 323: (16,)})
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        yield f"color-{compression}-predictor", save(rgb, "TIFF", compression=compression, tiffinfo={317: 2})
    palette = draw_noise(256, 1, 3)[:, 0]
    yield "color-bmp-8", make_bmp(draw_picture(channels=1), 8, palette=palette)
    yield "color-bmp-1", make_bmp(draw_picture(channels=1) >> 7, 1, palette=palette[:2], downward=True)
    yield "color-bmp-core", make_bmp(draw_picture(channels=1) // 16, 4, palette=palette[:16], core=True)


def draw_warnings() -> Iterator[tuple[str, bytes]]:
    """JPEGs that libjpeg warns of harmlessly, and one-frame animations."""
    from tests.runtime.images import test_jpeg_markers as markers
    from tests.runtime.images import test_one_frame as animations

    jpeg = save(draw_picture(), "JPEG")
    for index, change in enumerate(markers.CHANGES):
        yield f"warned-{change.__name__}", change(jpeg, markers.random.Random(index))
    yield "frame-png", animations.draw_animated_png()
    for name, still in animations.STILLS.items():
        yield f"frame-webp-{name}", animations.draw_animated_webp(still)


def draw_dicom() -> Iterator[tuple[str, bytes]]:
    """DICOM of every transfer syntax, depth, sign, photometric interpretation and table."""
    from tests.runtime.images.dicom import test_decoding as cases
    from tests.runtime.images.dicom.drawing import LOSSLESS, NATIVE, SYNTAXES, draw_xray, write_dicom

    for syntax in SYNTAXES:
        bits = (8,) if syntax == "jpeg baseline" else (12,) if syntax == "jpeg extended" else (8, 12, 16)
        for depth in bits:
            shot = draw_xray(depth)
            yield f"dicom-{syntax}-{depth}", write_dicom(shot, bits=depth, syntax=syntax)
    for syntax in [*NATIVE, *LOSSLESS]:
        shot = draw_xray(12, signed=True)
        options = {"photometric": "MONOCHROME1", "extra": cases.WINDOW}
        yield f"dicom-{syntax}-signed", write_dicom(shot, bits=12, syntax=syntax, **options)
    for syntax in ("explicit", "rle", "jpeg baseline", "jpeg-ls", "jpeg 2000 lossless"):
        form = cases.color_of(syntax)
        yield f"dicom-{syntax}-color", write_dicom(draw_picture(), bits=8, syntax=syntax, photometric=form)
    yield from draw_gray_rules()


def draw_gray_rules() -> Iterator[tuple[str, bytes]]:
    """DICOM whose gray levels come from windows, functions, tables and padding."""
    from tests.runtime.images.dicom import test_decoding as cases
    from tests.runtime.images.dicom.drawing import draw_xray, strip_meta, write_dicom

    shot = draw_xray(12)
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        extra = cases.WINDOW | {"VOILUTFunction": function}
        yield f"dicom-window-{function.lower()}", write_dicom(shot, bits=12, extra=extra)
    curve, voi = np.arange(1000) ** 2 // 300, np.arange(3000) // 3
    tables = {
        "ModalityLUTSequence": cases.lookup_item(20, curve, 12),
        "VOILUTSequence": cases.lookup_item(100, voi, 10),
    }
    yield "dicom-tables", write_dicom(draw_xray(10), bits=10, extra=tables)
    palette = cases.palette(16)
    yield "dicom-palette", write_dicom(draw_xray(8), bits=8, photometric="PALETTE COLOR", extra=palette)
    padding = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}
    yield "dicom-padding", write_dicom(shot, bits=12, photometric="MONOCHROME1", extra=padding)
    yield "dicom-bare", strip_meta(write_dicom(shot, bits=12, syntax="implicit"))
    yield "dicom-high-bit", write_dicom(shot << 4, bits=12, extra={"HighBit": 15})
    yield "dicom-frames", write_dicom([shot, shot[::-1]], bits=12, extra={"RepresentativeFrameNumber": 2})


def draw_blanks() -> Iterator[tuple[str, bytes]]:
    """Pictures that carry nothing: one level, one color, noise that averages out, a window beside the values.

    And the nearest that carry something: two levels that are just far enough apart.
    """
    from tests.runtime.images.dicom.drawing import draw_xray, write_dicom

    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        for level in (0, 117, 255):
            yield f"blank-{kind.lower()}-{level}", save(np.full((90, 70, 1), level, np.uint8), kind)
    yield "blank-color", save(np.full((50, 60, 3), (200, 20, 90), np.uint8), "PNG")
    yield "blank-16", make_png(np.full((40, 40, 1), 30000, np.uint16), 16, 0)
    yield "blank-noise", save((draw_noise(250, 200, 1) // 32 + 100).astype(np.uint8), "PNG")
    for span in (7, 8):
        halves = np.full((64, 64, 1), 100, np.uint8)
        halves[:32] += span
        yield f"blank-span-{span}", save(halves, "PNG")
    shot = draw_xray(12, shape=(120, 100))
    for center in ("-5000", "2000", "9000"):
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            window = {"WindowCenter": center, "WindowWidth": "800"}
            name = f"blank-window-{center}-{photometric.lower()}"
            yield name, write_dicom(shot, bits=12, photometric=photometric, extra=window)
    yield "blank-dicom", write_dicom(np.full((64, 64), 1000, np.uint16), bits=12)


def draw_padded_dicom() -> Iterator[tuple[str, bytes]]:
    """JPEG streams in DICOM with fill bytes before their end marker, as dcmtk writes them; and cut ones."""
    from tests.runtime.images.dicom.drawing import compress, draw_xray
    from tests.runtime.images.dicom.test_damage import FILLED, bits_of, encapsulated

    for syntax in FILLED:
        plain = compress(draw_xray(bits_of(syntax)), bits=bits_of(syntax), syntax=syntax)
        for fill in (1, 2):
            padded = plain[: plain.rindex(b"\xff\xd9")] + b"\xff" * fill + b"\xff\xd9"
            yield f"padded-{fill}-dicom-{syntax}-{bits_of(syntax)}", encapsulated(padded, syntax)
        cut = plain[: len(plain) * 4 // 5].rstrip(b"\xff") + b"\xff\xff\xff\xd9"
        yield f"cut-padded-dicom-{syntax}-{bits_of(syntax)}", encapsulated(cut, syntax)


def draw_scopes() -> Iterator[tuple[str, bytes]]:
    """What the models are for, and the same turned, mirrored and as a negative: chests, and lamps."""
    from tests.export.networks import draw_lamp
    from wetread.demo.phantoms import draw_phantom

    for index in range(8):
        label = ("NORMAL", "PNEUMONIA")[index % 2]
        chest = draw_phantom(label, patient=index, seed=20, size=(260 + 7 * index, 300))
        yield f"chest-{index}", save(chest[..., None], "JPEG", quality=85)
        yield f"lamp-{index}", save(draw_lamp(5000 + index)[0][..., None], "PNG")
        for kind, changed in (
            ("mirrored", chest[:, ::-1]),
            ("turned", chest[::-1, ::-1]),
            ("negative", ~chest),
        ):
            if index < 3:
                yield f"chest-{index}-{kind}", save(changed[..., None], "JPEG", quality=85)


def draw_animations() -> Iterator[tuple[str, bytes]]:
    """Animations of one frame, in other ways of drawing it; and of several, which no model reads."""
    from tests.runtime.images import test_one_frame as animations

    one, control = animations.count_frames(1), animations.control
    later = (control(), (b"fdAT", b"\0\0\0\1" + b"x"))
    yield "frame-png-disposed", animations.draw_animated_png(one, control(last=b"\2\1"))
    yield "unsupported-frame-png-two", animations.draw_animated_png(animations.count_frames(2), control())
    yield "unsupported-frame-png-apart", animations.draw_animated_png(one, behind=later)
    yield "changed-frame-png-smaller", animations.draw_animated_png(one, control((52, 37)))
    for last in (1, 2, 3):
        still = animations.STILLS["alpha"]
        yield f"frame-webp-alpha-{last}", animations.draw_animated_webp(still, last=last)
    two = animations.draw_animated_webp(animations.STILLS["lossy"], frames=2)
    yield "unsupported-frame-webp-two", two


def break_files(whole: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Each file cut in its middle and before its last bytes, and some with a changed byte."""
    for index, (name, data) in enumerate(whole.items()):
        if index % 3 == 0:
            yield f"cut-{name}", data[: len(data) * 3 // 5]
        if index % 3 == 1:
            yield f"short-{name}", data[:-3]
        if index % 7 == 2:
            at = len(data) * 2 // 3
            yield f"changed-{name}", data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :]


def draw_others() -> Iterator[tuple[str, bytes]]:
    """What is no image, or none that is read."""
    from tests.runtime.images.test_formats import UNSUPPORTED

    for name, (data, _) in UNSUPPORTED.items():
        yield f"unsupported-{name}", data
    yield "empty", b""
    yield "text", b"no picture\n"
    yield "zeros", bytes(1000)
    yield "too-wide", join_png((1_000_001, 1, 8, 0, 0), (b"IDAT", zlib.compress(bytes(1_000_002))))
    jpeg = save(draw_picture(), "JPEG")
    at = find_segment(jpeg, 0xC0) + 5
    yield "too-tall", jpeg[:at] + struct.pack(">H", 65_501) + jpeg[at + 2 :]


def pack(files: dict[str, bytes]) -> bytes:
    """Put files into an archive whose bytes depend on theirs alone; cut files cost nothing there."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=9) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name.replace(" ", "-"))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def make_models(folder: Path) -> None:
    """Train one small network on drawn pictures and export it with a scope, as float32 and as int8."""
    from tests.export.networks import draw_lamps, toy_spec, train_toy, write_run
    from wetread.export import ExportOptions, export_run

    with TemporaryDirectory() as place:
        data = Path(place) / "data"
        rows = draw_lamps(data, count=320)
        network = train_toy(rows[:240], data)
        run = write_run(Path(place) / "run", network, rows, data=data, spec=toy_spec())
        scope = Path(place) / "scope.toml"
        scope.write_text('purpose = "Lamps, brighter on one side"\n', encoding="utf-8")
        for precision in ("float32", "int8"):
            options = ExportOptions(precision=precision, scope=scope)
            export_run(run, output=folder / f"{precision}.onnx", options=options)
    (folder / "int8.quantization.json").unlink()


def main(arguments: list[str]) -> None:
    """Write the archive, the models and what this machine makes of them."""
    from tests.machines import golden

    GOLDEN.mkdir(exist_ok=True)
    if "--keep-files" not in arguments:
        (GOLDEN / golden.CORPUS).write_bytes(pack(draw_files()))
    if not {"--keep-files", "--keep-models"} & set(arguments):
        make_models(GOLDEN)
    golden.write_expected(golden.measure(GOLDEN), GOLDEN)


if __name__ == "__main__":
    main(sys.argv[1:])
