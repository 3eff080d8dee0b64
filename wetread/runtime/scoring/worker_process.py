"""A worker process: it scores the chunks that the main process sends, and answers with what it made of them.

It ends when its standard input ends: when the main process closes it, or is gone, however it ended.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from wetread.runtime.entries import Entry
from wetread.runtime.scoring.batches import Model

_LENGTH = struct.Struct("<Q")


class Scorer(Protocol):
    """What scores chunks, such as `ChunkScorer`."""

    def score(self, entries: list[Entry], *, fatal: Collection[int] = ()) -> object:
        """Score a chunk. `fatal`: positions of inputs that are not read, because they end the process."""
        ...


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a worker process opens the model, and makes of it what scores. All of it can be pickled."""

    open_model: Callable[[], Model]
    make_scorer: Callable[[Model], Scorer]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was made of a chunk, or the error that ended it; and the warnings, each its class and words."""

    result: object
    error: BaseException | None = None
    warnings: tuple[tuple[type[Warning], str], ...] = ()


def serve() -> None:
    """Answer requests on standard input until it ends. Does not return."""
    _leave_signals_to_the_main_process()
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    try:
        _serve(requests, answers)
    except BrokenPipeError:
        os._exit(1)  # the main process is gone, and nobody reads an error
    os._exit(0)  # at once: what a library does at the end of Python may hang


def _leave_signals_to_the_main_process() -> None:
    """Ignore what asks the whole group of processes to stop: a worker ends when its standard input ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    setup = receive(requests)
    if setup is None:
        return
    try:
        scorer = setup.make_scorer(setup.open_model())
    except Exception as error:  # noqa: BLE001 - the main process says it
        return send(answers, Answer(None, _make_portable(error)))
    send(answers, os.getpid())
    while (request := receive(requests)) is not None:
        send(answers, _answer(scorer, *request))


def _answer(scorer: Scorer, entries: list[tuple[Any, ...]], fatal: tuple[int, ...]) -> Answer:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, error = scorer.score([Entry(*entry) for entry in entries], fatal=fatal), None
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


def send(stream: BinaryIO, message: object) -> None:
    """Write a message: its length, then its pickle."""
    send_pickled(stream, pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def send_pickled(stream: BinaryIO, data: bytes) -> None:
    """Write a message that was pickled before."""
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read a message; None where the stream has ended, also in the middle of one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return pickle.loads(data) if len(data) == length else None
