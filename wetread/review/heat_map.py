"""Where the model looked, as a map of numbers and in plain words."""

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

# One scale for all pictures, in log-odds: at this and beyond a color is at its strongest.
SCALE = SCALES["occlusion"]
# What moves the log-odds by less is not worth a sentence.
_FAINT = 0.1
# float32 of another processor, or of another batch, differs by less.
_SAME = 1e-3
_KEPT = 64
_DOWN, _ACROSS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A map over a picture: float32 (h, w) of log-odds, and where it lies, as parts of the picture's sides.

    `warning`: why it may not be of this row's answer; '' where nothing speaks against it.
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
    """Explains pictures with one model, one at a time; the last ones are kept."""

    def __init__(self, model: str, *, device: str = "auto", max_memory: int) -> None:
        self._model, self._device, self._max_memory = model, device, max_memory
        self._classifier: Classifier | None = None
        self._kept: OrderedDict[int, Heat] = OrderedDict()
        self._lock = threading.Lock()
        self._asked = 0

    def forget(self) -> None:
        """Drop what is kept: the numbers of rows mean others now."""
        self._kept.clear()

    def explain(self, number: int, data: bytes, row: dict[str, str]) -> Heat:
        """Explain a row's label in its picture. Raises ImageError, ModelError and ProviderError.

        Only the last of those who wait is served, the others get a UsageError: a reader who went on looks at
        another picture.
        """
        self._asked = asked = self._asked + 1
        with self._lock:
            if number not in self._kept:
                if asked != self._asked:
                    raise UsageError("Another picture was asked for since.")
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
    """Put an explanation into words, and compare its probability with the row's."""
    height, width = found.picture.shape[:2]
    box = found.box
    warning = ""
    if abs(found.probability - probability) > _SAME:
        warning = (
            f"This file gives {found.probability:.4f} now, not {probability:.4f} as when it was scored: it "
            "has changed, or another model scored it."
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
    """Say in plain words which part speaks most for a label, and which most against it."""
    said = []
    if heat.max() >= _FAINT:
        said.append(f"Hiding the {name_part(heat, int(heat.argmax()))} made {label} less likely.")
    if heat.min() <= -_FAINT:
        said.append(f"Hiding the {name_part(heat, int(heat.argmin()))} made {label} more likely.")
    return " ".join(said) or f"Hiding any one part changed how likely {label} is very little."


def name_part(heat: Floats, place: int) -> str:
    """Name the ninth of a picture that a place of its map lies in: 'upper left part', of the picture."""
    row, column = np.unravel_index(place, heat.shape)
    down, across = _DOWN[int(3 * row / heat.shape[0])], _ACROSS[int(3 * column / heat.shape[1])]
    words = [word for word in (down, across) if word != "middle"] or ["middle"]
    return f"{' '.join(words)} part of the picture"
