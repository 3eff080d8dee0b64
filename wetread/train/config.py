"""TrainConfig: every option of a training run, saved beside the weights as config.json."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from wetread.errors import ConfigError
from wetread.evaluate.patients import DEFAULT_GROUP_REGEX, compile_group_regex
from wetread.evaluate.threshold import parse_rule
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import build_dataclass
from wetread.train.label_weights import parse_weights

COLORS = ("gray", "rgb")
RESIZES = ("stretch", "fit", "crop")
SCHEDULES = ("cosine", "constant")
LOSSES = ("crossentropy", "focal")
PRESETS = ("xray", "photo", "document", "texture")
METRICS = ("loss", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auc")

# The default of options that `wetread.train.defaults` chooses by looking at the data: None until it has.
BY_DATA: Any = None
CHOSEN = ("color", "size", "augment", "architecture", "epochs", "batch_size", "learning_rate")
EDGE = "edge"
STAGE_OPTIONS = ("freeze_epochs", "fine_tune_at", "fine_tune_learning_rate")
FOCAL_GAMMA = 2.0  # Lin et al. 2017, "Focal Loss for Dense Object Detection": their best
LABELS, VIEWS = "labels", "views"
TEACHER_SHARE, TEACHER_TEMPERATURE = 0.7, 1.0  # docs/guides/teachers.md

# The range of each number, as in mathematics: '[' and ']' include the end, '(' and ')' exclude it.
_RANGES = {
    "size": ("[", 8, math.inf, ")"),
    "epochs": ("[", 1, math.inf, ")"),
    "batch_size": ("[", 1, math.inf, ")"),
    "subset": ("[", 4, math.inf, ")"),
    "folds": ("[", 2, 100, "]"),
    "early_stopping": ("[", 1, math.inf, ")"),
    "validation": ("(", 0, 1, ")"),
    "calibration_split": ("[", 0, 1, ")"),
    "learning_rate": ("(", 0, 10, "]"),
    "weight_decay": ("[", 0, 1, "]"),
    "warmup": ("[", 0, math.inf, ")"),
    "ema": ("[", 0, 1, ")"),
    "focal_gamma": ("[", 0, 20, "]"),
    "label_smoothing": ("[", 0, 1, ")"),
    "teacher_share": ("(", 0, 1, "]"),
    "teacher_temperature": ("[", 0.1, 100, "]"),
    "seed": ("[", 0, 2**32, ")"),
    "freeze_epochs": ("[", 0, math.inf, ")"),
    "fine_tune_learning_rate": ("(", 0, 10, "]"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The options of `wetread train`.

    Options in CHOSEN that are not given are None until `train` has looked at the data, which chooses them by
    the kind of images that it finds, or by `preset`: 'xray', 'photo', 'document' or 'texture'. `reasons` says
    why each was chosen.

    `objective`: what is learned, 'labels' or, by `wetread pretrain`, 'views' of the same image.

    Data. `data`: DATA/<label>/* or DATA/{train,val,test}/<label>/*. `output`: the RUN directory. Both may be
    gs:// locations; local ones are made absolute, so that the run can be resumed and exported from anywhere.
    `labels`: a file with the columns path and label, as `wetread review` writes it; the images are anywhere
    below `data`. `validation`: the fraction of images to validate on, if there is no DATA/val.
    `calibration_split`: the fraction of patients who neither train nor validate; temperature and threshold
    are fitted on them, by `threshold_rule` (default: 'balanced'; 'fixed X' needs no patients set aside).
    `group_regex` finds the patient in a name. `subset`: train on about this many images. `positive`: one of
    two labels. `folds`: first train this many networks, each without one fold of the patients
    (`wetread.train.folds`); `fold`: the fold that this run leaves out, set by wetread itself.
    `near_identical`: find images that are one picture saved twice and keep them on one side. `cache`: folder
    of arrays (default: $WETREAD_CACHE or RUN/cache).

    Pixels. `size` in pixels, square. `color`, `resize`, `equalize`: as in `PixelRecipe`. `augment`: a name of
    `wetread.train.augment.POLICIES` or a TOML file.

    Network. `architecture`: a name of `wetread.train.architectures` or 'module:function'; or a `backbone`
    of `wetread.train.backbones`. `weights`: 'none', 'imagenet', a file or a run; their SHA-256 is saved as
    `weights_digest`, and what a run learned as `weights_objective`. With weights, all but the last layer is
    frozen for `freeze_epochs`; afterwards the layers from `fine_tune_at` on, a layer's name or number, train
    at `fine_tune_learning_rate`. Those that are not given are chosen as in CHOSEN; `fine_tune_at` None is the
    first layer. From weights that learned views, all of the network trains from the start.

    Loss. `class_weight`: 'balanced' gives every label the same total weight, 'NORMAL=1,PNEUMONIA=0.5' each
    its own (alpha in the paper on focal loss). `loss`: 'focal' gives less weight to images that are already
    right, the less the larger `focal_gamma` is. `label_smoothing`: as in Keras. `teacher`: runs or model
    files, separated by commas (`join_teachers`), from whose answers for each augmented view the network
    learns as well (`wetread.train.distillation`); `teacher_share`: the part of the loss that they have; a
    `teacher_temperature` above 1 softens their answers.

    Optimizer. `learning_rate`: the peak of the `schedule`, reached after `warmup` epochs. `weight_decay`:
    AdamW's. `ema`: momentum of the moving average of weights, 0 for none.

    Which epoch. `best`: keep the epoch with the best validation value of this metric, not the last epoch.
    `early_stopping`: stop after this many epochs without a better one, by `best` or the validation loss.

    The run. `seed`: of every random number. `mixed_precision`: compute in float16 on a GPU. `tensorboard`:
    also write the curves to RUN/logs.

    Raises ConfigError.
    """

    data: str
    output: str
    objective: str = LABELS
    preset: str | None = None
    labels: str | None = None
    validation: float = 0.1
    calibration_split: float = 0.0
    threshold_rule: str | None = None
    group_regex: str = DEFAULT_GROUP_REGEX
    subset: int | None = None
    positive: str | None = None
    folds: int | None = None
    fold: int | None = None
    near_identical: bool = True
    cache: str | None = None

    size: int = BY_DATA
    color: str = BY_DATA
    resize: str = "stretch"
    equalize: str = "none"
    augment: str = BY_DATA

    architecture: str = BY_DATA
    backbone: str | None = None
    weights: str = "none"
    weights_digest: str | None = None
    weights_objective: str | None = None
    freeze_epochs: int | None = None
    fine_tune_at: str | None = None
    fine_tune_learning_rate: float | None = None

    class_weight: str = "balanced"
    loss: str = "crossentropy"
    focal_gamma: float = FOCAL_GAMMA
    label_smoothing: float = 0.0
    teacher: str | None = None
    teacher_share: float = TEACHER_SHARE
    teacher_temperature: float = TEACHER_TEMPERATURE

    epochs: int = BY_DATA
    batch_size: int = BY_DATA
    learning_rate: float = BY_DATA
    schedule: str = "cosine"
    warmup: float = 0.0
    weight_decay: float = 1e-2
    ema: float = 0.0

    best: str | None = None
    early_stopping: int | None = None

    seed: int = 0
    mixed_precision: bool = False
    tensorboard: bool = False

    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "output", "cache", "labels"):
            object.__setattr__(self, name, _make_absolute(getattr(self, name)))
        for name, choices in (("preset", PRESETS), ("color", COLORS), ("best", METRICS)):
            if getattr(self, name) is not None:
                _expect_choice(name, getattr(self, name), choices)
        _expect_choice("resize", self.resize, RESIZES)
        _expect_choice("objective", self.objective, (LABELS, VIEWS))
        parse_weights(self.class_weight)
        _expect_choice("schedule", self.schedule, SCHEDULES)
        _expect_choice("loss", self.loss, LOSSES)
        for name, limits in _RANGES.items():
            _expect_range(name, getattr(self, name), limits)
        if self.focal_gamma != FOCAL_GAMMA and self.loss != "focal":
            raise ConfigError(f"focal_gamma {self.focal_gamma:g} needs loss 'focal', not {self.loss!r}.")
        self._check_network()
        self._check_teacher()
        self._check_stages()
        self._check_calibration()
        self._check_places()
        if self.fold is not None and not 0 <= self.fold < (self.folds or 0):
            raise ConfigError(f"fold must be below folds, {self.folds}, not {self.fold}.")
        if self.epochs is not None and self.warmup >= self.epochs:
            raise ConfigError(
                f"warmup must be shorter than the {self.epochs} epochs of the run, not {self.warmup}."
            )
        compile_group_regex(self.group_regex)
        if self.color is not None and self.size is not None:
            self.recipe()

    def _check_network(self) -> None:
        if self.backbone is not None and self.architecture not in (BY_DATA, EDGE):
            raise ConfigError(
                f"backbone {self.backbone!r} and architecture {self.architecture!r} are both networks: "
                "name only one of them."
            )
        if self.fine_tune_at is not None:  # from Python it may be a number
            object.__setattr__(self, "fine_tune_at", str(self.fine_tune_at))
        if self.weights not in ("none", "imagenet"):
            object.__setattr__(self, "weights", _make_absolute(self.weights))

    def _check_teacher(self) -> None:
        if self.teacher is not None:
            names = [_make_absolute(name) or "" for name in split_teachers(self.teacher)]
            object.__setattr__(self, "teacher", join_teachers(names))
        elif (self.teacher_share, self.teacher_temperature) != (TEACHER_SHARE, TEACHER_TEMPERATURE):
            raise ConfigError(
                "teacher_share and teacher_temperature are about a teacher: give teacher as well."
            )

    def _check_stages(self) -> None:
        given = [name for name in STAGE_OPTIONS if getattr(self, name) is not None]
        if given and not self.is_pretrained:
            raise ConfigError(f"{given[0]} is for a network that was trained before: give weights as well.")
        if self.epochs is None or self.freeze_epochs is None:
            return
        if self.freeze_epochs > self.epochs:
            raise ConfigError(
                f"freeze_epochs must be at most the {self.epochs} epochs of the run, not "
                f"{self.freeze_epochs}."
            )
        if self.fine_tune_at is not None and self.freeze_epochs == self.epochs:
            raise ConfigError(
                f"fine_tune_at {self.fine_tune_at!r} is of the epochs after the frozen ones, and all "
                f"{self.epochs} are frozen. Give more epochs, or fewer freeze_epochs."
            )
        if 0 < self.freeze_epochs <= self.warmup:
            raise ConfigError(
                f"warmup must be shorter than the {self.freeze_epochs} freeze_epochs, not {self.warmup}."
            )

    def _check_places(self) -> None:
        if self.tensorboard and self.output.startswith("gs://"):
            raise ConfigError(
                f"tensorboard needs a local output, not a bucket: {self.output!r}. Leave tensorboard out."
            )
        if self.cache is not None and self.cache.startswith("gs://"):
            raise ConfigError("cache must be a local folder, not a gs:// location.")

    def _check_calibration(self) -> None:
        if self.validation + self.calibration_split >= 1:
            raise ConfigError(
                f"A calibration_split of {self.calibration_split} and a validation of {self.validation} "
                "leave nothing to train on. Their sum must be below 1."
            )
        if self.calibration_split and self.folds:
            raise ConfigError(
                "calibration_split cannot be used with folds: they already hold every image out once."
            )
        if self.threshold_rule is not None:
            rule = parse_rule(self.threshold_rule)
            if rule.kind != "fixed" and not (self.calibration_split or self.folds):
                raise ConfigError(
                    f"threshold_rule {self.threshold_rule!r} needs images set aside: add calibration_split "
                    "or folds, or give a number, such as 'fixed 0.5'."
                )

    @property
    def is_pretrained(self) -> bool:
        """Whether the network begins with weights that were trained before."""
        return self.weights != "none"

    @property
    def has_stages(self) -> bool:
        """Whether the last layer trains alone at first: not if the weights were learned without labels."""
        return self.is_pretrained and self.weights_objective != VIEWS

    @property
    def is_settled(self) -> bool:
        """Whether every option has a value: given, or chosen by looking at the data."""
        return all(getattr(self, name) is not None for name in CHOSEN)

    def recipe(self) -> PixelRecipe:
        """Return how files become the network's pixels. Raises ConfigError while color or size is open."""
        if self.color is None or self.size is None:
            raise ConfigError(
                "color and size are not chosen yet: give both, or let wetread.train.defaults.settle look at "
                "the data."
            )
        return PixelRecipe(
            height=self.size,
            width=self.size,
            color=self.color,
            resize=self.resize,
            equalize=self.equalize,
        )

    @property
    def network(self) -> str:
        """The name of the network: the backbone's or the architecture's."""
        return self.backbone or self.architecture

    def cache_folder(self) -> str:
        """Return the folder of the arrays: `cache`, else $WETREAD_CACHE, else RUN/cache."""
        return self.cache or os.environ.get("WETREAD_CACHE") or os.path.join(self.output, "cache")

    def to_json(self) -> str:
        """Write the configuration as indented JSON, without options that are still to be chosen."""
        values = dataclasses.asdict(self)
        open_ones = {name for name in CHOSEN if values[name] is None}
        values = {name: value for name, value in values.items() if name not in open_ones}
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read a configuration. Raises ConfigError naming what is unknown, missing or malformed."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"This is not a configuration in JSON: {error}.") from error
        return build_dataclass(cls, values)


