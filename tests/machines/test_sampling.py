"""The sample of tests that a slow machine runs: the same everywhere, of about the share that is asked for."""

from __future__ import annotations

import subprocess
import sys

from tests.machines.machine import ROOT
from tests.machines.sampling import is_chosen
from tests.machines.suites import ROOMS

NAMES = [f"tests/runtime/test_x.py::test_y[{number}]" for number in range(3000)]


def test_about_one_in_so_many_is_chosen_wherever_the_tests_lie():
    chosen = [name for name in NAMES if is_chosen(name, 10)]
    assert 220 < len(chosen) < 380
    assert chosen == [name for name in NAMES if is_chosen(f"Z:/host/checkout/{name}", 10)]
    assert chosen == [name for name in NAMES if is_chosen("checkout\\" + name.replace("/", "\\"), 10)]
    assert [name for name in NAMES if is_chosen(name, 1)] == NAMES


def test_the_time_ends_a_session_and_what_was_left_out_is_told(tmp_path):
    place = tmp_path / "test_slow.py"
    place.write_text(
        "import time, pytest\n@pytest.mark.parametrize('n', range(9))\ndef test(n): time.sleep(0.2)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.machines.sampling",
    ]
    done = subprocess.run(
        [*command, "--budget", "0.5", str(place)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "the time is used up" in done.stdout, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) < 9


def test_the_rooms_are_there():
    for place in " ".join(ROOMS).split():
        assert (ROOT / place).exists(), place
