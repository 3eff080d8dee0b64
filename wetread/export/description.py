"""A network that was trained elsewhere: how it wants its pixels, and what it says, as a spec."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError, ExportError
from wetread.export import network
from wetread.export.keras_preprocessing import guess_mode, read_mode
from wetread.export.pipelines import Pipeline, choose_pipeline
from wetread.export.scaling import find_doubt
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.golden_inputs import draw_image
from wetread.runtime.model.spec import ModelSpec

PROBES = 5


@dataclass(frozen=True, kw_only=True)
class NetworkDescription:
    """How a network that was trained elsewhere wants its pixels, and what it says.

    `labels` in the order of its outputs (with one output, that is the probability of the second). Pixels,
    0 to 255, are multiplied by `scale` and then `offset` is added; `mean` and `std`, of scaled pixels, are
    another way to say so. `size` (height, width) where the network leaves it open; `head` ('logits',
    'sigmoid' or 'softmax') where it cannot be told. Without `scale` the network must scale by itself, or have
    a `preprocessing` ('tf', 'caffe' or 'torch': the modes of Keras' `preprocess_input`). `pipeline` names the
    code that made its pixels ('keras:dataset,crop', ...: `export.pipelines`), `resize_kernel` its kernel;
    without both they are made as wetread makes them.
    """

    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float = 0.5
    scale: tuple[float, ...] | None = None
    offset: tuple[float, ...] = (0.0,)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: str | None = None
    resize: str = "stretch"
    size: tuple[int, int] | None = None
    head: str | None = None
    pipeline: str | None = None
    resize_kernel: str | None = None
    preprocessing: str | None = None


def describe_network(model: Any, description: NetworkDescription) -> tuple[ModelSpec, tuple[str, ...]]:
    """Work out the spec of a foreign network: what it tells itself, and what its description adds.

    Returns the spec, and what in it was guessed, a sentence for each.
    """
    pipeline, guess = choose_pipeline(
        description.pipeline, kernel=description.resize_kernel, resize=description.resize
    )
    description, other = _settle_preprocessing(model, description, pipeline)
    spec = _make_spec(model, description, pipeline)
    head = description.head or _find_head(model, spec)
    return dataclasses.replace(spec, head=head), tuple(filter(None, (guess, other)))


def _settle_preprocessing(
    model: Any, description: NetworkDescription, pipeline: Pipeline | None
) -> tuple[NetworkDescription, str | None]:
    """Turn a preprocessing into scale, offset and color; where nothing says how, guess it, in a sentence."""
    given = (description.scale, description.mean, description.std, description.offset)
    modes = {description.preprocessing, pipeline.preprocessing if pipeline else None} - {None}
    guess = None
    if not modes and given == (None, None, None, (0.0,)):
        mode, guess = guess_mode(model)
        modes = {mode} - {None}
    elif modes and (given != (None, None, None, (0.0,)) or len(modes) > 1):
        raise ConfigError(
            "Give one preprocessing alone, or scale, offset, mean and std; not both, and not two "
            "preprocessings."
        )
    if not modes:
        return description, guess
    found = read_mode(str(modes.pop()))
    if found.color and description.color not in (None, found.color):
        raise ConfigError(
            f"That preprocessing has the color {found.color}, so it cannot be {description.color}."
        )
    color = found.color or description.color
    return dataclasses.replace(description, scale=found.scale, offset=found.offset, color=color), guess


def _make_spec(model: Any, description: NetworkDescription, pipeline: Pipeline | None) -> ModelSpec:
    """The spec but for the head."""
    height, width, channels = network.network_shape(model)
    size = description.size or (height, width)
    if (
        size[0] is None
        or size[1] is None
        or (description.size and (height, width) not in (size, (None, None)))
    ):
        raise ExportError(
            f"The size of the network's images is not known: the network says {(height, width)}, the option "
            f"{description.size}. Say it with --size."
        )
    color = description.color or {1: "gray", 3: "rgb", None: "rgb"}[channels]
    if pipeline is not None:
        recipe = pipeline.make_recipe(size=(size[0], size[1]), color=color)
    else:
        recipe = PixelRecipe(height=size[0], width=size[1], color=color, resize=description.resize)
    if channels not in (recipe.channels, None):
        raise ExportError(
            f"The network takes images of {channels} channels, which --color {color} does not have."
        )
    scale, offset = _scale_and_offset(model, description)
    return ModelSpec(
        labels=description.labels,
        pixels=recipe,
        positive=description.positive,
        threshold=description.threshold,
        threshold_rule="default" if description.threshold == 0.5 else "given",
        scale=scale,
        offset=offset,
    )


def _scale_and_offset(
    model: Any, description: NetworkDescription
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bring scale, offset, mean and std to one scale and one offset. Raises ConfigError without any."""
    if description.scale is None and description.mean is None and description.std is None:
        if doubt := find_doubt(model):
            raise ConfigError(
                "The scale of the pixels that the network was trained on is not known: no --scale was given, "
                f"and {doubt}. Say it: --scale 0.003921568627 for pixels from 0 to 1, --scale 1 for 0 to 255."
            )
        return (1.0,), description.offset
    values = np.broadcast_arrays(
        np.array(description.scale or (1.0,)),
        np.array(description.offset),
        np.array(description.mean or (0.0,)),
        np.array(description.std or (1.0,)),
    )
    scale, offset, mean, std = values
    if not np.all(std > 0):
        raise ConfigError(f"--std must be above 0, not {description.std}.")
    return tuple((scale / std).tolist()), tuple(((offset - mean) / std).tolist())


def _find_head(model: Any, spec: ModelSpec) -> str:
    wrapped = network.wrap_network(model, spec.pixels.shape)
    inputs = network.scale_pixels(draw_probes(spec), spec)
    with network.quiet():
        outputs = np.asarray(wrapped.predict_on_batch(inputs))
    return network.find_head(model, outputs, len(spec.labels))


def draw_probes(spec: ModelSpec) -> NDArray[np.uint8]:
    """Draw 5 pictures for a network to be compared on. uint8 (5, height, width, channels)."""
    return np.stack([draw_image(seed, shape=spec.pixels.shape) for seed in range(1, PROBES + 1)])
