"""Read the outputs that a network computes while it trains, without computing them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras


class KeptOutputs:
    """Lets a compiled network keep its outputs for the batch that it trains on.

    They are those of the forward pass of the step: before its update, with dropout and augmentation. The
    step itself, and so the history, stays the same: its function stores them beside the metrics.
    """

    def __init__(self, model: keras.Model, *, batch_size: int) -> None:
        import tensorflow

        self._strategy = model.distribute_strategy
        shape = (batch_size // self._strategy.num_replicas_in_sync, model.output_shape[-1])
        with self._strategy.scope():
            kept = tensorflow.Variable(
                tensorflow.zeros(shape),
                trainable=False,
                synchronization=tensorflow.VariableSynchronization.ON_READ,
                aggregation=tensorflow.VariableAggregation.NONE,
            )
        measure = model.compute_metrics

        def keep_and_measure(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            kept.assign(tensorflow.cast(y_pred, "float32"))
            return measure(x, y, y_pred, sample_weight)

        model.compute_metrics = keep_and_measure
        self._kept = kept

    def read(self) -> NDArray[np.float32]:
        """Return the outputs of the last step, float32 (N, outputs), in the order of its images."""
        parts = self._strategy.experimental_local_results(self._kept)
        return np.concatenate([part.numpy() for part in parts])
