"""Sentences on what the user of an exported file should know."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wetread.evaluate.held_out import FIT, OperatingRequest
from wetread.evaluate.temperature_scaling import doubt_temperature
from wetread.export.flips import bound_share
from wetread.export.images import ExportImages
from wetread.export.judging import Candidate, Gate
from wetread.runtime.model.spec import ModelSpec


def note_alike_answers(keras: NDArray[np.float64]) -> tuple[str, ...]:
    """Say so where Keras' answers are all alike, or all 0 and 1: that a file agrees then shows little."""
    if float(np.ptp(keras, axis=0).max()) > 1e-3 and bool(((keras > 1e-4) & (keras < 1 - 1e-4)).any()):
        return ()
    return (
        f"Keras gives all {len(keras)} compared images nearly the same probabilities, or only 0 and 1: that "
        "the file agrees shows little. Is the scale of the pixels right? Compare with `wetread parity`.",
    )


def note_only_answer(
    keras: NDArray[np.float64], spec: ModelSpec, images: ExportImages | None
) -> tuple[str, ...]:
    """Say so where Keras calls every validation image the same although they are of several labels."""
    if images is None or len(set(images.validation.targets.tolist()) - {-1}) < 2:
        return ()
    given = np.unique(spec.decide(keras.astype(np.float32)))
    if len(given) > 1:
        return ()
    label, count = spec.labels[int(given[0])], len(images.validation)
    return (
        f"The network calls all {count:,} validation images {label!r}, although they are of several labels, "
        "and so does the file. Train it for longer or on more images; for a RUN choose another threshold "
        "with --threshold-rule; with --keras check --scale, --offset and the order of --labels.",
    )


def note_temperature(spec: ModelSpec, request: OperatingRequest) -> tuple[str, ...]:
    """Say so where a temperature that was fitted, not given, ended on its bound."""
    fitted = "held_out" in spec.training and request.temperature in (None, FIT)
    reason = doubt_temperature(spec.temperature) if fitted else None
    return () if reason is None else (f"{reason[0].upper()}{reason[1:]}.",)


def take_notes(candidates: tuple[Candidate, ...], gate: Gate) -> tuple[str, ...]:
    """What to know of the chosen form: that it is slower here, that few images judged it."""
    chosen = next((candidate for candidate in candidates if candidate.chosen), None)
    notes = []
    if chosen is not None and chosen.speedup < 1:
        smaller = chosen.size < candidates[0].size
        gain = "Its gain here is size alone." if smaller else "It gains nothing here: use float32."
        notes.append(
            f"On this CPU {chosen.name} is slower than float32: {chosen.speed:,.0f} images/s on one thread "
            f"against {candidates[0].speed:,.0f}. {gain}"
        )
    if chosen is not None and chosen.floats:
        notes.append(_explain_floats(chosen, candidates))
    if chosen is not None and chosen.confirmed_images:
        low, high = bound_share(chosen.confirmed_flips, chosen.confirmed_images)
        notes.append(
            f"Chosen on {chosen.images} images; of {chosen.confirmed_images} others, which chose nothing, "
            f"{chosen.confirmed_flips} labels flip: {low:.1%} to {high:.1%} of such images, at 95%."
        )
    if chosen is not None and 0 < gate.max_flips * chosen.images < 1:
        notes.append(
            f"Only {chosen.images} images judged it: a share of {gate.max_flips:.1%} can be seen from "
            f"{math.ceil(1 / gate.max_flips):,} on. Give more with --calibration."
        )
    return tuple(notes)


def _explain_floats(chosen: Candidate, candidates: tuple[Candidate, ...]) -> str:
    """Which layers stayed in float, and what they cost in int8."""
    whole = [row for row in candidates if not row.floats and chosen.name.startswith(row.name)]
    words = (
        f": with them in int8 too, {whole[0].flips} of {whole[0].images} labels flip and probabilities are "
        f"off by {whole[0].mean_difference:.1e} in the mean instead of {chosen.mean_difference:.1e}"
        if whole
        else ", which hurt most in int8"
    )
    return f"Kept in float: {', '.join(chosen.floats)}{words}."
