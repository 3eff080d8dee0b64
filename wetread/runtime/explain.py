"""Explain a prediction: which parts of an image speak for a label, by occlusion or class activation.

Occlusion (Zeiler and Fergus, ECCV 2014) works with every ONNX file. Patches of two sizes slide over the image
at the model's size, and each time the image is scored again. A pixel of the map is the mean fall of the
label's log-odds over the patches that cover it, weighted by the distance from a patch's centre. It uses
log-odds because a probability near 1 hardly changes while evidence is lost. The same file and model give the
same map.

Class activation (Zhou et al., CVPR 2016) needs a model that was exported with a second output, and only one
run. Each value of the map is the log-odds that the label would have if the whole image looked like this
place.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from wetread.errors import UsageError
from wetread.runtime.images.dicom.display import Display, read_display
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.images.pixels import Pixels, inner_size, read_input, read_picture
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.answers import check_answers
from wetread.runtime.model.scope import INSIDE, OUTSIDE
from wetread.runtime.scoring.batches import Model
from wetread.runtime.scoring.rows import SCOPE, SCOPE_REASON
from wetread.runtime.scoring.scope_columns import find_reason
from wetread.runtime.threads import count_processors

METHODS = ("occlusion", "cam")
_UNITS = {
    "occlusion": "fall of the label's log-odds when a place is hidden",
    "cam": "log-odds of the label if all places looked like this one",
}
# The sides of the patches as fractions of the image's, and the step as a fraction of a patch.
_PARTS = (4, 8)
_STEP_PART = 16
_BATCH = 64
# The smallest distance from 0 and 1 that float32 can express, about.
_SMALLEST = 1e-7

Floats = NDArray[np.float32]


class Activatable(Model, Protocol):
    """The part of a classifier that class activation uses."""

    def activate(self, images: NDArray[np.uint8]) -> Floats:
        """Compute float32 logits (N, K, h, w) for the positions of uint8 images (N, H, W, C)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Box:
    """The part of the upright original that the model saw, in its pixels: top, left, height, width."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A map of the parts of an image that speak for a label.

    `map`: float32 (h, w), at the model's size without padding. By occlusion: the fall of the label's log-odds
    when a place is hidden; by class activation: its log-odds if all places looked like this one. Values above
    0 speak for the label, values below 0 against it. `box`: the position of the map on `picture`, uint8 (H,
    W, 1 or 3), the original, upright, at its own size. `patches`: the sizes of the hidden patches; or `grid`:
    that of the class activation map. `outside`: why the image is outside the model's scope; '' inside, None
    without a scope. `answer`: the label that the model chose. `display`: how the picture is to be shown.
    """

    method: str
    label: str
    probability: float
    probabilities: dict[str, float]
    map: Floats
    box: Box
    picture: Pixels
    patches: tuple[tuple[int, int], ...] = ()
    grid: tuple[int, int] | None = None
    outside: str | None = None
    answer: str = ""
    display: Display = field(default_factory=Display)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON: the map as rows of numbers, and only the size of the picture."""
        return {
            "method": self.method,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "unit": _UNITS[self.method],
            **({"patches": [list(patch) for patch in self.patches]} if self.patches else {}),
            **({"grid": list(self.grid)} if self.grid else {}),
            **self._describe_scope(),
            "picture": {"height": self.picture.shape[0], "width": self.picture.shape[1]},
            "box": [self.box.top, self.box.left, self.box.height, self.box.width],
            "map": [[float(f"{value:.6g}") for value in row] for row in self.map],
        }

    def _describe_scope(self) -> dict[str, str | None]:
        if self.outside is None:
            return {}
        return {SCOPE: OUTSIDE if self.outside else INSIDE, SCOPE_REASON: self.outside or None}


def explain_image(
    model: Activatable,
    data: bytes,
    *,
    label: str | None = None,
    method: str = "occlusion",
    max_memory: int = MAX_MEMORY,
) -> Explanation:
    """Find the parts of an image that speak for a label (default: the predicted one).

    `data`: the bytes of an image file. `method`: 'occlusion' or 'cam'. Raises ImageError if it has no pixels
    or the model no answer, UsageError for a label that the model does not have, and ModelError for 'cam' if
    the model was exported without it.
    """
    spec = model.spec
    if label is not None and label not in spec.labels:
        raise UsageError(f"--label must be one of {', '.join(spec.labels)}, not {label!r}.")
    if method not in METHODS:
        raise UsageError(f"--method must be {' or '.join(METHODS)}, not {method!r}.")
    pixels = read_input(data, spec.pixels, max_memory=max_memory)
    found = model.classify(pixels[None])
    check_answers(found)
    answer = int(spec.decide(found)[0])
    column = answer if label is None else spec.labels.index(label)
    patches: tuple[tuple[int, int], ...] = ()
    grid: tuple[int, int] | None = None
    if method == "cam":
        heat, grid = map_activation(model, pixels, column=column)
    else:
        patches = choose_patches(spec.pixels)
        heat = map_occlusion(model, pixels, column=column, patches=patches)
    picture = read_picture(data, spec.pixels, max_memory=max_memory)
    inside, box = place_map((picture.shape[0], picture.shape[1]), spec.pixels)
    values = [float(str(value)) for value in found[0]]
    return Explanation(
        method=method,
        label=spec.labels[column],
        probability=values[column],
        probabilities=dict(zip(spec.labels, values, strict=True)),
        map=heat[inside],
        box=box,
        picture=picture,
        patches=patches,
        grid=grid,
        outside=find_reason(model, data, pixels, max_memory=max_memory),
        answer=spec.labels[answer],
        display=read_display(data, max_memory=max_memory),
    )


def map_activation(model: Activatable, pixels: Pixels, *, column: int) -> tuple[Floats, tuple[int, int]]:
    """Compute a label's log-odds at each position of the last feature maps, and their height and width.

    `pixels`: uint8 (H, W, C) at the model's size. Returns float32 (H, W), interpolated linearly.
    """
    logits = model.activate(pixels[None])[0].astype(np.float64)
    others = np.delete(logits, column, axis=0)
    largest = others.max(axis=0)
    odds = logits[column] - largest - np.log(np.exp(others - largest).sum(axis=0))
    height, width = pixels.shape[:2]
    heat: Floats = cv2.resize(odds.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return heat, (odds.shape[0], odds.shape[1])


def choose_patches(recipe: PixelRecipe) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of the patches: a quarter and an eighth of the model's sides."""
    sizes = ((max(1, recipe.height // part), max(1, recipe.width // part)) for part in _PARTS)
    return tuple(dict.fromkeys(sizes))


def map_occlusion(
    model: Model, pixels: Pixels, *, column: int, patches: tuple[tuple[int, int], ...]
) -> Floats:
    """Hide each patch of an image in its mean colour and map the fall of one label's log-odds.

    `pixels`: uint8 (H, W, C), as `read_pixels` returns them; `column`: the label's. Returns float32 (H, W).
    """
    height, width, channels = pixels.shape
    fill = np.round(pixels.reshape(-1, channels).mean(axis=0, dtype=np.float64)).astype(np.uint8)
    whole = _log_odds(model.classify(pixels[None]), column)[0]
    total = np.zeros((height, width))
    for patch in patches:
        spots = _list_spots((height, width), patch)
        after = _log_odds(_classify_hidden(model, pixels, spots, patch, fill), column)
        total += _spread_falls(whole - after, spots, patch, (height, width))
    return (total / len(patches)).astype(np.float32)


def _spread_falls(
    falls: NDArray[np.float64], spots: list[tuple[int, int]], patch: tuple[int, int], sides: tuple[int, int]
) -> NDArray[np.float64]:
    """Compute for each pixel the mean fall over its patches, weighted by a tent function over each."""
    tents = [np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) for size in patch]
    tent = np.outer(*tents)
    # Large enough for the patches that extend over an edge.
    fall = np.zeros((sides[0] + 2 * patch[0], sides[1] + 2 * patch[1]))
    weight = np.zeros_like(fall)
    for (top, left), value in zip(spots, falls, strict=True):
        place = slice(top + patch[0], top + 2 * patch[0]), slice(left + patch[1], left + 2 * patch[1])
        fall[place] += value * tent
        weight[place] += tent
    inside = slice(patch[0], patch[0] + sides[0]), slice(patch[1], patch[1] + sides[1])
    spread: NDArray[np.float64] = fall[inside] / weight[inside]
    return spread


def _list_spots(sides: tuple[int, int], patch: tuple[int, int]) -> list[tuple[int, int]]:
    """List the top left corners of the patches, also beyond the edges, so that edges are hidden as often."""
    tops, lefts = (
        range(step - size, side, step)
        for side, size, step in zip(sides, patch, (max(1, side // _STEP_PART) for side in sides), strict=True)
    )
    return [(top, left) for top in tops for left in lefts]


def _classify_hidden(
    model: Model, pixels: Pixels, spots: list[tuple[int, int]], patch: tuple[int, int], fill: Pixels
) -> Floats:
    """Score the image once for each hidden patch. Returns float32 (patches, K)."""

    def classify(first: int) -> Floats:
        chosen = spots[first : first + _BATCH]
        # Always whole batches: a provider may compute another shape with other rounding.
        batch = np.repeat(pixels[None], _BATCH, axis=0)
        for image, (top, left) in zip(batch, chosen, strict=False):
            image[max(0, top) : top + patch[0], max(0, left) : left + patch[1]] = fill
        return model.classify(batch)[: len(chosen)]

    with ThreadPoolExecutor(count_processors()) as pool:
        found = np.concatenate(list(pool.map(classify, range(0, len(spots), _BATCH))))
    check_answers(found)
    return found


def _log_odds(probabilities: Floats, column: int) -> NDArray[np.float64]:
    """Return log(p / (1 - p)) of a label; 1 - p is the sum of the other labels, which is more precise."""
    exact = probabilities.astype(np.float64)
    others = np.delete(exact, column, axis=1).sum(axis=1)
    odds: NDArray[np.float64] = np.log(np.maximum(exact[:, column], _SMALLEST))
    odds -= np.log(np.maximum(others, _SMALLEST))
    return odds


def place_map(sides: tuple[int, int], recipe: PixelRecipe) -> tuple[tuple[slice, slice], Box]:
    """Find which part of the model's image shows the original (not padding), and its box on the original.

    `sides`: (height, width) of the upright original. Returns slices of the model's rows and columns, and
    their box on the original.
    """
    rows, columns = (
        _place_side(side, size, wanted)
        for side, size, wanted in zip(
            sides, inner_size(sides, recipe), (recipe.height, recipe.width), strict=True
        )
    )
    box = Box(top=rows[1], left=columns[1], height=rows[2], width=columns[2])
    return (rows[0], columns[0]), box


def _place_side(side: int, size: int, wanted: int) -> tuple[slice, float, float]:
    """Place one side of the original, scaled to `size` and cropped or padded to `wanted`."""
    if size <= wanted:
        before = (wanted - size) // 2
        return slice(before, before + size), 0.0, float(side)
    before = (size - wanted) // 2
    return slice(0, wanted), before * side / size, wanted * side / size
