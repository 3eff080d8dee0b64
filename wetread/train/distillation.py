"""The loss of a network that learns from a teacher's answers as well as from the labels.

With z the network's logits, q the teacher's answers at temperature T, and s the share of the teacher:

    loss = (1 - s) * loss(label, z) + s * T^2 * crossentropy(q, z / T)

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network": T^2 keeps the gradients of the
second part as large as they are at T = 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wetread.keras_backend import import_keras

_LEAST = 1e-7  # a probability, of which the logarithm is taken


def soften(probabilities: list[NDArray[np.float32]], *, temperature: float) -> NDArray[np.float32]:
    """Average the answers of networks, float32 (N, K) each, as logits are averaged, and soften them.

    Returns float32 (N, K); rows sum to 1. A temperature above 1 moves answers towards 1/K.
    """
    logs = [np.log(np.maximum(answers.astype(np.float64), _LEAST)) for answers in probabilities]
    mean = sum(logs[1:], start=logs[0]) / (len(logs) * temperature)
    raised = np.exp(mean - mean.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def join_targets(targets: NDArray[np.float32], answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the labels' targets, (N, outputs), and a teacher's answers, (N, K), side by side: (N, 2 outputs).

    Of two labels a network with one output has the second's probability.
    """
    soft = answers[:, 1:] if targets.shape[1] == 1 else answers
    return np.concatenate([targets, soft], axis=1)


def make_distillation_loss(hard: Any, outputs: int, *, head: str, share: float, temperature: float) -> Any:
    """Return a Keras loss for the targets of `join_targets`.

    `hard`: the Keras loss of the labels, for a network with so many `outputs` that ends in `head`: 'logits',
    'sigmoid' or 'softmax'.
    """
    keras = import_keras()
    ops = keras.ops

    class DistillationLoss(keras.losses.Loss):  # type: ignore[misc, name-defined]
        def call(self, y_true: Any, y_pred: Any) -> Any:
            labels, answers = y_true[:, :outputs], y_true[:, outputs:]
            logits = y_pred if head == "logits" else _find_logits(ops, y_pred, outputs)
            logits = logits / temperature
            if outputs == 1:
                soft = ops.mean(ops.binary_crossentropy(answers, logits, from_logits=True), axis=-1)
            else:
                soft = ops.categorical_crossentropy(answers, logits, from_logits=True)
            return (1 - share) * hard.call(labels, y_pred) + share * temperature**2 * soft

    return DistillationLoss(name="distillation")


def _find_logits(ops: Any, probabilities: Any, outputs: int) -> Any:
    """The logits of a sigmoid's or a softmax's outputs."""
    logs = ops.log(ops.maximum(probabilities, _LEAST))
    return logs - ops.log(ops.maximum(1 - probabilities, _LEAST)) if outputs == 1 else logs
