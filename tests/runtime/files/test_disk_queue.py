from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.runtime.files import disk_queue
from wetread.runtime.files.disk_queue import DiskQueue

TEXTS = st.one_of(st.just("drop"), st.text(max_size=5), st.sampled_from(["a\nb", "\udcff", ""]))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(TEXTS, max_size=200),
    page=st.integers(1, 5),
    piece=st.integers(64, 200),
    room=st.sampled_from([0, 50]),
)
def test_it_holds_what_a_deque_holds(steps, page, piece, room):
    """Small pages, so that most of it is in the file, and the file's room is used again."""
    wanted: deque[str] = deque()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for name, value in {"_PAGE": page, "_PIECE": piece, "_ROOM": room}.items():
            patch.setattr(disk_queue, name, value)
        with closing(DiskQueue(folder)) as queue:
            for step in steps:
                if step != "drop":
                    queue.put(step)
                    wanted.append(step)
                elif wanted:
                    assert queue.first == wanted.popleft()
                    queue.drop()
                assert len(queue) == len(wanted)
            while wanted:
                queue.first  # noqa: B018 - it may be asked again
                assert queue.first == wanted.popleft()
                queue.drop()
            with pytest.raises(IndexError):
                _ = queue.first


def fill(queue: DiskQueue, count: int) -> None:
    for number in range(count):
        queue.put(f"sr 1.2.840.113619.2.55.3.604688119.{number}.dcm")


def test_memory_is_flat_however_many_wait(tmp_path):
    with closing(DiskQueue(str(tmp_path))) as queue:
        fill(queue, 1_000)
        tracemalloc.start()
        fill(queue, 19_000)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(queue), grown < 50_000) == (20_000, True)
        found = [line for line in drain(queue) if line.endswith(".0.dcm")]
    assert len(found) == 2


def drain(queue: DiskQueue) -> list[str]:
    found = []
    while queue:
        found.append(queue.first)
        queue.drop()
    return found


def test_the_room_of_what_left_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_queue, "_ROOM", 1 << 12)
    with closing(DiskQueue(str(tmp_path))) as queue:
        fill(queue, 1_000)
        most = 0
        for _ in range(8_000):
            line = queue.first
            queue.drop()
            queue.put(line)
            most = max(most, os.fstat(queue._use_file().fileno()).st_size)
        assert most < 2.5 * 1_000 * 60
        assert len(set(drain(queue))) == 1_000


def test_a_full_disk_loses_nothing_and_keeps_the_order(tmp_path, monkeypatch):
    whole = disk_queue.DiskQueue._write
    is_full = []

    def write(self: DiskQueue, data: bytes, start: int) -> None:
        if is_full:
            whole(self, data[:10], start)
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(self, data, start)

    monkeypatch.setattr(disk_queue.DiskQueue, "_write", write)
    monkeypatch.setattr(disk_queue, "_PAGE", 4)
    with closing(DiskQueue(str(tmp_path))) as queue:
        for number in range(40):
            if number in (10, 25):
                is_full[:] = [True] * (number == 10)
            queue.put(str(number))
        assert drain(queue) == [str(number) for number in range(40)]


@pytest.mark.parametrize(("start", "count"), [(0, 1 << 14), (500, 100)])
def test_what_a_share_lost_is_named_and_nothing_comes_twice(tmp_path, start, count):
    """A share may take bytes, and lose them when it is full as it writes them back."""
    with closing(DiskQueue(str(tmp_path))) as queue:
        fill(queue, 4 * disk_queue._PAGE)
        queue._write(bytes(count), start)
        for _ in range(2):
            with pytest.raises(OSError, match="cannot be read back from its disk: start the command again"):
                _ = queue.first
        assert len(queue) == 4 * disk_queue._PAGE


def test_a_folder_that_takes_no_file_holds_nothing_up(tmp_path):
    with closing(DiskQueue(str(tmp_path / "none"))) as queue:
        fill(queue, 600)
        assert len(drain(queue)) == 600


@pytest.mark.skipif(os.name == "nt", reason="Windows shows the file until the process ends")
def test_a_kill_leaves_no_file(tmp_path: Path):
    code = (
        "import os, sys\n"
        "from wetread.runtime.files.disk_queue import DiskQueue\n"
        "queue = DiskQueue(sys.argv[1])\n"
        "for number in range(600): queue.put(str(number))\n"
        "assert queue._file is not None\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert list(tmp_path.iterdir()) == []
