"""Build, compile, evaluate and save the Keras network of a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ConfigError
from wetread.keras_backend import import_keras
from wetread.runtime.files.atomic import replace_file
from wetread.train.architectures import build_network, find_head
from wetread.train.backbones import build_backbone
from wetread.train.batches import scale_pixels
from wetread.train.config import VIEWS, TrainConfig
from wetread.train.devices import build_in, choose_strategy, copy_plain, finish_in_float32
from wetread.train.distillation import make_distillation_loss
from wetread.train.pretrained import load_weights

if TYPE_CHECKING:
    import keras

_PREDICTION_BATCH = 256


def make_network(config: TrainConfig, outputs: int, *, steps: int) -> keras.Model:
    """Build and compile the network of a run, with initial weights from the seed or from a file.

    `steps`: batches in an epoch, for the schedule. Sets the seeds of Python, NumPy and TensorFlow and, on a
    CPU, makes TensorFlow's operations deterministic, both for the whole process. Raises ConfigError.
    """
    keras = import_keras()
    import tensorflow

    # Each run of a process must compile its own functions; TensorFlow warns about the third.
    tensorflow.get_logger().setLevel("ERROR")
    keras.utils.set_random_seed(config.seed)
    if not tensorflow.config.list_physical_devices("GPU"):
        tensorflow.config.experimental.enable_op_determinism()
    with build_in(choose_strategy(), mixed=config.mixed_precision):
        model = _build(config, outputs)
        finish_in_float32(model)
        if not (config.has_stages or config.objective == VIEWS):  # fine_tuning.py compiles each stage
            compile_network(model, config, steps=steps)
    return model


def compile_network(model: keras.Model, config: TrainConfig, *, steps: int) -> None:
    """Give a network the loss of a configuration and a new optimizer for what is trainable in it."""
    keras = import_keras()
    with model.distribute_strategy.scope():
        model.compile(
            optimizer=make_optimizer(config, steps=steps),
            loss=_make_loss(keras, config, model.output_shape[-1], head=find_head(model)),
        )
        model.optimizer.build(model.trainable_variables)


def _build(config: TrainConfig, outputs: int) -> keras.Model:
    shape = config.recipe().shape
    if config.backbone:
        model = build_backbone(config.backbone, shape, outputs)
    else:
        model = build_network(config.architecture, shape, outputs)
    if config.is_pretrained:
        load_weights(model, config)
    return model


def _make_loss(keras: Any, config: TrainConfig, outputs: int, *, head: str) -> Any:
    """The loss for the targets of `encode_targets`, with a teacher for those of `join_targets`."""
    hard = _make_label_loss(keras, config, outputs, from_logits=head == "logits")
    if config.teacher is None:
        return hard
    share, temperature = config.teacher_share, config.teacher_temperature
    return make_distillation_loss(hard, outputs, head=head, share=share, temperature=temperature)


def _make_label_loss(keras: Any, config: TrainConfig, outputs: int, *, from_logits: bool) -> Any:
    """The loss for the targets of `encode_targets`; alpha of the focal loss is the weight of each image."""
    losses, options = keras.losses, {"from_logits": from_logits, "label_smoothing": config.label_smoothing}
    if config.loss == "crossentropy":
        return (losses.BinaryCrossentropy if outputs == 1 else losses.CategoricalCrossentropy)(**options)
    if outputs == 1:
        return losses.BinaryFocalCrossentropy(gamma=config.focal_gamma, **options)
    return losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=config.focal_gamma, **options)


def make_optimizer(config: TrainConfig, *, steps: int) -> Any:
    """AdamW; after a linear warm-up the learning rate is constant, or decays to 0 on a cosine schedule.

    Biases and norms have no weight decay.
    """
    keras = import_keras()
    rate: Any = config.learning_rate
    rising = round(config.warmup * steps)
    if rising or config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            rate / rising if rising else rate,  # not from 0: the first step would do nothing
            decay_steps=max(1, steps * config.epochs - rising),
            alpha=0.0 if config.schedule == "cosine" else 1.0,
            warmup_target=rate if rising else None,
            warmup_steps=rising,
        )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def predict_probabilities(
    model: keras.Model, pixels: NDArray[np.uint8], rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the probability of each label, float32 (N, K), for some rows of uint8 (M, H, W, C)."""
    count = -(-len(rows) // _PREDICTION_BATCH)
    size = -(-len(rows) // count)  # one shape, so TensorFlow compiles once; few images come twice
    padded = np.resize(rows, (count, size))
    # If several devices share the network, each predicts all images; the first one's outputs are enough.
    batches = [model.predict_on_batch(scale_pixels(pixels[batch]))[:size] for batch in padded]
    return widen(np.concatenate(batches)[: len(rows)], head=find_head(model))


def widen(outputs: NDArray[np.floating], *, head: str) -> NDArray[np.float32]:
    """Turn a network's outputs, (N, 1) or (N, K), into probabilities, float32 (N, 2) or (N, K)."""
    values = outputs.astype(np.float64)
    if head == "logits" and values.shape[1] > 1:
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif head == "logits":
        values = 0.5 * (1 + np.tanh(values / 2))  # the sigmoid, without overflow
    if values.shape[1] == 1:
        values = np.concatenate([1 - values, values], axis=1)
    return values.astype(np.float32)


def save_network(model: keras.Model, path: Path, *, sample: NDArray[np.uint8]) -> None:
    """Write `model.keras`: the network alone, uncompiled. It is loaded again in safe mode and compared.

    `sample`: uint8 (N, H, W, C). Raises ConfigError if the file does not load or gives other outputs.
    """
    keras = import_keras()
    with replace_file(path) as staged, warnings.catch_warnings():
        # Keras 3.15 converts TensorFlow's variables to arrays in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        copy_plain(model).save(staged)  # not compiled
        try:
            loaded = keras.models.load_model(staged, compile=False, safe_mode=True)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"Keras cannot load the network that it saved: {str(error).splitlines()[0]}"
            ) from error
        images = scale_pixels(sample)
        apart = float(np.abs(loaded.predict_on_batch(images) - model.predict_on_batch(images)).max())
        if not apart <= 1e-4:
            raise ConfigError(f"The saved network's outputs differ from the trained one's by {apart:.3g}.")
