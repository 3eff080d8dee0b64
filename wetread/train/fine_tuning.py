"""Train a network that was trained before, in two stages: first its last layer alone, then the rest as well.

While the body is frozen, the new last layer learns what the old layers see; then these follow, at a smaller
learning rate. Batch norms stay frozen in both stages: they normalize by the statistics that they came with,
as Keras' guide to transfer learning says, and their scale and offset do not train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wetread.errors import ConfigError
from wetread.train.config import TrainConfig
from wetread.train.events import OnEvent, StageStarted
from wetread.train.network import compile_network
from wetread.train.pretrained import list_leaves
from wetread.train.training_state import Learner

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Stage:
    """Epochs of a run, from `first` to `last`, in which the same layers train.

    `config`: the run's, with the epochs and the learning rate of the stage.
    """

    first: int
    last: int
    config: TrainConfig


def plan_stages(config: TrainConfig) -> list[Stage]:
    """Return the stages of a run: frozen, then fine-tuned; none without weights that were trained before."""
    if not config.has_stages:
        return []
    frozen, epochs, stages = config.freeze_epochs or 0, config.epochs, []
    # Each stage is a run of its own to the optimizer: its learning rate falls to 0. Only the first warms up.
    if frozen:
        stages.append(Stage(1, frozen, replace(config, epochs=frozen, freeze_epochs=None)))
    if frozen < epochs:
        tuned = replace(
            config,
            warmup=0.0 if frozen else config.warmup,
            epochs=epochs - frozen,
            freeze_epochs=None,
            learning_rate=config.fine_tune_learning_rate or config.learning_rate,
        )
        stages.append(Stage(frozen + 1, epochs, tuned))
    return stages


class Stages:
    """The stages of a network's run, and the one that it is compiled for.

    Raises ConfigError for a `fine_tune_at` that the network has not, before an epoch is trained.
    """

    def __init__(self, config: TrainConfig, model: keras.Model, *, steps: int) -> None:
        self._config = config
        self._steps = steps
        self._stages = plan_stages(config)
        self._present: Stage | None = None
        self._told: Stage | None = None
        self._leaves: list[Any] = list(list_leaves(model)) if self._stages else []
        self._built = [bool(layer.trainable) for layer in self._leaves]  # a user's network may freeze some
        self._start = find_start(model, config) if self._stages else 0

    def enter(self, learner: Learner, epoch: int) -> None:
        """Compile a network for the stage of an epoch, unless it already is."""
        stage = next((one for one in self._stages if one.first <= epoch <= one.last), None)
        if stage is None or stage == self._present:
            return
        frozen = epoch <= (self._config.freeze_epochs or 0)
        self._mark_trainable(start=None if frozen else self._start)
        compile_network(learner.model, stage.config, steps=self._steps)
        learner.follow_optimizer()
        self._present = stage

    def _mark_trainable(self, *, start: int | None) -> None:
        """Let the last layer with weights train, and from `start` on those before it that are no batch norms.

        A layer that was built frozen stays so.
        """
        head = max(place for place, layer in enumerate(self._leaves) if layer.weights)
        for place, (layer, built) in enumerate(zip(self._leaves, self._built, strict=True)):
            tuned = start is not None and place >= start and type(layer).__name__ != "BatchNormalization"
            layer.trainable = place >= head or (tuned and built)

    def leave(self) -> None:
        """Mark layers as they were before the first stage: so they are saved."""
        for layer, built in zip(self._leaves, self._built, strict=True):
            layer.trainable = built

    def tell(self, model: keras.Model, on_event: OnEvent) -> None:
        """Describe the present stage as an event, once."""
        if self._present is not None and self._present != self._told:
            on_event(self._describe(model, self._present))
        self._told = self._present

    def _describe(self, model: keras.Model, stage: Stage) -> StageStarted:
        return StageStarted(
            first_epoch=stage.first,
            last_epoch=stage.last,
            trained=sum(int(weight.shape.num_elements()) for weight in model.trainable_weights),
            parameters=model.count_params(),
            learning_rate=stage.config.learning_rate,
        )


def begin_stage(stages: Stages, learner: Learner, epoch: int, on_event: OnEvent) -> None:
    """Compile the network for the stage of an epoch, if it is another one, and say so.

    A run that is resumed within a stage says so, too.
    """
    stages.enter(learner, epoch)
    stages.tell(learner.model, on_event)


def find_start(model: keras.Model, config: TrainConfig) -> int:
    """Find the place of the layer from which a network is fine-tuned. Raises ConfigError.

    `config.fine_tune_at` is its name or number. 1 is the first after a backbone's preprocessing; 0 and None
    are the whole network.
    """
    wanted, names = config.fine_tune_at, [layer.name for layer in list_leaves(model)]
    if wanted in (None, "0"):
        return 0
    if wanted in names:
        return names.index(wanted)
    skipped = _count_preparing(model) if config.backbone else 0
    if wanted.isascii() and wanted.isdigit() and int(wanted) <= len(names) - skipped:
        return max(0, skipped + int(wanted) - 1)
    shown = ", ".join(names[skipped:])
    shown = shown if len(shown) < 300 else f"{shown[:140]} ... {shown[-140:]}"
    raise ConfigError(
        f"fine_tune_at {wanted!r} is no layer of {config.network}: give a number up to "
        f"{len(names) - skipped} or a name, of {shown}."
    )


def _count_preparing(model: keras.Model) -> int:
    """How many layers of a backbone's network prepare pixels: those up to its Rescaling."""
    kinds = [type(layer).__name__ for layer in list_leaves(model)]
    return kinds.index("Rescaling") + 1
