"""Choose the options of a network that was trained before, where they were not given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from wetread.errors import ConfigError
from wetread.train.backbones import BACKBONES
from wetread.train.config import LABELS, STAGE_OPTIONS, VIEWS, TrainConfig
from wetread.train.weights_file import NETWORK, digest_weights, find_weights, read_options

# The sizes at which the MobileNets of Keras were trained, and the others are worth their time.
SIZES = (96, 128, 160, 192, 224)
_SLOWER = 10


def find_origin(config: TrainConfig) -> dict[str, Any]:
    """Return network, color and size of the run that the weights are of; empty where they are of no run.

    Without the network if the configuration names one.
    """
    if not config.is_pretrained or not Path(config.weights).is_dir():
        return {}
    values = read_options(Path(config.weights))
    names = ["color", "size"]
    if config.backbone is None and config.architecture is None:
        names += ["architecture", "backbone"]
    return {name: values[name] for name in names if values.get(name) is not None}


def _find_objective(config: TrainConfig) -> str | None:
    """Return what the weights of a run learned: 'labels' or 'views'; None where they are of no run."""
    path = Path(config.weights)
    values = read_options(path.parent if path.name == NETWORK else path)
    return str(values.get("objective", LABELS)) if values else None


def settle_stages(config: TrainConfig) -> tuple[TrainConfig, dict[str, str]]:
    """Choose the stages of training and read the digest of the weights; return the reasons of what is chosen.

    Without weights, or once all this is there, the configuration is returned as it is. Raises ConfigError.
    """
    if not config.is_pretrained or config.weights_digest is not None:
        return config, {}
    reasons: dict[str, str] = {}
    if _find_objective(config) == VIEWS:
        if given := [name for name in STAGE_OPTIONS if getattr(config, name) is not None]:
            raise ConfigError(
                f"{given[0]} is for a network that was trained on labels, and {config.weights} was not: "
                "all of it trains from the start. Leave it out."
            )
        config = replace(config, weights_objective=VIEWS)
        return replace(config, weights_digest=digest_weights(find_weights(config))), reasons
    if config.freeze_epochs is None:
        config = replace(config, freeze_epochs=max(1, config.epochs // 2, int(config.warmup) + 1))
        reasons["freeze_epochs"] = "first the new last layer alone, for half of the epochs"
    if config.fine_tune_learning_rate is None and config.freeze_epochs:
        config = replace(config, fine_tune_learning_rate=config.learning_rate / _SLOWER)
        reasons["fine_tune_learning_rate"] = "a tenth: what was learned before is changed slowly"
    return replace(config, weights_digest=digest_weights(find_weights(config))), reasons


def choose_size(side: int, config: TrainConfig) -> int | None:
    """Return the size of a backbone's images, whose shorter side is `side`; None if 64 pixels are enough."""
    smallest = BACKBONES[config.backbone or ""].smallest
    if config.is_pretrained:
        wanted = max(side, smallest)
        return next((size for size in SIZES if size >= wanted), SIZES[-1])
    return next((size for size in SIZES if size >= smallest), None) if smallest > 64 else None
