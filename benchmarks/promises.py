"""Does a rule keep its promise on other patients? Print it for each fold of a run that has them.

    wetread train DATA --output RUN --folds 5
    python benchmarks/promises.py RUN --rule 'sensitivity>=0.95'

Temperature, threshold and band are fitted on the other folds and judged on the fold.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from wetread.evaluate.held_out import (
    DEFAULT_BAND,
    FIT,
    OUT_OF_FOLD,
    HeldOut,
    OperatingRequest,
    fit_operating_point,
    read_held_out,
)
from wetread.evaluate.metrics import measure
from wetread.evaluate.temperature_scaling import apply_temperature
from wetread.runtime.model.spec import ModelSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rule", default="sensitivity>=0.95")
    options = parser.parse_args()
    own = ModelSpec.from_json((options.run / "spec.json").read_text(encoding="utf-8"))
    spec = ModelSpec(labels=own.labels, positive=own.positive)
    with (options.run / OUT_OF_FOLD).open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        folds = np.array([int(row["fold"]) for row in csv.DictReader(lines)])
    found = read_held_out(options.run, spec.labels)
    assert found is not None
    request = OperatingRequest(temperature=FIT, rule=options.rule, band=DEFAULT_BAND)
    print(
        "| fold | images | temperature | calibration error | log loss | threshold "
        "| sensitivity, 95% by patient | specificity | errors | in the band: images, errors |"
    )
    print("|" + "---|" * 10)
    for fold in np.unique(folds):
        print(describe_fold(spec, take(found, folds != fold), take(found, folds == fold), request, int(fold)))


def take(found: HeldOut, chosen: np.ndarray) -> HeldOut:
    groups = tuple(np.array(found.groups)[chosen])
    return HeldOut(found.probabilities[chosen], found.truth[chosen], groups, found.source)


def describe_fold(
    spec: ModelSpec, others: HeldOut, own: HeldOut, request: OperatingRequest, fold: int
) -> str:
    """One row of the table: fitted on the others, judged on the fold's own."""
    fitted = fit_operating_point(spec, others, request)
    said = apply_temperature(own.probabilities, fitted.temperature).astype(np.float32)
    before = measure(own.probabilities, own.truth, spec)
    after = measure(said, own.truth, fitted, groups=own.groups, resamples=2000)
    wrong, doubt = fitted.decide(said) != own.truth, fitted.find_uncertain(said)
    low, high = after.intervals["sensitivity"]
    cells = (
        fold,
        len(own.truth),
        f"{fitted.temperature:.3f}",
        f"{before.ece:.4f} to {after.ece:.4f}",
        f"{before.log_loss:.4f} to {after.log_loss:.4f}",
        f"{fitted.threshold:.3f}",
        f"{after.sensitivity:.4f}, {low:.4f} to {high:.4f}",
        f"{after.specificity:.4f}",
        int(wrong.sum()),
        f"{int(doubt.sum())}, {int((wrong & doubt).sum())}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
