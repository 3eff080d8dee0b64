"""How an owner's code makes pixels of a file, by name: `keras:load_img,nearest`, `keras:dataset,crop`.

The names are those of the functions that people call. What each does was read in Keras, Pillow and TensorFlow
and measured beside them: `docs/reference/pixels.md` has the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wetread.errors import ConfigError
from wetread.export.keras_preprocessing import MODES
from wetread.runtime.images.recipe import ANTIALIAS, PILLOW, TENSORFLOW, PixelRecipe

AREA = "area"
CROP, PAD = "crop", "pad"
RESIZE_KERNELS = ("nearest", "bilinear", "bicubic", AREA, "lanczos")
LOADERS = {
    "keras:load_img": PILLOW,
    "keras:generator": PILLOW,
    "keras:dataset": TENSORFLOW,
    "tf:resize": TENSORFLOW,
}
_FIRST = {PILLOW: "nearest", TENSORFLOW: "bilinear"}  # what the loaders take unless told otherwise
# A name for the same in the other library, or in the other's loader.
_OTHER_NAMES = {PILLOW: {AREA: "box"}, TENSORFLOW: {"lanczos": "lanczos3"}}
_INTERPOLATIONS = {
    PILLOW: ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
    TENSORFLOW: ("nearest", AREA, "bilinear", "bicubic", "lanczos3", "lanczos5"),
}
# What loaders do to proportions, where it is not cropping alone.
_SHAPES: dict[str, tuple[str, ...]] = {"keras:dataset": (CROP, PAD), "tf:resize": ()}
# Kernels that `tf.image.resize` widens when it is told to antialias.
_WIDENED = ("bilinear", "bicubic", "lanczos3", "lanczos5")
_DECODING = {
    PILLOW: {"orientation": "exif-of-tiff", "gray": "rec601-of-rgb", "depth": "pillow", "dct": "accurate"},
    TENSORFLOW: {"orientation": "ignore", "gray": "libpng", "depth": "high-byte", "dct": "fast"},
}


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A loader, its interpolation, what becomes of the proportions, and the preprocessing after it.

    `resize`: stretch, crop (`keep_aspect_ratio`, `crop_to_aspect_ratio`) or fit (`pad_to_aspect_ratio`).
    `preprocessing`: the mode of Keras' `preprocess_input`, or None.
    """

    loader: str
    interpolation: str
    resize: str = "stretch"
    antialias: bool = False
    preprocessing: str | None = None

    @property
    def family(self) -> str:
        """Whose decoder and kernels it uses: 'pillow' or 'tensorflow'."""
        return LOADERS[self.loader]

    @property
    def name(self) -> str:
        """The pipeline as it is written on the command line."""
        words = [self.loader, self.interpolation]
        words += [{"crop": CROP, "fit": PAD}[self.resize]] if self.resize != "stretch" else []
        words += [ANTIALIAS] if self.antialias else []
        return ",".join([*words, self.preprocessing] if self.preprocessing else words)

    def make_recipe(self, *, size: tuple[int, int], color: str) -> PixelRecipe:
        """The recipe that makes the same pixels, for a model of `size` (height, width)."""
        smooth = f"-{ANTIALIAS}" if self.antialias and self.interpolation in _WIDENED else ""
        return PixelRecipe(
            height=size[0],
            width=size[1],
            color=color,
            resize=self.resize,
            kernel=f"{self.family}-{self.interpolation}{smooth}",
            alpha="drop",
            scaled_decoding=0,
            **_DECODING[self.family],
        )


def read_pipeline(text: str) -> Pipeline:
    """Read a pipeline's name. Raises ConfigError naming the word that is none, and those that are."""
    loader, *words = (word.strip() for word in text.split(","))
    if loader not in LOADERS:
        raise ConfigError(
            f"A pipeline begins with {', '.join(LOADERS)}, not {loader!r}. Example: keras:load_img,nearest."
        )
    family = LOADERS[loader]
    names = [_OTHER_NAMES[family].get(word, word) for word in words]
    kernels = [word for word in names if word in _INTERPOLATIONS[family]]
    modes = [word for word in names if word in MODES]
    shapes = [word for word in names if word in _SHAPES.get(loader, (CROP,))]
    smooth = [word for word in names if word == ANTIALIAS and loader == "tf:resize"]
    unknown = [w for w in names if w not in (*kernels, *modes, *shapes, *smooth)]
    if unknown or max(map(len, (kernels, modes, shapes))) > 1:
        raise ConfigError(
            f"{', '.join(unknown or words)} cannot follow {loader}. At most one of each can: "
            f"{', '.join(_INTERPOLATIONS[family])}; "
            f"{', '.join(_SHAPES.get(loader, (CROP,))) or ANTIALIAS}; {', '.join(MODES)}."
        )
    return Pipeline(
        loader=loader,
        interpolation=kernels[0] if kernels else _FIRST[family],
        resize={CROP: "crop", PAD: "fit"}[shapes[0]] if shapes else "stretch",
        antialias=bool(smooth),
        preprocessing=modes[0] if modes else None,
    )


def guess_pipeline(kernel: str) -> tuple[Pipeline | None, str | None]:
    """The pipeline that a kernel alone stands for, None for wetread's own; and the guess in a sentence."""
    if kernel not in RESIZE_KERNELS:
        raise ConfigError(f"The kernel must be one of {', '.join(RESIZE_KERNELS)}, not {kernel!r}.")
    if kernel == AREA:
        return None, None
    name = f"keras:load_img,{kernel}" if kernel == "nearest" else f"keras:dataset,{kernel}"
    whose = "load_img" if kernel == "nearest" else "image_dataset_from_directory"
    other = "keras:dataset" if kernel == "nearest" else "keras:load_img"
    return read_pipeline(name), (
        f"guessed from --resize-kernel {kernel}: pixels as Keras' {whose} makes them (--pipeline {name}); if "
        f"they were made otherwise, say --pipeline {other},{kernel}"
    )


def choose_pipeline(
    name: str | None, *, kernel: str | None, resize: str
) -> tuple[Pipeline | None, str | None]:
    """The pipeline of a name, a kernel and a way with proportions, or None for wetread's own; and the guess.

    Raises ConfigError where they contradict one another, or the loader cannot do that.
    """
    if name is None and kernel is None:
        return None, None
    pipeline, guess = (read_pipeline(name), None) if name is not None else guess_pipeline(kernel or AREA)
    if pipeline is None:
        return None, guess
    if name is not None and kernel is not None:
        pipeline = replace(pipeline, interpolation=read_pipeline(f"{pipeline.loader},{kernel}").interpolation)
    if resize != "stretch":
        word = {"crop": CROP, "fit": PAD}.get(resize, resize)
        pipeline = replace(pipeline, resize=read_pipeline(f"{pipeline.loader},{word}").resize)
    return pipeline, guess
