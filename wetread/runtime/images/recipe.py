"""PixelRecipe: how the bytes of a file become the array that the network sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from wetread.errors import ConfigError

PILLOW, TENSORFLOW, ANTIALIAS = "pillow", "tensorflow", "antialias"
# What `images.kernels` has beside wetread's own "area".
KERNELS = (
    *(f"{PILLOW}-{name}" for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")),
    *(f"{TENSORFLOW}-{name}" for name in ("nearest", "area", "bilinear", "bicubic", "lanczos3", "lanczos5")),
    *(f"{TENSORFLOW}-{name}-{ANTIALIAS}" for name in ("bilinear", "bicubic", "lanczos3", "lanczos5")),
)

# The only values that this version of wetread.runtime.images.pixels knows how to carry out.
_PIXEL_CHOICES: dict[str, tuple[str, ...]] = {
    "color": ("gray", "rgb", "bgr"),
    "resize": ("stretch", "fit", "crop"),
    "orientation": ("exif", "ignore", "exif-of-tiff"),
    "gray": ("rec601", "rec601-of-rgb", "libpng"),
    "depth": ("significant-bits", "high-byte", "pillow"),
    "alpha": ("over-black", "drop"),
    "kernel": ("area", *KERNELS),
    "dct": ("accurate", "fast"),
    "equalize": ("none", "histogram"),
    "dicom": ("voi-first",),
}


def find_family(kernel: str) -> str:
    """Whose kernel it is: 'pillow', 'tensorflow', or '' for wetread's own."""
    family = kernel.partition("-")[0]
    return family if family in (PILLOW, TENSORFLOW) else ""


@dataclass(frozen=True, kw_only=True)
class PixelRecipe:
    """How the bytes of a file become the uint8 array that the network sees.

    ``docs/reference/pixels.md`` says what each value means; `images.pixels` carries it out, in training,
    calibration and scoring alike.
    """

    height: int = 64
    width: int = 64
    color: str = "gray"
    resize: str = "stretch"
    orientation: str = "exif"
    gray: str = "rec601"
    depth: str = "significant-bits"
    alpha: str = "over-black"
    kernel: str = "area"
    # A JPEG is decoded at the smallest DCT scale that leaves at least this many decoded pixels for each
    # pixel of the model, along each side. 0 decodes at full size.
    scaled_decoding: float = 1.5
    equalize: str = "none"
    # How stored values become gray levels: docs/guides/dicom.md.
    dicom: str = "voi-first"
    # How a JPEG's blocks become samples: TensorFlow's decoder takes libjpeg's fast way.
    dct: str = "accurate"

    def __post_init__(self) -> None:
        for name, choices in _PIXEL_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"The pixel field '{name}' must be one of {', '.join(choices)}, not "
                    f"{getattr(self, name)!r}. A newer wetread may know it."
                )
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ConfigError(f"'{name}' must be from 1 to 4096 pixels, not {getattr(self, name)}.")
        if not 0 <= self.scaled_decoding <= 64:
            raise ConfigError(f"'scaled_decoding' must be from 0 to 64, not {self.scaled_decoding}.")
        if self.scaled_decoding and find_family(self.kernel):
            raise ConfigError(
                f"'scaled_decoding' must be 0 with the kernel {self.kernel}, not {self.scaled_decoding}: its "
                "loader decodes a JPEG at full size."
            )
        if self.resize == "fit" and find_family(self.kernel) == PILLOW:
            raise ConfigError(
                "'resize' must be stretch or crop with a kernel of Pillow, not fit: Keras' load_img does "
                "not pad."
            )

    @property
    def channels(self) -> int:
        """1 for gray, 3 for rgb and bgr."""
        return 1 if self.color == "gray" else 3

    def to_dict(self) -> dict[str, Any]:
        """All fields for JSON, but for `dct` where it is as it always was: older readers know none."""
        values = asdict(self)
        if self.dct == "accurate":
            del values["dct"]
        return values

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return (self.height, self.width, self.channels)
