"""Damaged files by the thousand: a status each, no crash, no hang, no word on standard error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.mutations import mutate, read_corpus
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe

resource = pytest.importorskip("resource", reason="memory is limited by POSIX's resource")

STATUSES = {"ok", "empty", "not_an_image", "truncated", "malformed", "too_large", "unsupported"}
ADDRESS_SPACE = 3 << 30
PEAK_BYTES = 250_000_000
SECONDS = 5.0
CUTS = ("cut", "cut_and_close")


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def run_campaign(first: int, count: int) -> list[dict[str, object]]:
    """Read damaged files in a process of its own, whose end tells of crashes; a dictionary for each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.mutations", str(first), str(count)],
        capture_output=True,
        text=True,
        timeout=60 + count,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=limit_memory,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, ""), f"after {lines[-1:]}"
    return lines


def check_campaign(first: int, count: int) -> None:
    lines = run_campaign(first, count)
    assert [line["number"] for line in lines] == list(range(first, first + count))
    assert {line["status"] for line in lines} <= STATUSES
    assert max(line["seconds"] for line in lines) < SECONDS
    assert max(line["peak"] for line in lines) < PEAK_BYTES
    for line in lines:
        if line["way"] in CUTS and line["status"] == "ok":
            check_cut_is_harmless(line["number"])


def check_cut_is_harmless(number: int) -> None:
    """A cut JPEG or PNG is found if more than its end is gone; others may lose what follows their pixels."""
    name, _, data = mutate(number)
    whole = read_corpus()[name]
    end = {"jpeg": 2, "png": 12}.get(name.split("-")[0])
    assert end is None or data.startswith(whole[:-end]), (number, name)
    recipe = PixelRecipe(color="rgb", scaled_decoding=0, orientation="ignore")
    assert (read_pixels(data, recipe) == read_pixels(whole, recipe)).all(), (number, name)


def test_a_hundred_and_fifty_damaged_files_are_rows():
    check_campaign(0, 150)


@pytest.mark.long
def test_two_thousand_damaged_files_are_rows():
    check_campaign(1000, 2000)


def test_the_same_number_damages_alike():
    assert [mutate(number) for number in range(30)] == [mutate(number) for number in range(30)]
    ways = {mutate(number)[1] for number in range(300)}
    assert len(ways) == 10
