"""Messages of worker processes, with arrays; and what becomes of a worker whose main process is gone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.runtime.scoring.test_processes import LINUX, find_children, wait_until_gone
from wetread.runtime.scoring import worker_process
from wetread.runtime.scoring.worker_process import receive, send


@given(
    arrays.arrays(st.sampled_from([np.uint8, np.float32]), arrays.array_shapes(min_dims=1, min_side=0)),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_a_message_comes_whole_or_not_at_all(array, transposed, cut):
    array = array.T if transposed else array
    stream = io.BytesIO()
    send(stream, ("words", array, array[:1]))
    data = stream.getvalue()
    words, *found = receive(io.BytesIO(data))
    assert words == "words"
    for each, wanted in zip(found, (array, array[:1]), strict=True):
        assert (each.dtype, each.shape) == (wanted.dtype, wanted.shape) and each.tobytes() == wanted.tobytes()
    assert receive(io.BytesIO(data[: cut % len(data)])) is None


_PARENT = """
import sys, time
from wetread.runtime.scoring import processes, worker_process
from tests.runtime.scoring.test_worker_process import open_endless
from wetread.runtime.entries import Entry
import pickle
process = processes.WorkerProcess(pickle.dumps((open_endless, None)))
assert process.wait()
print("ready", flush=True)
process.ask([Entry("a.jpg")], ())
"""


def open_endless() -> object:
    """Open work that never ends."""
    worker_process._LOOK_SECONDS = 0.05
    return lambda entries, fatal: signal.pause()


@LINUX
@pytest.mark.skipif(os.name == "nt", reason="a process of Windows keeps the number of its parent")
def test_a_chunk_that_never_ends_ends_with_its_main_process():
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
    workers = find_children(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert workers and wait_until_gone(workers) == []
