"""The state of training that a resumed run needs: weights, their moving average, the best weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.batches import Batch, encode_targets
from wetread.train.devices import share_batch
from wetread.train.distillation import join_targets
from wetread.train.kept_outputs import KeptOutputs
from wetread.train.run import Variables

if TYPE_CHECKING:
    import keras

_BEST = "best/"


class Learner:
    """A compiled network, the moving average of its weights where `ema` is above 0, and its best weights.

    The average includes the statistics of batch norms, which belong to the weights (Keras' own `use_ema`
    leaves them out). After n steps a step keeps min(ema, (1 + n) / (10 + n)) of it, so that the initial
    weights do not dominate the first epochs.
    """

    def __init__(self, model: keras.Model, *, ema: float = 0.0) -> None:
        self.model = model
        self.best: list[NDArray[Any]] = []
        self._outputs = model.output_shape[-1]
        self._ema = ema
        self._kept: KeptOutputs | None = None
        self._average = _make_average(model) if ema else []
        self.follow_optimizer()

    def follow_optimizer(self) -> None:
        """Count the steps of the network's optimizer, a new one after it was compiled again."""
        self._follow = _compile_average(self.model, self._average, self._ema) if self._ema else None

    def learn(self, batch: Batch) -> float:
        """Take one step; return the loss. Raises ConfigError if the memory does not suffice."""
        if self._kept is None:
            self._kept = KeptOutputs(self.model, batch_size=len(batch.images))
        targets = encode_targets(batch.targets, self._outputs)
        if batch.answers is not None:
            targets = join_targets(targets, batch.answers)
        with explaining_memory(batch.images):
            loss = self._step(batch.images, targets, batch.weights)
        if self._follow is not None:
            self._follow()
        return loss

    def read_outputs(self) -> NDArray[np.float32]:
        """Return the outputs for the images of the last step, float32 (N, outputs), as it trained on them."""
        if self._kept is None:
            raise ValueError("There is no step yet: call learn first.")
        return self._kept.read()

    def _step(self, *arrays: NDArray[Any]) -> float:
        """Take one step on images, targets and weights; several devices share it."""
        strategy = self.model.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            images, targets, weights = arrays
            return float(self.model.train_on_batch(images, targets, sample_weight=weights))
        # Keras' train_on_batch would give each device the whole batch.
        shared = tuple(share_batch(strategy, array) for array in arrays)
        self.model.make_train_function()
        self.model.reset_metrics()
        return float(self.model.train_function(iter([shared]))["loss"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights in this context, to validate and to save; then restore the weights."""
        with self._put([np.asarray(variable) for variable in self._average]):
            yield

    @contextmanager
    def kept(self, *, best: bool) -> Iterator[None]:
        """Use the weights that the run keeps in this context: the best epoch's, or the last one's average."""
        with self.averaged(), self._put(self.best if best else []):
            yield

    @contextmanager
    def _put(self, weights: list[NDArray[Any]]) -> Iterator[None]:
        """Use these weights in this context, or the present ones if the list is empty; then restore those."""
        if not weights:
            yield
            return
        before = self.model.get_weights()
        self.model.set_weights(weights)
        try:
            yield
        finally:
            self.model.set_weights(before)

    def keep_best(self) -> None:
        """Remember the present weights as the best ones (within `averaged`: the average)."""
        self.best = [weight.copy() for weight in self.model.get_weights()]

    def list_variables(self) -> Variables:
        """Return everything: weights, batch norms' averages, seeds, optimizer, average and best."""
        found = {f"{index:04}": np.asarray(variable) for index, variable in enumerate(self._variables())}
        return found | {f"{_BEST}{index:04}": weight for index, weight in enumerate(self.best)}

    def restore_variables(self, saved: Variables) -> None:
        """Restore what `list_variables` returned. Raises ConfigError if it is from another network."""
        variables = self._variables()
        keys = sorted(key for key in saved if not key.startswith(_BEST))
        if [tuple(variable.shape) for variable in variables] != [saved[key].shape for key in keys]:
            raise ConfigError(
                f"This is not the architecture that the run began with: its {len(variables)} variables "
                f"differ from the {len(keys)} saved. Restore the architecture, or start a new run in another "
                "--output."
            )
        for variable, key in zip(variables, keys, strict=True):
            variable.assign(saved[key])
        self.best = [saved[key] for key in sorted(saved) if key.startswith(_BEST)]

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables, *self._average]


@contextmanager
def explaining_memory(images: NDArray[np.float32]) -> Iterator[None]:
    """Raise ConfigError where a GPU's or this machine's memory does not suffice for a step on `images`."""
    import tensorflow

    try:
        yield
    except tensorflow.errors.ResourceExhaustedError as error:
        count, height, width = images.shape[:3]
        raise ConfigError(
            f"The memory does not suffice for a step with {count} images of {height} x {width}. Give a "
            f"smaller --batch-size, such as {max(1, count // 4)}."
        ) from error


def check_finite(model: keras.Model, loss: float, *, epoch: int) -> None:
    """Raise ConfigError where an epoch's loss or the weights after it are no longer finite.

    On some processors a ReLU turns NaN into 0, so the loss alone does not show it.
    """
    if not (math.isfinite(loss) and all(np.isfinite(weight).all() for weight in model.get_weights())):
        raise ConfigError(
            f"Training diverged in epoch {epoch}: the loss is {loss}, or some weights are not finite. "
            "Lower --learning-rate."
        )


def _make_average(model: keras.Model) -> list[Any]:
    keras = import_keras()
    with model.distribute_strategy.scope():
        return [keras.Variable(weight, dtype=weight.dtype, trainable=False) for weight in model.weights]


def _compile_average(model: keras.Model, average: list[Any], ema: float) -> Any:
    """Return a function that updates the average after a step, in one call of TensorFlow."""
    import tensorflow

    def follow() -> None:
        steps = tensorflow.cast(model.optimizer.iterations.value, "float32")
        kept = tensorflow.minimum(ema, (1 + steps) / (10 + steps))
        for mean, weight in zip(average, model.weights, strict=True):
            mean.assign(kept * mean + (1 - kept) * weight)

    return tensorflow.function(follow)
