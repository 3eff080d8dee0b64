"""The engine on real Ray: its nodes, its actors and its driver die, and the bytes are those of one machine.

Ray takes some seconds of processor time to start, so that most of this is long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import draw_image

WETREAD = [sys.executable, "-m", "wetread"]
# Hides Ray from a process, as an installation without the extra would.
WITHOUT_RAY = "import sys\nsys.modules['ray'] = None\nfrom wetread.cli import main; main()"


def wetread(*arguments: object, command: list[str] = WETREAD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(autouse=True)
def no_cluster_of_the_user(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Every address of Ray's is then 127.0.0.1: it would otherwise listen where others can reach it.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


class Work:
    """A folder of images with its manifest, and what a run without an engine makes of it."""

    def __init__(self, folder: Path, model: Path, *, count: int, side: int) -> None:
        self.model, self.manifest, self.folder = model, folder / "m", folder
        pictures = [draw_image(seed, height=side, width=side) for seed in range(10)]
        for index in range(count):
            place = folder / "images" / f"{index % 5}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index:05d}.jpg").write_bytes(pictures[index % 10] if index % 37 else b"text")
        wetread("manifest", folder / "images", "-o", self.manifest)
        done = wetread("score", folder / "images", "--model", model, "-o", folder / "direct.csv")
        assert done.returncode == 3
        self.expected = (folder / "direct.csv").read_bytes()

    def arguments(self, shards: int, *more: object) -> list[str]:
        """The engine's command line."""
        fixed = ("--from-manifest", self.manifest, "--model", self.model, "-o", self.folder / "shards")
        return ["score", *map(str, (*fixed, "--engine", "ray", "--shards", shards, *more))]

    def finished(self) -> set[str]:
        """The shards that stand."""
        place = self.folder / "shards"
        return {name for name in os.listdir(place) if name.endswith(".shard")} if place.is_dir() else set()

    def merged(self) -> bytes:
        """The shards, joined."""
        output = self.folder / "merged.csv"
        done = wetread("merge", self.folder / "shards", "-o", output, "--overwrite")
        assert done.returncode == 3, done.stderr
        return output.read_bytes()


@contextmanager
def two_nodes() -> Iterator[tuple[str, Callable[[], None]]]:
    """Two Ray nodes: their address, and what kills the second."""
    command = [sys.executable, "-m", "tests.cluster.two_nodes"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None and process.stdout is not None

    def kill() -> None:
        print("kill", file=process.stdin, flush=True)
        assert process.stdout.readline() == "killed\n"

    try:
        yield process.stdout.readline().strip(), kill
    finally:
        process.stdin.close()
        process.wait(120)
        process.stdout.close()


def wait_for(work: Work, count: int, process: subprocess.Popen[str]) -> set[str]:
    """Wait until so many shards stand; the run must not have ended by then."""
    while len(found := work.finished()) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([*WETREAD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_same_bytes_from_two_actors_here(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=300, side=96)
    done = wetread(*work.arguments(6, "--num-actors", "2"))
    assert done.returncode == 3, done.stderr
    *_, last = done.stderr.splitlines()  # where the machine is slow, lines of progress come before it
    assert last == f"wetread: 300 inputs: 9 not_an_image, 291 ok -> {tmp_path / 'shards'}"
    assert len(work.finished()) == 6
    assert work.merged() == work.expected


@pytest.mark.long
def test_two_nodes_and_a_second_run_that_finds_all_done(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=600, side=96)
    with two_nodes() as (address, _):
        done = wetread(*work.arguments(12, "--address", address))
        assert done.returncode == 3, done.stderr
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
        again = wetread(*work.arguments(12, "--address", address))
    assert "600 inputs (600 of an earlier run)" in again.stderr
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()} == before
    assert work.merged() == work.expected


@pytest.mark.long
def test_a_node_killed_half_way(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=6000, side=400)
    with two_nodes() as (address, kill), start(work.arguments(120, "--address", address)) as process:
        wait_for(work, 20, process)
        kill()
        assert len(work.finished()) < 120
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 3, errors
    assert f"6,000 inputs: {len(range(0, 6000, 37))} not_an_image" in errors
    assert len(work.finished()) == 120
    assert work.merged() == work.expected


@pytest.mark.long
def test_a_driver_killed_and_started_again(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=6000, side=400)
    with two_nodes() as (address, _):
        with start(work.arguments(120, "--address", address)) as process:
            kept = wait_for(work, 20, process)
            process.kill()
        assert len(work.finished()) < 120
        stands = {name: (tmp_path / "shards" / name).stat().st_mtime_ns for name in kept}
        again = wetread(*work.arguments(120, "--address", address))
    assert again.returncode == 3, again.stderr
    assert "6,000 inputs (" in again.stderr
    assert {name: (tmp_path / "shards" / name).stat().st_mtime_ns for name in kept} == stands
    assert work.merged() == work.expected


@pytest.mark.long
def test_a_driver_that_is_told_to_stop(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=6000, side=400)
    with start(work.arguments(120, "--num-actors", "2")) as process:
        wait_for(work, 10, process)
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "interrupted" in errors
    assert wetread(*work.arguments(120, "--num-actors", "2")).returncode == 3
    assert work.merged() == work.expected


@pytest.mark.long
def test_a_cluster_that_is_not_there(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=40, side=96)
    done = wetread(*work.arguments(2, "--address", "127.0.0.1:1"))
    assert done.returncode == 1
    assert "The Ray cluster at '127.0.0.1:1' cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_an_actors_error_is_one_line(toy_model, tmp_path):
    work = Work(tmp_path, toy_model, count=40, side=96)
    (tmp_path / "shards").write_text("a file where the folder should be")
    done = wetread(*work.arguments(2, "--num-actors", "1"))
    assert done.returncode == 1
    assert "cannot be read or written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_extra_one_line_names_the_pip_command(toy_model, image_folder, tmp_path):
    wetread("manifest", image_folder, "-o", tmp_path / "m")
    arguments = ["score", "--from-manifest", tmp_path / "m", "--model", toy_model, "-o", tmp_path / "shards"]
    hidden = [sys.executable, "-c", WITHOUT_RAY]
    done = wetread(*arguments, "--engine", "ray", command=hidden)
    assert done.returncode == 1
    assert done.stderr == (
        "wetread: The package 'ray' is not installed. Install it: pip install 'wetread[ray]'\n"
    )
    assert wetread(*arguments, "--shard", "0/1", "-q", command=hidden).returncode == 0
    assert wetread("merge", tmp_path / "shards", "-o", tmp_path / "x.csv", command=hidden).returncode == 0
