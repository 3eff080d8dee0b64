"""What a comparison was told to expect of a model file, and what the folders' names say of its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.export.flips import at_most
from wetread.export.pipelines import AREA, LOADERS, RESIZE_KERNELS, read_pipeline
from wetread.runtime.model.spec import ModelSpec

_WAYS = ("stretch", "fit", "crop")
_CLOSE = 1e-6
# All orders of so many labels are tried, of more the exchanges of two.
_PERMUTED = 5
# How rarely chance may prefer another order of the labels as clearly, and how many images must tell.
_CHANCE, _TELLING = 1e-3, 10


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What the owner knows of the labels, the scale of pixels and their resizing; None: nothing is expected.

    `resize`: stretch, fit or crop; a kernel (nearest, bilinear, ...: RESIZE_KERNELS); or a pipeline's name.
    """

    labels: tuple[str, ...] | None = None
    scale: tuple[float, ...] | None = None
    resize: str | None = None

    def contradict(self, spec: ModelSpec) -> Iterator[str]:
        """Say what of a model file is not as expected, a sentence for each. Raises ConfigError."""
        if self.labels is not None and self.labels != spec.labels:
            yield f"expected the labels {', '.join(self.labels)}, and the file has {', '.join(spec.labels)}"
        if self.scale is not None and not self._has_scale(spec):
            wanted, found = _list_numbers(self.scale), _list_numbers(spec.scale)
            yield f"expected the scale {wanted}, and the file has {found}"
        other = None if self.resize is None else _contradict_resize(self.resize, spec)
        if other:
            yield f"expected pixels resized by {self.resize}, and the file has {other}"

    def _has_scale(self, spec: ModelSpec) -> bool:
        channels = spec.pixels.channels
        if len(self.scale or ()) not in (1, channels):
            raise ConfigError(f"The expected scale must be one number or {channels}, not {self.scale}.")
        wanted, found = np.broadcast_to(self.scale or (), channels), np.broadcast_to(spec.scale, channels)
        return bool(np.allclose(found, wanted, rtol=_CLOSE, atol=0))


def _list_numbers(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.9g}" for number in numbers)


def _contradict_resize(expected: str, spec: ModelSpec) -> str | None:
    """What a file has in place of the resizing that is expected; None where it is that."""
    recipe = spec.pixels
    if expected in _WAYS:
        return None if recipe.resize == expected else recipe.resize
    if expected.partition(",")[0] in LOADERS:
        pipeline = read_pipeline(expected)
        wanted = asdict(pipeline.make_recipe(size=(recipe.height, recipe.width), color=recipe.color))
        other = [f"{name} {found}" for name, found in asdict(recipe).items() if found != wanted[name]]
        return ", ".join(other) or None
    if expected not in RESIZE_KERNELS:
        raise ConfigError(
            f"The expected resizing must be {', '.join((*_WAYS, *RESIZE_KERNELS))}, or a pipeline's name, "
            "not "
            f"{expected!r}."
        )
    kernel = recipe.kernel.split("-")[1] if "-" in recipe.kernel else recipe.kernel
    same = kernel.startswith(expected) or (expected == AREA and kernel == "box")
    return None if same else f"the kernel {recipe.kernel}"


@dataclass(frozen=True)
class LabelEvidence:
    """What folders that are named by labels say of the labels' order.

    `agrees`: the file's order fits clearly better than any other; `better`: another one that fits clearly
    better. Neither where the images cannot tell.
    """

    agrees: bool = False
    better: tuple[str, ...] | None = None
    own: int = 0
    others: int = 0
    images: int = 0

    def describe(self, spec: ModelSpec) -> str:
        """The better order, in a sentence."""
        return (
            f"the labels seem to be in another order: by the names of their folders, {self.own} of "
            f"{self.images} images get the right label as {', '.join(spec.labels)}, and {self.others} as "
            f"{', '.join(self.better or ())}"
        )


def weigh_labels(names: Sequence[str], probabilities: NDArray[np.float64], spec: ModelSpec) -> LabelEvidence:
    """Ask the folders of files, named by labels, in which order the columns of (N, K) probabilities are."""
    targets = np.array([_find_target(name, spec.labels) for name in names])
    known = targets >= 0
    if len(set(targets[known].tolist())) < 2:
        return LabelEvidence()
    decided, targets = probabilities[known].argmax(axis=1), targets[known]
    right = {order: np.array(order)[decided] == targets for order in _list_orders(len(spec.labels))}
    straight = tuple(range(len(spec.labels)))
    own = right.pop(straight)
    best = max(right, key=lambda order: int(right[order].sum()))
    wins, losses = int((right[best] & ~own).sum()), int((own & ~right[best]).sum())
    return LabelEvidence(
        agrees=_is_clear(losses, wins),
        better=tuple(spec.labels[index] for index in best) if _is_clear(wins, losses) else None,
        own=int(own.sum()),
        others=int(right[best].sum()),
        images=len(targets),
    )


def _find_target(name: str, labels: Sequence[str]) -> int:
    parts = set(PurePosixPath(name.replace("\\", "/")).parts[:-1])
    found = [index for index, label in enumerate(labels) if label in parts]
    return found[0] if len(found) == 1 else -1


def _list_orders(count: int) -> Iterator[tuple[int, ...]]:
    straight = tuple(range(count))
    if count <= _PERMUTED:
        yield from permutations(straight)
        return
    yield straight
    for one, other in combinations(straight, 2):
        exchanged = list(straight)
        exchanged[one], exchanged[other] = other, one
        yield tuple(exchanged)


def _is_clear(wins: int, losses: int) -> bool:
    """Whether so many wins against losses are more than chance: a sign test."""
    images = wins + losses
    if images < _TELLING or wins <= losses:
        return False
    return at_most(losses, images, 0.5) <= _CHANCE
