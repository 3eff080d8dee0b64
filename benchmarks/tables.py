"""Markdown tables and claims of the scoring benchmark. Standard library only (see processes.py)."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from processes import Contender, Measurement, median_ratio


def wall(run: Measurement) -> float:
    """Seconds of the whole process."""
    return run.wall


def inner(run: Measurement) -> float:
    """Seconds from the first file to the last answer."""
    return run.inner


def cpu(run: Measurement) -> float:
    """Processor seconds of the whole process."""
    return run.cpu


def peak(run: Measurement) -> float:
    """Peak memory in MB."""
    return run.peak_mb


def print_speed(ours: Contender, peers: Sequence[Contender], bounds: Sequence[Contender]) -> None:
    """One row for each contender; ratios say how many times wetread's figure is better (above 1: wetread)."""
    print(
        "| | images/s, whole process | wetread is × | images/s, start-up left out | wetread is × "
        "| CPU ms per image | × wetread's | peak MB | labels that differ |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in (ours, *peers, *bounds):
        if one.runs:
            print("| " + " | ".join(speed_cells(one, ours, is_bound=one in bounds)) + " |")
        else:
            print(f"| {one.name} | not run: {one.not_run} |" + " |" * 7)
    print()


def speed_cells(one: Contender, ours: Contender, *, is_bound: bool) -> list[str]:
    images = one.runs[0].images
    return [
        one.name,
        f"{images / one.middle(wall):,.0f}",
        f"{median_ratio(one, ours, wall):.2f}",
        f"{images / one.middle(inner):,.0f}",
        f"{median_ratio(one, ours, inner):.2f}",
        f"{1000 * one.middle(cpu) / images:.2f}",
        f"{median_ratio(one, ours, cpu):.2f}",
        f"{one.middle(peak):.0f}",
        "" if is_bound else count_differences(one, ours),
    ]


def count_differences(one: Contender, ours: Contender) -> str:
    """How many labels are not wetread's: the peers resize with other code, so a few may differ."""
    if one is ours:
        return "0"
    mine, theirs = read_answers(ours), read_answers(one)
    assert mine.keys() == theirs.keys(), f"{one.name} answered for other files"
    return str(sum(mine[name] != theirs[name] for name in mine))


def read_answers(one: Contender) -> dict[str, int]:
    """Name below the source to the column of its label, from wetread's CSV or a peer's."""
    assert one.answers is not None and one.root is not None
    with one.answers.open(newline="") as stream:
        rows = list(csv.reader(stream))
    if rows[0][0] != "path":
        return {name: int(label) for name, label in rows}
    labels = [column.removeprefix("p_") for column in rows[0][4:-1]]
    return {os.path.relpath(row[0], one.root): labels.index(row[2]) for row in rows[1:]}


def bound_share(ours: Contender, decode: Contender, infer: Contender) -> float:
    """wetread's rate over 1 / (1/decode + 1/inference), all without start-up, the median over rounds."""
    rounds = zip(ours.runs, decode.runs, infer.runs, strict=True)
    return median((d.inner + i.inner) / w.inner for w, d, i in rounds)


def print_memory(rows: Sequence[Contender]) -> None:
    print("| `wetread score` | peak MB | images/s, start-up left out |\n|---|---:|---:|")
    for one in rows:
        print(f"| {one.name} | {one.middle(peak):.0f} | {one.runs[0].images / one.middle(inner):,.0f} |")
    print()


def print_start(rows: Sequence[Contender]) -> None:
    print("| whole process | wall s | CPU s | peak MB |\n|---|---:|---:|---:|")
    for one in rows:
        print(f"| {one.name} | {one.middle(wall):.3f} | {one.middle(cpu):.3f} | {one.middle(peak):.0f} |")
    print()


def read_probability(output: Path) -> float:
    """The positive label's probability (the last column) of a one-row CSV."""
    with output.open(newline="") as stream:
        return float(list(csv.reader(stream))[1][-2])


def print_sizes(pairs: Sequence[tuple[str, float, float]]) -> None:
    print("| X-ray | p at full size | p at 224 pixels | difference |\n|---|---:|---:|---:|")
    for name, large, small in pairs:
        print(f"| {name} | {large:.4f} | {small:.4f} | {large - small:+.4f} |")
    print(f"\nLargest difference: {max(abs(large - small) for _, large, small in pairs):.4f}")


def print_claim(
    what: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    """Say what was measured, what was wanted, and whether it is so."""
    wanted = f">= {at_least}" if at_least is not None else f"<= {at_most}"
    met = value >= at_least if at_least is not None else value <= (at_most or 0)
    print(f"- {value:.2f} {what}: wanted {wanted}: **{'met' if met else 'missed'}**", flush=True)
