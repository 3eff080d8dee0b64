"""Choose the device to train on: a CPU, a GPU, or several GPUs that share each batch; float32 or float16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
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
    """Check that this machine can train a configuration. Raises ConfigError."""
    gpus = list_gpus()
    if config.mixed_precision and not gpus:
        raise ConfigError(
            "--mixed-precision needs a GPU, and TensorFlow finds none here; a CPU is slower in float16. "
            "Leave the option out."
        )
    if len(gpus) > 1 and config.batch_size % len(gpus):
        raise ConfigError(
            f"A batch_size of {config.batch_size} cannot be shared equally by {len(gpus)} GPUs. "
            "Choose a multiple, or hide GPUs with CUDA_VISIBLE_DEVICES."
        )


def choose_strategy() -> Any:
    """Return TensorFlow's strategy: mirrored if there are several GPUs, else the default one."""
    gpus = list_gpus()
    import tensorflow

    return (
        tensorflow.distribute.MirroredStrategy(gpus)
        if len(gpus) > 1
        else tensorflow.distribute.get_strategy()
    )


@contextmanager
def build_in(strategy: Any, *, mixed: bool) -> Iterator[None]:
    """Build networks in this context on the strategy's devices and, if `mixed`, in float16."""
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
    """Copy a network with its weights, uncompiled and in float32, to save it."""
    plain = type(model).from_config(_replace_policy(model.get_config()))
    plain.set_weights(model.get_weights())
    return plain


def _replace_policy(config: Any) -> Any:
    """Replace mixed precision by float32 in a configuration of layers."""
    if isinstance(config, dict):
        return {name: _replace_policy(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_replace_policy(value) for value in config)
    return "float32" if config == _MIXED else config


def share_batch(strategy: Any, array: np.ndarray) -> Any:
    """Split a batch, (N, ...), into equal parts, one for each device of a strategy."""
    parts = np.split(array, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
