"""What a network trains on: one device, or several GPUs that share each batch; in float32 or float16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread.backend import import_keras
from wetread.errors import ConfigError
from wetread.train.config import TrainConfig

if TYPE_CHECKING:
    import keras

_MIXED = "mixed_float16"


def list_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow can use."""
    import_keras()
    import tensorflow

    return [device.name for device in tensorflow.config.list_logical_devices("GPU")]


def check_devices(config: TrainConfig) -> None:
    """Hold a configuration to this machine. Raises ConfigError."""
    gpus = list_gpus()
    if config.mixed_precision and not gpus:
        raise ConfigError(
            "Expected a GPU with --mixed-precision. Received none that TensorFlow can use; a CPU is slower "
            "in float16. Leave the option out."
        )
    if len(gpus) > 1 and config.batch_size % len(gpus):
        raise ConfigError(
            f"Expected a batch_size that {len(gpus)} GPUs can share alike. Received {config.batch_size}. "
            "Choose a multiple, or hide GPUs with CUDA_VISIBLE_DEVICES."
        )


def choose_strategy() -> Any:
    """Return TensorFlow's strategy: mirrored over the GPUs where there are several, else its default."""
    gpus = list_gpus()
    import tensorflow

    return (
        tensorflow.distribute.MirroredStrategy(gpus)
        if len(gpus) > 1
        else tensorflow.distribute.get_strategy()
    )


@contextmanager
def build_in(strategy: Any, *, mixed: bool) -> Iterator[None]:
    """Make what is built within live on the strategy's devices and, if `mixed`, compute in float16."""
    keras = import_keras()
    before = keras.config.dtype_policy()
    with strategy.scope():
        keras.config.set_dtype_policy(_MIXED if mixed else before)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def finish_in_float32(model: keras.Model) -> None:
    """Let the last layer of a network in mixed precision compute in float32: float16 is coarse for logits."""
    last = model.layers[-1]
    if last.dtype_policy.name == _MIXED:
        last.dtype_policy = "float32"


def copy_plain(model: keras.Model) -> keras.Model:
    """Copy a network, uncompiled and in float32, with its weights: what is saved."""
    plain = type(model).from_config(_replace_policy(model.get_config()))
    plain.set_weights(model.get_weights())
    return plain


def _replace_policy(config: Any) -> Any:
    """A configuration with float32 wherever a layer computes in mixed precision."""
    if isinstance(config, dict):
        return {name: _replace_policy(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_replace_policy(value) for value in config)
    return "float32" if config == _MIXED else config


def share_batch(strategy: Any, array: np.ndarray) -> Any:
    """Give each device of a strategy its part of a batch, (N, ...), all parts alike."""
    parts = np.split(array, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
