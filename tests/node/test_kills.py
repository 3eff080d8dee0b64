"""A kill before, in the middle of and after each line that a node writes into its ledger or its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node.conftest import make_image
from wetread import Classifier
from wetread.errors import Status
from wetread.node import service
from wetread.node import store as store_module
from wetread.node.options import NodeOptions, Peer
from wetread.node.sender import _CLASSES, list_ways
from wetread.node.service import _Node
from wetread.node.store import Store, Survey, key_name
from wetread.node.store_marker import StoreMarker
from wetread.runtime.files import disk_queue
from wetread.runtime.files.line_log import LineLog
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.watch.growing_output import Calls

UIDS = ("1.2.3.1", "1.2.3.2")


class Killed(BaseException):
    """Nothing of the process goes on after it."""


class Association:
    """An archive's side: it takes everything."""

    is_established = True
    accepted_contexts = tuple(SimpleNamespace(abstract_syntax=kind) for kind in _CLASSES.values())

    def __init__(self, sent: list[str]) -> None:
        self._sent = sent

    def send_c_store(self, made: Any) -> dict[str, int]:
        self._sent.append(made.what)
        return {"Status": 0}

    def release(self) -> None:
        pass


@dataclass
class World:
    """What outlives a kill: the disk, the archive, and what the modality was told."""

    folder: Path
    model: Classifier
    options: NodeOptions
    answered: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)

    def open_store(self) -> Store:
        options = self.options
        return Store(
            options.store,
            ledger=options.output + ".node",
            identity=options.identify_store(self.model.digest),
            results=list_ways(options),
        )

    def run(self) -> None:
        """Run a node, without threads, until nothing waits; what is not answered is sent to it again."""
        store = self.open_store()
        with ExitStack() as held:
            held.callback(store._let_go)
            node = _Node(self.model, self.options, store, Calls(stop=lambda: False))
            held.callback(node.sender.stop)
            node.sender._make = lambda name, kind: SimpleNamespace(  # type: ignore[assignment,return-value]
                SOPClassUID=_CLASSES[kind], what=f"{kind} {name}"
            )
            node.sender._associate = lambda _: Association(self.sent)  # type: ignore[method-assign]
            held.enter_context(node.rows.opened())
            node.recover()
            for number, uid in enumerate(UIDS):
                if uid not in self.answered:
                    _, name = store.keep(uid, make_image(number))
                    self.answered.add(uid)
                    node.offer(name)
            while node._arrived or node.sender.waiting:
                node.work()
                node.sender.visit_due()

    def count_rows(self) -> list[int]:
        rows = Path(self.options.output).read_text().splitlines()[1:]
        return [sum(f"/{uid}.dcm" in row for row in rows) for uid in UIDS]


@pytest.fixture
def make_world(tmp_path: Path, model: Classifier) -> Callable[[str, tuple[str, ...]], World]:
    def make(name: str, results: tuple[str, ...]) -> World:
        folder = tmp_path / name
        folder.mkdir()
        options = NodeOptions(
            ae_title="WETREAD",
            output=str(folder / "scores.csv"),
            store=str(folder / "store"),
            allow=(Peer("*", "*"),),
            archives=(Peer("ARCH", "127.0.0.1", 104),) if results else (),
            results=results,
            retain="delete",
            workers=1,
            isolated=False,
        )
        return World(folder, model, options)

    return make


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process end at one moment of its writing."""
    whole, moments = LineLog.append, iter(range(10_000))
    take, taken = StoreMarker.take, []

    def pass_by(log: LineLog, left: bytes = b"") -> None:
        if next(moments) == moment:
            log._file.write(left)
            log.close()
            for marker in taken:
                marker.close()
            raise Killed

    def append(self: LineLog, line: Mapping[str, Any]) -> None:
        pass_by(self)
        pass_by(self, b'{"half a')
        whole(self, line)
        pass_by(self)

    def note_and_take(self: StoreMarker) -> None:
        taken.append(self)
        take(self)

    monkeypatch.setattr(LineLog, "append", append)
    monkeypatch.setattr(StoreMarker, "take", note_and_take)


@pytest.mark.parametrize("results", [(), ("sr", "sc")])
def test_a_kill_at_any_line_loses_nothing_and_doubles_nothing(make_world, monkeypatch, results):
    monkeypatch.setattr(disk_queue, "_PAGE", 1)  # all that waits goes through the file
    wanted = {f"{kind} {uid}.dcm" for kind in results for uid in UIDS}
    kills = 0
    while True:
        world = make_world(str(kills), results)
        with monkeypatch.context() as patch:
            kill_at(patch, kills)
            try:
                world.run()
            except Killed:
                kills += 1
            else:
                break
        world.run()
        found = Counter(world.sent)
        assert (world.count_rows(), set(found)) == ([1, 1], wanted)
        assert sum(found.values()) <= len(wanted) + 1  # that which was on its way
        store = world.open_store()
        assert (store.survey, [store.keep(uid, make_image(n))[0].name for n, uid in enumerate(UIDS)]) == (
            Survey(),
            ["SAME", "SAME"],
        )
        store.close()
    assert kills >= 3 * (5 + len(wanted))
    assert Counter(world.sent) == dict.fromkeys(wanted, 1)


def test_a_start_takes_up_results_and_objects_that_wait(make_world, monkeypatch):
    """More than are looked at, or held in memory, at a time."""
    for module, name, value in ((service, "_MOST", 7), (disk_queue, "_PAGE", 5), (store_module, "_PART", 11)):
        monkeypatch.setattr(module, name, value)
    world = make_world("many", ("sr", "sc"))
    names = [f"1.2.4.{number}.dcm" for number in range(100)]
    world.open_store().close()
    for name in names:
        (Path(world.options.store) / name).write_bytes(name.encode())
    for turn in range(2):
        store = world.open_store()
        assert store.survey == Survey(waiting=100)
        node = _Node(world.model, world.options, store, Calls(stop=lambda: False))
        with node.rows.opened():
            node.recover()
            if turn == 0:
                assert (list(node._arrived), node.sender.waiting) == (sorted(names), 0)
                scored = [make_prediction(name) for name in names[:80]]
                node.rows.journal.append(scored, [key_name(name) for name in names[:80]])
                store.note_sent(names[0], list_ways(world.options)[0])
            else:
                assert (list(node._arrived), node.sender.waiting) == (sorted(names[80:]), 2 * 80 - 1)
        node.sender.stop()
        store.close()


def make_prediction(name: str) -> Prediction:
    return Prediction(name, Status.OK, label="b", probability=0.5, probabilities=(0.5, 0.5))
