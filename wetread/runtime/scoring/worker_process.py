"""A worker process: it works on the chunks that the main process sends, and answers with what became of them.

It ends when its standard input ends: when the main process closes it, or is gone, however it ended.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Collection
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from wetread.runtime.entries import Entry
from wetread.runtime.scoring.shared_memory import Filling, Lease

_MARK, _HEAD, _ARRAY = b"wetread:", struct.Struct("<8sQQ"), struct.Struct("<Qq")
_HERE = -1  # an array's bytes follow: it lies in no tray
_LOOK_SECONDS = 5.0


class Work(Protocol):
    """What is done with a chunk of inputs, such as `ChunkScorer.score`."""

    def __call__(self, entries: list[Entry], *arguments: Any, **how: Any) -> Any:
        """Do it. `fatal`, a keyword: positions of inputs that are not read, because they end the process.

        `allocate`, where trays are lent: makes the arrays that are sent back.
        """
        ...


# Opens in the process what the work needs, such as the model. It can be pickled.
Opening = Callable[[], Work]


class Answer(NamedTuple):
    """What was made of a request, or the error that ended it; and the warnings, each its class and words."""

    result: object
    error: BaseException | None = None
    warnings: tuple[tuple[type[Warning], str], ...] = ()


def serve() -> None:
    """Answer requests on standard input until it ends. Does not return."""
    _end_with_the_main_process()
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    try:
        _serve(requests, answers)
    except BrokenPipeError:
        os._exit(1)  # the main process is gone, and nobody reads an error
    os._exit(0)  # at once: what a library does at the end of Python may hang


def _end_with_the_main_process() -> None:
    """End when the main process is gone, even in the middle of a chunk that never ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    if (opened := receive(requests)) is None:
        return
    opening, trays = opened
    try:
        work = opening()
    except Exception as error:  # noqa: BLE001 - the main process says it
        return send(answers, Answer(None, _make_portable(error)))
    send(answers, os.getpid())
    while (request := receive(requests)) is not None:
        entries, fatal, tray = request
        filling = None if tray is None else trays.fill(tray)
        send(answers, _answer(work, entries, fatal, filling), filling)


def _answer(
    work: Work, entries: list[tuple[Any, ...]], fatal: tuple[int, ...], filling: Filling | None
) -> Answer:
    how = {} if filling is None else {"allocate": filling.allocate}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = work([Entry(*entry) for entry in entries], fatal=fatal, **how), None
        except Exception as raised:  # noqa: BLE001 - it ends the run, as it would in a thread
            result, error = None, _make_portable(raised)
    return Answer(result, error, tuple((each.category, str(each.message)) for each in caught))


def _make_portable(error: Exception) -> Exception:
    """Return an error that can be pickled: itself, or one with its words. A note holds its traceback."""
    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - what an error's own code raises
        portable = RuntimeError(f"{type(error).__name__}: {error}")
        portable.__notes__ = error.__notes__
        return portable
    return error


def send(stream: BinaryIO, message: object, filling: Filling | None = None) -> None:
    """Write a message: two lengths, its pickle, and its arrays: each its length, its place, and its bytes.

    Of an array that lies in the tray of `filling`, the place there stands for the bytes.
    """
    arrays: list[pickle.PickleBuffer] = []
    data = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    send_pickled(stream, data, arrays, filling)


def send_pickled(
    stream: BinaryIO,
    data: bytes,
    arrays: Collection[pickle.PickleBuffer] = (),
    filling: Filling | None = None,
) -> None:
    """Write a message that was pickled before."""
    stream.write(_HEAD.pack(_MARK, len(data), len(arrays)))
    stream.write(data)
    for array in arrays:
        content, place = array.raw(), None if filling is None else filling.find(array)
        stream.write(_ARRAY.pack(content.nbytes, _HERE if place is None else place))
        if place is None:
            stream.write(content)
    stream.flush()


def receive(stream: BinaryIO, lease: Lease | None = None) -> Any:
    """Read a message; None where the stream has ended, also in the middle of one. Raises ValueError.

    `lease`: of the tray that was lent to what answers.
    """
    if (head := _read_whole(stream, _HEAD.size)) is None:
        return None
    mark, length, count = _HEAD.unpack(head)
    if mark != _MARK:
        raise ValueError("it answers with what is no message; perhaps something prints when Python starts")
    if (data := _read_whole(stream, length)) is None:
        return None
    arrays = []
    for _ in range(count):
        if (head := _read_whole(stream, _ARRAY.size)) is None:
            return None
        size, place = _ARRAY.unpack(head)
        array = _read_whole(stream, size) if place == _HERE or lease is None else lease.view(place, size)
        if array is None:
            return None
        arrays.append(array)
    return pickle.loads(data, buffers=arrays)


def _read_whole(stream: BinaryIO, length: int) -> memoryview | None:
    """Read so many bytes, without the interpreter's lock; None where there are fewer."""
    found = np.empty(length, np.uint8).data if length else memoryview(b"")
    return found if not length or stream.readinto(found) == length else None  # type: ignore[attr-defined]
