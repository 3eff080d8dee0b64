"""Heat maps: how much each part of a picture counts for a label, as numbers and in words."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from wetread.errors import ModelError, UsageError
from wetread.runtime.explain import Explanation, Floats, explain_image
from wetread.runtime.overlay import SCALES
from wetread.runtime.scoring.classifier import Classifier

# One scale for all pictures: the log-odds at which a color is strongest.
SCALE = SCALES["occlusion"]
# Smaller changes of the log-odds are not described.
_FAINT = 0.1
# Larger than any difference between processors or batch sizes in float32.
_SAME = 1e-3
_KEPT = 64
_DOWN, _ACROSS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A map over a picture.

    `map`: float32 (h, w), the change of the label's log-odds. `box`: top, left, height and width of the map,
    as shares of the picture's sides. `words`: the map as a sentence. `warning`: why the map may not belong to
    this row's answer, or ''.
    """

    label: str
    probability: float
    map: Floats
    box: tuple[float, float, float, float]
    words: str
    warning: str

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {
            "label": self.label,
            "probability": self.probability,
            "scale": SCALE,
            "height": self.map.shape[0],
            "width": self.map.shape[1],
            "map": [round(float(value), 4) for value in self.map.ravel()],
            "box": list(self.box),
            "words": self.words,
            "warning": self.warning,
        }


class Heats:
    """Makes heat maps with one model, one at a time, and keeps the last 64."""

    def __init__(self, model: str, *, device: str = "auto", max_memory: int) -> None:
        self._model, self._device, self._max_memory = model, device, max_memory
        self._classifier: Classifier | None = None
        self._kept: OrderedDict[int, Heat] = OrderedDict()
        self._lock = threading.Lock()
        self._asked = 0

    def forget(self) -> None:
        """Drop the maps that are kept, because the rows have new numbers."""
        self._kept.clear()

    def explain(self, number: int, data: bytes, row: dict[str, str]) -> Heat:
        """Make the map of a row's label. Raises ImageError, ModelError and ProviderError.

        If several calls wait, only the latest is served and the others raise UsageError: the reader has moved
        on to another picture.
        """
        self._asked = asked = self._asked + 1
        with self._lock:
            if number not in self._kept:
                if asked != self._asked:
                    raise UsageError("Another picture was requested in the meantime.")
                self._kept[number] = self._explain(data, row)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return self._kept[number]

    def _explain(self, data: bytes, row: dict[str, str]) -> Heat:
        if self._classifier is None:
            self._classifier = Classifier(self._model, device=self._device)
        label = row["label"]
        if label not in self._classifier.spec.labels:
            raise ModelError(f"The model {self._classifier.name} has no label {label!r}.")
        found = explain_image(self._classifier, data, label=label, max_memory=self._max_memory)
        return make_heat(found, float(row["probability"]))


def make_heat(found: Explanation, probability: float) -> Heat:
    """Make a Heat from an explanation, with a warning if its probability differs from the row's."""
    height, width = found.picture.shape[:2]
    box = found.box
    warning = ""
    if abs(found.probability - probability) > _SAME:
        warning = (
            f"The probability of this file is {found.probability:.4f} now, and was {probability:.4f} when it "
            "was scored: the file has changed, or another model scored it."
        )
    return Heat(
        label=found.label,
        probability=found.probability,
        map=found.map,
        box=(box.top / height, box.left / width, box.height / height, box.width / width),
        words=describe_map(found.map, found.label),
        warning=warning,
    )


def describe_map(heat: Floats, label: str) -> str:
    """Describe which part of a picture counts most for a label, and which most against it."""
    said = []
    if heat.max() >= _FAINT:
        said.append(f"Hiding the {name_part(heat, int(heat.argmax()))} made {label} less likely.")
    if heat.min() <= -_FAINT:
        said.append(f"Hiding the {name_part(heat, int(heat.argmin()))} made {label} more likely.")
    return " ".join(said) or f"Hiding any one part changed how likely {label} is very little."


def name_part(heat: Floats, place: int) -> str:
    """Name the ninth of the picture that a place lies in. `place`: an index of the flattened map."""
    row, column = np.unravel_index(place, heat.shape)
    down, across = _DOWN[int(3 * row / heat.shape[0])], _ACROSS[int(3 * column / heat.shape[1])]
    words = [word for word in (down, across) if word != "middle"] or ["middle"]
    return f"{' '.join(words)} part of the picture"
