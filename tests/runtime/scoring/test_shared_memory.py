"""Memory that processes share: what lies in a tray comes without its bytes, and a tray is lent to one."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wetread.runtime.scoring.shared_memory import Trays, can_share
from wetread.runtime.scoring.worker_process import receive, send

pytestmark = pytest.mark.skipif(not can_share(), reason="this system has no memory without a name")
SIZE = 1 << 14


@pytest.fixture
def trays() -> Trays:
    made = Trays(2, SIZE)
    yield made
    made.close()


def attach(trays: Trays) -> Trays:
    """What a worker process makes of trays; here in the same one."""
    return pickle.loads(pickle.dumps(trays))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(1, 30)), max_size=8),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_arrays_come_as_they_were_made(shapes, seed):
    trays, numbers = Trays(1, SIZE), np.random.default_rng(seed)
    lease, stream, there = trays.lend(), io.BytesIO(), attach(trays)
    filling = there.fill(lease.number)
    made = []
    for shape in shapes:
        array = filling.allocate(shape)
        array[:] = numbers.integers(0, 256, shape)
        made.append(array[: numbers.integers(0, shape[0] + 1)])
    send(stream, ("words", *made), filling)
    wanted = [array.copy() for array in made]
    stream.seek(0)
    words, *found = receive(stream, lease)
    assert words == "words"
    for each, array in zip(found, wanted, strict=True):
        assert each.shape == array.shape and (each == array).all()
    trays.close()


def test_only_what_fits_lies_in_the_tray(trays):
    lease, stream = trays.lend(), io.BytesIO()
    filling = attach(trays).fill(lease.number)
    sent = [filling.allocate((size,)) for size in (SIZE - 64, 100, 64)]
    for array in sent:
        array[:] = 7
    send(stream, sent, filling)
    assert 100 < len(stream.getvalue()) < 700
    sent[0][:], sent[1][:] = 8, 8  # the tray is shared, and what came by its bytes is not
    found = receive(io.BytesIO(stream.getvalue()), lease)
    assert [int(array[0]) for array in found] == [8, 7, 7]


def test_a_tray_is_lent_again_when_nothing_of_it_is_left(trays):
    first, second = trays.lend(), trays.lend()
    assert {first.number, second.number} == {0, 1} and trays.lend() is None
    array = np.frombuffer(first.view(64, 10), np.uint8)[2:]
    number = first.number
    del first
    assert trays.lend() is None
    del array
    assert trays.lend().number == number


@pytest.mark.parametrize(("at", "length"), [(-1, 4), (SIZE, 1), (0, SIZE + 1), (SIZE - 3, 4), (0, -1)])
def test_an_answer_cannot_name_what_is_outside_its_tray(trays, at, length):
    lease = trays.lend()
    with pytest.raises(ValueError, match="not in its tray"):
        lease.view(at, length)


def test_arrays_outlive_their_trays():
    trays = Trays(1, SIZE)
    array = np.frombuffer(trays.lend().view(0, SIZE), np.uint8)
    trays.close()
    del trays
    assert not array.any()


def test_another_process_fills_a_tray(trays):
    code = (
        "import pickle, sys; trays = pickle.loads(bytes.fromhex(sys.argv[1]));"
        "trays.fill(1).allocate((5,))[:] = 9"
    )
    subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(trays).hex()], pass_fds=[trays.descriptor], check=True
    )
    assert {lease.number: lease.view(0, 6).tolist() for lease in (trays.lend(), trays.lend())} == {
        0: [0] * 6,
        1: [9] * 5 + [0],
    }


def test_where_there_is_no_memory_nothing_stays_open():
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        Trays(1, 1 << 60)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_standard_stream_takes_the_place_of_the_memory():
    code = (
        "import os\nfrom wetread.runtime.scoring.shared_memory import Trays\n"
        "out = os.dup(1)\n[os.close(number) for number in (0, 1, 2)]\n"
        "os.write(out, str(Trays(1, 4096).descriptor > 2).encode())"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"True"
