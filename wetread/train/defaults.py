"""Choose the options of a run that were not given, by what its images are.

    config = settle(TrainConfig(data="clothes", output="run", size=96))

looks at 24 images of `clothes`, chooses color, augmentation, network, epochs, batch size and learning rate,
and leaves the size as it was given. `config.reasons` says why each was chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from wetread.evaluate.labelled_folders import list_data
from wetread.runtime.machine import read_free_memory
from wetread.train.config import CHOSEN, EDGE, STAGE_OPTIONS, VIEWS, TrainConfig
from wetread.train.dataset_traits import Traits, find_traits
from wetread.train.events import DefaultsChosen, OnEvent, ignore_event
from wetread.train.fine_tuning_defaults import choose_size, find_origin, settle_stages
from wetread.train.memory import count_bytes, limit_batch

# The recipe for X-rays, which the figures of docs/results/experiments.md are of. Of images with more than two
# labels the epochs depend on their number.
XRAY: dict[str, Any] = {
    "color": "gray",
    "size": 64,
    "augment": "xray",
    "architecture": EDGE,
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
}
# Gray images whose shorter side is below these are not taken for X-rays: those with two labels, the others.
SMALLEST_OF_TWO, SMALLEST = 32, 64
TWO = 2
SIZES = (32, 48, 64)
SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 8_000, 20, 40
FEW = 1000
AS_BEFORE = "as in the run whose weights are loaded"
AUGMENTED = {
    "photo": "mirror images, crops and changes of colour",
    "document": "pose and contrast, no mirror images: a mirrored letter is another one",
    "texture": "any angle, mirror images, scale and contrast",
}


class Choice(NamedTuple):
    """A value and why it was chosen, as the end of a sentence."""

    value: Any
    reason: str


def settle(config: TrainConfig, *, on_event: OnEvent = ignore_event) -> TrainConfig:
    """Return a configuration in which every option has a value; an option that was given keeps its own.

    Reads up to 24 images if an option is open. Raises as `list_images` does, and ConfigError for weights that
    are not there.
    """
    options: dict[str, Any] = {}
    if not config.is_settled:
        config, options = _look(config)
    config, reasons = settle_stages(config)
    if reasons:
        config = replace(config, reasons={**config.reasons, **reasons})
        options |= {name: getattr(config, name) for name in reasons}
    if options:
        on_event(DefaultsChosen(options=options, reasons=config.reasons))
    return config


def _look(config: TrainConfig) -> tuple[TrainConfig, dict[str, Any]]:
    """Choose open options by what the images are; return the preset and the values that were chosen, too."""
    listing = list_data(config.data, config.labels)
    traits = find_traits(listing, listing.images)
    if config.subset is not None:
        traits = replace(traits, images=min(traits.images, config.subset))
    preset = Choice(config.preset, "it was given") if config.preset else choose_preset(traits)
    origin = find_origin(config)
    kind = replace(config, preset=preset.value, backbone=origin.get("backbone", config.backbone))
    found = {name: _choose(name, traits, kind) for name in CHOSEN if getattr(config, name) is None}
    found |= {name: Choice(origin[name], AS_BEFORE) for name in origin if getattr(config, name) is None}
    if "batch_size" in found:
        size = config.size or found["size"].value
        found["batch_size"] = _bound_batch(found["batch_size"], replace(kind, size=size))
    reasons = {"preset": preset.reason, **{name: choice.reason for name, choice in found.items()}}
    values = {name: choice.value for name, choice in found.items()}
    settled = replace(config, preset=preset.value, reasons=reasons, **values)
    return settled, {"preset": preset.value, **values}


def adopt(config: TrainConfig, old: TrainConfig) -> TrainConfig:
    """Take options that are open from the configuration that a run began with, unless the preset differs."""
    if config.is_settled or config.preset not in (None, old.preset):
        return config
    names: tuple[str, ...] = CHOSEN
    if config.is_pretrained:
        names += STAGE_OPTIONS if config.architecture is not None else ("backbone", *STAGE_OPTIONS)
    values = {name: getattr(old, name) for name in names if getattr(config, name) is None}
    return replace(config, preset=old.preset, reasons=old.reasons, **values)


def choose_preset(traits: Traits) -> Choice:
    """Choose the kind of images: colour, labels, size and layout decide."""
    sides = f"{traits.side} pixels on the shorter side"
    if traits.in_color:
        return Choice("photo", f"{traits.colored} of {traits.checked} images checked are in colour")
    if traits.labels == TWO and traits.side >= SMALLEST_OF_TWO:
        return Choice("xray", f"the images are gray, {sides}, and have two labels")
    if not traits.has_layout:
        return Choice("texture", "the images are gray and have no common layout")
    if traits.side < SMALLEST:
        return Choice("document", f"the images are gray and small, {sides}")
    return Choice("xray", f"the images are gray, {sides}")


def _choose(name: str, traits: Traits, config: TrainConfig) -> Choice:
    """Choose an option of a configuration whose preset is known."""
    if config.objective == VIEWS and name in OF_VIEWS:
        return OF_VIEWS[name]
    special = OF_BACKBONES.get(name) if config.backbone is not None else None
    if special is not None and (found := special(traits, config)) is not None:
        return found
    if config.preset == "xray" and (name != "epochs" or traits.labels == TWO):
        return Choice(XRAY[name], "the recipe for X-rays")
    return CHOICES[name](traits, config)


def _choose_color(traits: Traits, config: TrainConfig) -> Choice:
    what = f"{traits.colored} of {traits.checked} images checked are in colour"
    return Choice("rgb" if traits.in_color else "gray", what)


def _choose_size(traits: Traits, config: TrainConfig) -> Choice:
    size = next((size for size in SIZES if size >= traits.side), SIZES[-1])
    return Choice(size, f"half of the images are {traits.side} pixels or less on the shorter side")


def _choose_augment(traits: Traits, config: TrainConfig) -> Choice:
    return Choice(config.preset, AUGMENTED[config.preset or ""])


def _choose_architecture(traits: Traits, config: TrainConfig) -> Choice:
    return Choice("photo", "it learns small photographs best in a given time")


def _choose_epochs(traits: Traits, config: TrainConfig) -> Choice:
    epochs = max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(SEEN / max(1, traits.images))))
    return Choice(epochs, f"{traits.images:,} images are then seen {traits.images * epochs:,} times in all")


def _choose_batch_size(traits: Traits, config: TrainConfig) -> Choice:
    if traits.images >= FEW:
        return Choice(32, f"there are {FEW:,} images or more")
    return Choice(16, f"{traits.images:,} images are few, and smaller batches make more steps")


def _bound_batch(choice: Choice, config: TrainConfig) -> Choice:
    """Choose fewer images at a time where so many would not fit in the memory that is free."""
    free = read_free_memory()
    value = limit_batch(choice.value, count_bytes(config, size=config.size), free=free)
    if value == choice.value or free is None:
        return choice
    return Choice(
        value, f"{free / 2**30:.1f} GiB are free, and the images have {config.size} x {config.size}"
    )


def _choose_learning_rate(traits: Traits, config: TrainConfig) -> Choice:
    if config.backbone is not None:
        return Choice(1e-3, "a backbone is a large network")
    return Choice(5e-3, "the network has batch norms, and the rate falls to 0")


def _choose_backbone_size(traits: Traits, config: TrainConfig) -> Choice | None:
    size = choose_size(traits.side, config)
    if size is None:
        return None
    return Choice(
        size, f"half of the images are {traits.side} pixels or less, and {config.backbone} sees more"
    )


def _choose_backbone_color(traits: Traits, config: TrainConfig) -> Choice | None:
    if traits.in_color:
        return None
    return Choice(
        "gray",
        f"{traits.colored} of {traits.checked} images checked are in colour; "
        "the network repeats gray in the three channels of its backbone",
    )


def _choose_no_architecture(traits: Traits, config: TrainConfig) -> Choice:
    return Choice(EDGE, "not used: a backbone is the network")


# docs/results/packaged-model.md has what these gave.
OF_VIEWS = {
    "epochs": Choice(30, "what is learned without labels comes slowly"),
    "batch_size": Choice(128, "each view is told from all others of its batch"),
    "learning_rate": Choice(2e-3, "the batches are large"),
}
# Where they return None, the choice for any network holds.
OF_BACKBONES: dict[str, Callable[[Traits, TrainConfig], Choice | None]] = {
    "size": _choose_backbone_size,
    "color": _choose_backbone_color,
    "architecture": _choose_no_architecture,
}
CHOICES: dict[str, Callable[[Traits, TrainConfig], Choice]] = {
    "color": _choose_color,
    "size": _choose_size,
    "augment": _choose_augment,
    "architecture": _choose_architecture,
    "epochs": _choose_epochs,
    "batch_size": _choose_batch_size,
    "learning_rate": _choose_learning_rate,
}
