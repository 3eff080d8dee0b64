"""TrainConfig: all that decides a training run, saved beside the weights as config.json."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

from wetread.errors import ConfigError
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex
from wetread.runtime.spec import PixelRecipe, build_dataclass

CLASS_WEIGHTS = ("balanced", "none")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The options of `wetread train`.

    `data`: DATA/<label>/* or DATA/{train,val,test}/<label>/*, and `output`, the RUN directory; each may be a
    gs:// location, and otherwise is made absolute, so that the run can be resumed and exported from
    anywhere. `architecture`: a name of `wetread.train.architectures` or 'module:function'. `size` in pixels,
    square. `color`, `resize`, `equalize`: as in `PixelRecipe`. `learning_rate` is where the `schedule`
    starts; `weight_decay` is AdamW's. `class_weight`: 'balanced' weighs every label alike. `augment`:
    'xray', 'light', 'none' or a TOML file. `validation`: the fraction of images set aside, where no DATA/val
    is. `group_regex` finds the patient in a name. `subset`: train on about this many images. `positive`: one
    of two labels. `cache`: a folder for the arrays (default: $WETREAD_CACHE, or RUN/cache). Raises
    ConfigError.
    """

    data: str
    output: str
    architecture: str = "edge"
    size: int = 64
    color: str = "gray"
    resize: str = "stretch"
    equalize: str = "none"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    class_weight: str = "balanced"
    augment: str = "xray"
    validation: float = 0.1
    group_regex: str = DEFAULT_GROUP_REGEX
    subset: int | None = None
    positive: str | None = None
    seed: int = 0
    cache: str | None = None

    def __post_init__(self) -> None:
        for name in ("data", "output", "cache"):
            object.__setattr__(self, name, _make_absolute(getattr(self, name)))
        _expect_choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        _expect_choice("schedule", self.schedule, SCHEDULES)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Expected {name} of 1 or more. Received {getattr(self, name)}.")
        if self.subset is not None and self.subset < 4:
            raise ConfigError(f"Expected subset of 4 images or more. Received {self.subset}.")
        if not 0 < self.validation < 1:
            raise ConfigError(f"Expected validation between 0 and 1. Received {self.validation}.")
        if not 0 < self.learning_rate <= 10:
            raise ConfigError(f"Expected learning_rate above 0, up to 10. Received {self.learning_rate}.")
        if not 0 <= self.weight_decay <= 1:
            raise ConfigError(f"Expected weight_decay from 0 to 1. Received {self.weight_decay}.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"Expected seed from 0 to 4294967295. Received {self.seed}.")
        if self.cache is not None and self.cache.startswith("gs://"):
            raise ConfigError("Expected cache to be a local folder. Received a gs:// location.")
        compile_group_regex(self.group_regex)
        self.recipe()

    def recipe(self) -> PixelRecipe:
        """Return how files become the network's pixels."""
        return PixelRecipe(
            height=self.size,
            width=self.size,
            color=self.color,
            resize=self.resize,
            equalize=self.equalize,
        )

    def cache_folder(self) -> str:
        """Return where the arrays lie: `cache`, else $WETREAD_CACHE, else RUN/cache."""
        return self.cache or os.environ.get("WETREAD_CACHE") or os.path.join(self.output, "cache")

    def to_json(self) -> str:
        """Write the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read a configuration. Raises ConfigError naming what is unknown, missing or malformed."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"Expected a configuration in JSON. Received text that is not: {error}."
            ) from error
        return build_dataclass(cls, values)


def find_difference(old: TrainConfig, new: TrainConfig) -> tuple[str, Any, Any] | None:
    """Name the first field that changes what is trained, with its old and new value; None: they agree.

    Where the data, the run and the cache lie changes nothing: the data's own fingerprint is compared.
    """
    for f in dataclasses.fields(TrainConfig):
        before, after = getattr(old, f.name), getattr(new, f.name)
        if before != after and f.name not in ("data", "output", "cache"):
            return f.name, before, after
    return None


def _make_absolute(location: str | None) -> str | None:
    if location is None or location.startswith("gs://"):
        return location
    if not location:
        raise ConfigError("Expected the name of a folder for data, output and cache. Received an empty one.")
    return os.path.abspath(location)


def _expect_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"Expected {name} to be one of {', '.join(choices)}. Received {value!r}.")
