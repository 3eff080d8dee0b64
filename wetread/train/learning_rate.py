"""Find a learning rate: train a new network for a few steps at rates that rise, and look at the loss.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks": the loss falls while the rate is useful,
and rises where it is too large. Nothing of the network is kept.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wetread.environment import keep_home_clean
from wetread.errors import ConfigError
from wetread.packages import importing
from wetread.runtime.files.atomic import replace_file
from wetread.train import run as runs
from wetread.train.augment import read_policy
from wetread.train.batches import Batch, BatchPlan, iterate_batches, plan_batches
from wetread.train.config import TrainConfig
from wetread.train.dataset import load_dataset
from wetread.train.defaults import settle
from wetread.train.devices import check_devices
from wetread.train.events import OnEvent, StepEnded, ignore_event
from wetread.train.fine_tuning import Stages
from wetread.train.fit import check_names
from wetread.train.network import make_network
from wetread.train.teachers import check_teachers, open_teachers
from wetread.train.training_state import Learner

TABLE, PICTURE = "learning_rate.csv", "learning_rate.png"
LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 180
_WIDTH = 6.0  # steps: standard deviation of the Gaussian that smooths the losses
_LOST = 3.0  # times the first losses: the rate is far too large
_FIRST = 10  # steps whose mean loss is that of an untrained network
_FALL = 0.05  # of that loss: a smaller fall is noise
_BELOW = 3.0  # the suggestion is so many times below the rate with the lowest loss

Losses = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """The learning rate that is suggested, why, and what it was read from.

    `rates`, `losses`: of each step, in order. `smoothed`: the losses without their noise. `picture`, `table`:
    the files in the run directory.
    """

    rate: float
    reason: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    picture: Path
    table: Path


def search_rate(config: TrainConfig, *, on_event: OnEvent = ignore_event) -> RateSearch:
    """Try learning rates from 1e-6 to 1 on a run's data and network, draw the losses, and suggest one.

    Leaves learning_rate.png and learning_rate.csv in the run directory, in which no run may have begun, and
    trains no run. Raises as `train`, and ConfigError if the loss falls at no rate.
    """
    if config.output.startswith("gs://"):
        raise ConfigError(f"A search needs a local output, and {config.output!r} is in a bucket.")
    runs.check_place(config)
    check_names(config)
    check_teachers(config)
    directory = Path(config.output)
    runs.check_run(directory, config, resume=False)
    config = settle(config, on_event=on_event)
    with runs.lock_run(directory):
        data = load_dataset(config, on_event=on_event)
        check_devices(config)
        policy = read_policy(config.augment)
        teachers = open_teachers(config, data, policy, on_event=on_event)
        plan = plan_batches(config, data, policy, ask=None if teachers is None else teachers.answer)
        rates, losses = try_rates(config, plan, on_event=on_event)
        smoothed = smooth(losses)
        rows = zip(rates, losses, smoothed, strict=True)
        header = ("learning_rate", "loss", "smoothed")
        runs.write_table(directory / TABLE, header, ([f"{value:.6g}" for value in row] for row in rows))
        rate, reason = suggest(rates, smoothed)
        draw_rates(directory / PICTURE, rates, losses, smoothed, chosen=rate)
    return RateSearch(
        rate=rate,
        reason=reason,
        rates=tuple(rates.tolist()),
        losses=tuple(losses.tolist()),
        smoothed=tuple(smoothed.tolist()),
        picture=directory / PICTURE,
        table=directory / TABLE,
    )


def try_rates(config: TrainConfig, plan: BatchPlan, *, on_event: OnEvent) -> tuple[Losses, Losses]:
    """Train a new network with one step for each rate; return the rates and losses, float64 (N,) each.

    Stops early where the loss is no longer finite or far above the first ones. Raises ConfigError if it is
    not finite from the start.
    """
    labels = len(plan.dataset.labels)
    start = dataclasses.replace(config, schedule="constant", warmup=0.0, learning_rate=LOWEST)
    model = make_network(start, 1 if labels == 2 else labels, steps=plan.steps)
    learner = Learner(model)
    # Of weights that were trained before: the first stage.
    Stages(start, model, steps=plan.steps).enter(learner, 1)
    rates, losses = np.geomspace(LOWEST, HIGHEST, STEPS), list[float]()
    for step, (rate, batch) in enumerate(zip(rates, _repeat_epochs(plan), strict=False), start=1):
        model.optimizer.learning_rate.assign(rate)
        losses.append(learner.learn(batch))
        on_event(StepEnded(epoch=1, epochs=1, step=step, steps=STEPS, loss=losses[-1]))
        if not math.isfinite(losses[-1]):
            losses.pop()
            break
        if step > 2 * _FIRST and np.mean(losses[-_FIRST // 2 :]) > _LOST * np.mean(losses[:_FIRST]):
            break
    if len(losses) < _FIRST:
        raise ConfigError(
            f"The loss is not finite after {len(losses)} steps, at learning rates from {LOWEST:g} on: no "
            "rate helps. Look whether the network's own layers and its weights give finite numbers."
        )
    return rates[: len(losses)], np.array(losses)


def _repeat_epochs(plan: BatchPlan) -> Iterator[Batch]:
    """Yield batches without end, epoch after epoch."""
    for epoch in itertools.count(1):
        yield from iterate_batches(plan, epoch=epoch)


def smooth(losses: Losses) -> Losses:
    """Average each loss with its neighbours, by a Gaussian 6 steps wide; extreme losses count as less."""
    clipped = np.minimum(losses, _LOST * losses[:_FIRST].mean())
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * np.square((steps[:, None] - steps) / _WIDTH))
    return np.asarray((weights * clipped).sum(axis=1) / weights.sum(axis=1))


def suggest(rates: Losses, smoothed: Losses) -> tuple[float, str]:
    """Suggest a rate from smoothed losses, both (N,), and say why. Raises ConfigError if no loss falls."""
    start = smoothed[:_FIRST].mean()
    lowest = int(smoothed.argmin())
    fall = start - smoothed[lowest]
    if fall < _FALL * start:
        raise ConfigError(
            f"The loss falls at none of the learning rates from {LOWEST:g} to {HIGHEST:g}: it is {start:.4f} "
            f"at first and {smoothed[lowest]:.4f} at best ({TABLE}). Look whether the labels fit the images."
        )
    rate = float(f"{rates[lowest] / _BELOW:.1g}")
    more = "" if lowest < len(rates) - 1 else ", the highest rate tried"
    return rate, (
        f"a third of {rates[lowest]:.2g}, at which the loss is lowest: {smoothed[lowest]:.3f}, "
        f"and {start:.3f} before training{more}"
    )


def draw_rates(path: Path, rates: Losses, losses: Losses, smoothed: Losses, *, chosen: float) -> None:
    """Draw losses against learning rates, and a line at the suggestion. Raises MissingExtraError."""
    keep_home_clean()
    with importing("matplotlib", extra="train"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(rates, losses, ".", color="0.7", label="loss of a batch")
    axis.plot(rates, smoothed, "-", color="tab:blue", label="smoothed")
    axis.axvline(chosen, color="tab:red", label=f"suggestion: {chosen:g}")
    high = max(smoothed.max(), np.percentile(losses[: 2 * _FIRST], 95))
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, 1.1 * high))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    with replace_file(path) as staged:
        figure.savefig(staged, dpi=110)
