"""PixelRecipe: how the bytes of a file become the array that the network sees."""

from __future__ import annotations

from dataclasses import dataclass

from wetread.errors import ConfigError

# The only values that this version of wetread.runtime.images.pixels knows how to carry out.
_PIXEL_CHOICES: dict[str, tuple[str, ...]] = {
    "color": ("gray", "rgb"),
    "resize": ("stretch", "fit", "crop"),
    "orientation": ("exif", "ignore"),
    "gray": ("rec601",),
    "depth": ("significant-bits",),
    "alpha": ("over-black",),
    "kernel": ("area",),
    "equalize": ("none", "histogram"),
    "dicom": ("voi-first",),
}


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

    def __post_init__(self) -> None:
        for name, choices in _PIXEL_CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"Expected the pixel field '{name}' to be one of {', '.join(choices)}. "
                    f"Received {getattr(self, name)!r}. A newer wetread may know it."
                )
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ConfigError(f"Expected '{name}' from 1 to 4096 pixels. Received {getattr(self, name)}.")
        if not 0 <= self.scaled_decoding <= 64:
            raise ConfigError(f"Expected 'scaled_decoding' from 0 to 64. Received {self.scaled_decoding}.")

    @property
    def channels(self) -> int:
        """1 for gray, 3 for rgb."""
        return 1 if self.color == "gray" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return (self.height, self.width, self.channels)
