"""Finished runs made without training: all that a teacher needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.spec import ModelSpec

TRAINING: dict[str, Any] = {
    "architecture": "plain",
    "parameters": 2_000,
    "epochs": 3,
    "seed": 0,
    "images": {"train": 12, "val": 4},
    "data": "0" * 64,
}


def save_network(network: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        network.save(path)


def make_teacher(
    run: Path, trained: list[str], *, labels: tuple[str, ...] = ("bar", "disc"), **values: Any
) -> Path:
    """A RUN whose network was not trained, on images of these names; `values`: of its PixelRecipe."""
    import keras

    from tests.train.networks import plain

    recipe = PixelRecipe(**{"height": 20, "width": 20, **values})
    run.mkdir(parents=True)
    keras.utils.set_random_seed(len(trained))
    save_network(plain(recipe.shape, 1 if len(labels) == 2 else len(labels)), run / "model.keras")
    (run / "spec.json").write_text(ModelSpec(labels=labels, pixels=recipe, training=TRAINING).to_json())
    rows = [f"{name},{name.partition('/')[0]},{name},train" for name in trained]
    (run / "splits.csv").write_text("\n".join(["name,label,group,split", *rows, ""]))
    (run / "metrics.json").write_text("{}")
    return run