def find_difference(old: TrainConfig, new: TrainConfig) -> tuple[str, Any, Any] | None:
    """Return the first field that changes the result, with its old and new value; None if there is none.

    The locations of data, labels, run and cache are not compared: what is in data and labels is. Neither is
    `tensorboard`, which only reports, nor the `preset`, whose options are, nor the `reasons`. Of weights
    their digest is compared, and of teachers as well (inputs.json); of teachers and labels here whether
    there are any.
    """
    for name in ("teacher", "labels"):
        before, after = getattr(old, name), getattr(new, name)
        if (before is None) != (after is None):
            return name, before, after
    ignored = ("data", "output", "cache", "labels", "weights", "teacher", "tensorboard", "preset", "reasons")
    for f in dataclasses.fields(TrainConfig):
        before, after = getattr(old, f.name), getattr(new, f.name)
        if before != after and f.name not in ignored:
            return f.name, before, after
    return None


def split_teachers(text: str | None) -> list[str]:
    """Split the names of teachers at single commas; two commas are one in a name. Empty for None."""
    if text is None:
        return []
    names = text.replace(",,", "\0").split(",")
    return [name.lstrip().replace("\0", ",") for name in names]


def join_teachers(names: Iterable[str]) -> str:
    """Write names of teachers as `split_teachers` reads them."""
    return ",".join(name.replace(",", ",,") for name in names)


def _make_absolute(location: str | None) -> str | None:
    if location is None or location.startswith("gs://"):
        return location
    if not location:
        raise ConfigError("The name of data, output, cache, weights or a teacher is empty. Give each a name.")
    return os.path.abspath(location)


def _expect_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def _expect_range(name: str, value: float | None, limits: tuple[str, float, float, str]) -> None:
    """Check that a number is in an interval, written as in mathematics: '[' and ']' include their end."""
    left, low, high, right = limits
    if (
        value is None
        or (low < value < high)
        or (left == "[" and value == low)
        or (right == "]" and value == high)
    ):
        return
    start = f"at least {low:g}" if left == "[" else f"above {low:g}"
    end = "" if high == math.inf else f" and {'at most' if right == ']' else 'below'} {high:,.12g}"
    raise ConfigError(f"{name} must be {start}{end}, not {value}.")
