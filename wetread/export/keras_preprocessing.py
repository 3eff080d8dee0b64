"""Keras' `preprocess_input` as scale, offset and order of colors; and what a file lets guess of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from wetread.errors import ConfigError
from wetread.export.scaling import find_doubt

_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a mode of `preprocess_input` does to pixels from 0 to 255. `color`: None where any will do."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    color: str | None


_MODES = {
    "tf": Preprocessing(scale=(1 / 127.5,), offset=(-1.0,), color=None),
    "caffe": Preprocessing(scale=(1.0,), offset=tuple(-mean for mean in _CAFFE_MEAN), color="bgr"),
    "torch": Preprocessing(
        scale=tuple(1 / 255 / deviation for deviation in _IMAGENET_DEVIATION),
        offset=tuple(
            -mean / deviation for mean, deviation in zip(_IMAGENET_MEAN, _IMAGENET_DEVIATION, strict=True)
        ),
        color="rgb",
    ),
}
MODES = tuple(_MODES)

# The names that Keras gives its applications, and the mode that each one's own preprocess_input has.
_APPLICATIONS = (
    (r"resnet\d+v2|xception|inception_v3|inception_resnet_v2|mobilenet_|mobilenetv2|nasnet", "tf"),
    (r"vgg1[69]|resnet(50|101|152)", "caffe"),
    (r"densenet", "torch"),
)


def read_mode(mode: str) -> Preprocessing:
    """What a mode does. Raises ConfigError for one that is none."""
    if mode not in _MODES:
        raise ConfigError(f"The preprocessing must be one of {', '.join(_MODES)}, not {mode!r}.")
    return _MODES[mode]


def guess_mode(model: Any) -> tuple[str | None, str | None]:
    """Guess a network's preprocessing from itself. Returns the mode, and the guess in a sentence.

    Without a mode and with a sentence the network scales pixels itself; without either nothing can be told.
    """
    if find_doubt(model) is None:
        return None, "guessed: --scale 1, because the network scales pixels itself"
    for name in _list_names(model):
        for pattern, mode in _APPLICATIONS:
            if re.match(pattern, name.lower()):
                return mode, (
                    f"guessed: --preprocessing {mode}, because the network has '{name}' in it, whose "
                    "preprocess_input that is. If its pixels were made otherwise, say --scale"
                )
    return None, None


def _list_names(model: Any) -> list[str]:
    """The names of a network and of the networks inside it."""
    inner = [layer.name for layer in model._flatten_layers() if getattr(layer, "layers", None)]
    return list(dict.fromkeys([str(model.name), *inner]))
