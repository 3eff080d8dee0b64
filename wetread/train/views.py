"""Learn from images without labels: two views of one image shall be told from views of all others.

SimCLR (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations"): a
network's features go through a small projection; of each view, the other view of its image must be the most
similar among all views of the batch. The projection is thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.train.run import Variables
from wetread.train.training_state import explaining_memory

if TYPE_CHECKING:
    import keras

# What similarities are divided by. Small: hard pairs count most.
TEMPERATURE = 0.2
_HIDDEN, _PROJECTED = 128, 64  # units
_NEVER = -1e9
_OF_FEATURES = 2  # axes: images, features


class ViewLearner:
    """A network whose body learns from pairs of views, its projection and its optimizer.

    `model`: a network that ends in a dense layer, which neither learns nor is used. Raises ConfigError for a
    network that ends in something else.
    """

    def __init__(self, model: keras.Model, *, optimizer: Any) -> None:
        keras = import_keras()
        import tensorflow

        last = model.layers[-1]
        if type(last).__name__ != "Dense" or len(last.input.shape) != _OF_FEATURES:
            raise ConfigError(
                f"The network ends in {last.name!r} ({type(last).__name__}). To learn without labels it "
                "must end in keras.layers.Dense on one row of features for each image."
            )
        if not any(layer.trainable_weights for layer in model.layers[:-1]):
            raise ConfigError("The network has nothing to train before its last layer: take another.")
        hidden = keras.layers.Dense(_HIDDEN, use_bias=False, name="projection_hidden")(last.input)
        hidden = keras.layers.BatchNormalization(name="projection_norm")(hidden)
        projected = keras.layers.Dense(_PROJECTED, name="projection")(keras.layers.ReLU()(hidden))
        self.model = model
        self._projecting = keras.Model(model.inputs, projected)
        self._optimizer = optimizer
        self._optimizer.build(self._projecting.trainable_variables)
        self._step = tensorflow.function(self._learn)

    def learn(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
        """Take one step on two views of each image, float32 (N, H, W, C) from 0 to 1.

        Returns the loss, and of how many views (0 to 1) the other view of the image was the most similar.
        Raises ConfigError if the memory does not suffice.
        """
        with explaining_memory(one):
            loss, matched = self._step(np.concatenate([one, other]))
        return float(loss), float(matched)

    def _learn(self, views: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, matched = contrast(self._projecting(views, training=True))
        weights = self._projecting.trainable_variables
        self._optimizer.apply(tape.gradient(loss, weights), weights)
        return loss, matched

    def list_variables(self) -> Variables:
        """Return all variables: the network's, the projection's and the optimizer's."""
        return {f"{index:04}": np.asarray(variable) for index, variable in enumerate(self._variables())}

    def restore_variables(self, saved: Variables) -> None:
        """Restore what `list_variables` returned. Raises ConfigError if it is from another network."""
        variables, keys = self._variables(), sorted(saved)
        if [tuple(variable.shape) for variable in variables] != [saved[key].shape for key in keys]:
            raise ConfigError(
                "This is not the architecture that the run began with. Restore it, or start a new run in "
                "another --output."
            )
        for variable, key in zip(variables, keys, strict=True):
            variable.assign(saved[key])

    def _variables(self) -> list[Any]:
        found = [*self.model.variables, *self._projecting.variables, *self._optimizer.variables]
        return list({id(variable): variable for variable in found}.values())


def contrast(projected: Any) -> tuple[Any, Any]:
    """Return the loss of projected views, float32 (2N, D), and how many (0 to 1) match their images best.

    Row i and row N + i are views of one image.
    """
    import tensorflow as tf

    rows = tf.math.l2_normalize(projected, axis=1)
    count = tf.shape(rows)[0]
    alike = tf.matmul(rows, rows, transpose_b=True) / TEMPERATURE
    alike = tf.linalg.set_diag(alike, tf.fill([count], _NEVER))  # no view is compared with itself
    wanted = tf.math.floormod(tf.range(count) + count // 2, count)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=wanted, logits=alike))
    found = tf.argmax(alike, axis=1, output_type=wanted.dtype)
    return loss, tf.reduce_mean(tf.cast(found == wanted, tf.float32))
