"""Finished runs made without training: all that a teacher needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec


def save_network(network: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        network.save(path)


def make_teacher(
    run: Path, trained: list[str], *, labels: tuple[str, ...] = ("bar", "disc"), network: Any = None, **values
) -> Path:
    """A RUN whose network was not trained, on images of these names; `values`: of its PixelRecipe."""
    import keras

    from tests.train.networks import plain

    recipe = PixelRecipe(**{"height": 20, "width": 20, **values})
    run.mkdir(parents=True)
    keras.utils.set_random_seed(len(trained))
    made = network or plain(recipe.shape, 1 if len(labels) == 2 else len(labels))
    save_network(made, run / "model.keras")
    (run / "spec.json").write_text(ModelSpec(labels=labels, pixels=recipe).to_json())
    rows = [f"{name},{name.partition('/')[0]},{name},train" for name in trained]
    (run / "splits.csv").write_text("\n".join(["name,label,group,split", *rows, ""]))
    (run / "metrics.json").write_text("{}")
    return run
