"""The loop that gives shards to actors, held to an imitation of Ray in which actors die when told."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.keys import write_keys
from wetread.cluster import engine
from wetread.cluster.actors import Job, Outcome, ShardActor
from wetread.cluster.engine import ClusterOptions, connect, count_shards, import_ray, score_on_cluster
from wetread.errors import ClusterError, MissingExtraError, TamperedModelError, UsageError
from wetread.runtime.model.signature import ONLY_SIGNED, sign_model
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, Tally, score_to_file
from wetread.runtime.shards.merge import MergeOptions, merge_shards
from wetread.runtime.sources.manifest import Manifest
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest

SHARDS = 6


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = ValueError("broken")


class FakeRay:
    """What the engine uses of Ray, with actors in this process.

    `before(number, method)` is called before each call of each actor, and may raise what the call answers.
    `cpus`: what the cluster has.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, before: Callable[[int, str], None] = lambda number, method: None, *, cpus: int = 2):
        self.before, self.cpus = before, cpus
        self.started = self.killed = 0
        self.asked: dict[str, object] = {}
        self._answers = count()
        self._work: dict[int, Callable[[], object]] = {}
        self.initialized: dict[str, object] | None = None

    def init(self, **options: object) -> None:
        self.initialized = options
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def shutdown(self) -> None:
        self.initialized = None

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)}

    def put(self, value: object) -> object:
        return value

    def kill(self, actor: object) -> None:
        self.killed += 1

    def remote(self, **asked: object) -> Callable[[type], object]:
        self.asked = asked
        return lambda kind: SimpleNamespace(remote=lambda *given: self._start(kind(*given)))

    def _start(self, actor: ShardActor) -> object:
        number = self.started
        self.started += 1

        def method(name: str) -> object:
            return SimpleNamespace(remote=lambda *given: self._call(number, name, actor, given))

        return SimpleNamespace(open=method("open"), score=method("score"))

    def _call(self, number: int, name: str, actor: ShardActor, given: tuple) -> int:
        answer = next(self._answers)

        def work() -> object:
            self.before(number, name)
            return getattr(actor, name)(*given)

        self._work[answer] = work
        return answer

    def wait(self, answers: list[int], *, timeout: float) -> tuple[list[int], list[int]]:
        assert answers
        return answers[:1], answers[1:]

    def get(self, answer: int) -> object:
        return self._work.pop(answer)()


@pytest.fixture
def options(image_folder, tmp_path) -> ScoreOptions:
    make_manifest(ManifestOptions(sources=(str(image_folder),), output=str(tmp_path / "m")))
    shards = str(tmp_path / "shards")
    return ScoreOptions(from_manifest=str(tmp_path / "m"), output=shards, batch_size=2)


def run(monkeypatch, model: Path, options: ScoreOptions, ray: FakeRay, **changed) -> Tally:
    watch, stop = changed.pop("watch", None), changed.pop("stop", None)
    monkeypatch.setattr(engine, "import_ray", lambda: ray)
    cluster = ClusterOptions(**({"model": str(model), "shards": SHARDS, "device": "cpu"} | changed))
    return score_on_cluster(options, cluster, watch=watch, stop=stop)


def check_merged(model: Path, options: ScoreOptions, images: Path, folder: Path) -> None:
    """Hold the shards to what one run writes."""
    one, merged = folder / "one.csv", folder / "merged.csv"
    direct = ScoreOptions(sources=(str(images),), output=str(one), batch_size=2)
    score_to_file(Classifier(model, device="cpu"), direct)
    merge_shards(MergeOptions(folder=str(options.output), output=str(merged)))
    assert merged.read_bytes() == one.read_bytes()


def test_every_shard_is_scored_once(monkeypatch, toy_model, options, image_folder, tmp_path):
    ray, rows = FakeRay(), []
    tally = run(monkeypatch, toy_model, options, ray, watch=lambda tally: rows.append(tally.rows))
    assert rows == [2, 4, 6, 8, 10, 12]
    assert (tally.counts, tally.resumed) == ({"ok": 12}, 0)
    assert (ray.started, ray.killed, ray.initialized) == (2, 2, None)
    assert ray.asked == {"num_cpus": 1, "num_gpus": 0, "scheduling_strategy": "SPREAD"}
    check_merged(toy_model, options, image_folder, tmp_path)


def test_the_shards_of_lost_actors_go_to_others(monkeypatch, toy_model, options, image_folder, tmp_path):
    calls = count()

    def die(number: int, method: str) -> None:
        if next(calls) in (0, 2, 3, 7, 10, 11):
            raise RayError("the node is gone")

    ray = FakeRay(die)
    tally = run(monkeypatch, toy_model, options, ray)
    assert tally.counts == {"ok": 12}
    assert ray.started == 2 + 6
    check_merged(toy_model, options, image_folder, tmp_path)


def test_an_answer_that_is_lost_after_the_work_is_verified(
    monkeypatch, toy_model, options, image_folder, tmp_path
):
    lost: list[int] = []

    class Forgetful(FakeRay):
        def get(self, answer: int) -> object:
            result = super().get(answer)
            if isinstance(result, Outcome) and result.counts and len(lost) < 3:
                lost.append(answer)
                raise RayError("the answer is gone")
            return result

    tally = run(monkeypatch, toy_model, options, Forgetful())
    assert len(lost) == 3
    assert (tally.counts, tally.resumed) == ({"ok": 12}, 4)  # one shard's answer was lost twice
    check_merged(toy_model, options, image_folder, tmp_path)


def test_a_shard_that_kills_its_actors_ends_the_run(monkeypatch, toy_model, options):
    def die(number: int, method: str) -> None:
        if method == "score":
            raise RayError("out of\nmemory")

    with pytest.raises(ClusterError, match=r"lost 5 times while scoring shard \d/6\. .*out of memory"):
        run(monkeypatch, toy_model, options, FakeRay(die))


def test_actors_that_never_start_end_the_run(monkeypatch, toy_model, options):
    def die(number: int, method: str) -> None:
        raise RayError("no such module")

    ray = FakeRay(die)
    with pytest.raises(ClusterError, match=r"times while starting\. .*no such module"):
        run(monkeypatch, toy_model, options, ray)
    assert ray.started == 2 + 2 * 5 - 1


def test_an_error_of_ours_in_an_actor_is_told(monkeypatch, toy_model, options, tmp_path):
    (tmp_path / "shards").write_text("no folder")
    with pytest.raises(ClusterError, match=r"cannot be read or written.*\(on "):
        run(monkeypatch, toy_model, options, FakeRay())


def test_an_error_that_is_not_ours_is_told(monkeypatch, toy_model, options):
    def fail(number: int, method: str) -> None:
        raise RayTaskError("a long traceback")

    with pytest.raises(ClusterError, match=r"ValueError\('broken'\)"):
        run(monkeypatch, toy_model, options, FakeRay(fail))


def test_a_run_that_is_stopped_goes_on_later(monkeypatch, toy_model, options, image_folder, tmp_path):
    seen: list[int] = []
    first = run(
        monkeypatch,
        toy_model,
        options,
        FakeRay(),
        watch=lambda tally: seen.append(tally.rows),
        stop=lambda: len(seen) >= 2,
    )
    assert first.interrupted
    assert first.rows == 4
    second = run(monkeypatch, toy_model, options, FakeRay())
    assert (second.rows, second.resumed) == (12, 4)
    check_merged(toy_model, options, image_folder, tmp_path)


def make_job(model: Path, options: ScoreOptions, **changed) -> Job:
    fixed = {"model": model.read_bytes(), "name": "toy", "device": "cpu", "options": options, "count": 2}
    digest = Manifest(str(options.from_manifest)).digest
    return Job(**(fixed | {"folder": os.getcwd(), "manifest": digest} | changed))


def test_an_actor_gets_the_signature_that_its_machine_demands(toy_model, options, tmp_path, monkeypatch):
    pytest.importorskip("cryptography")
    private, public = write_keys(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "installed" / "env"))
    (tmp_path / "installed" / "env").mkdir(parents=True)
    (tmp_path / "installed" / ONLY_SIGNED).write_bytes(public.read_bytes())
    outcome = ShardActor(make_job(toy_model, options)).open()
    assert "toy has no signature" in outcome.error or "the model has no signature" in outcome.error
    signature = sign_model(toy_model.read_bytes(), key=private)
    assert not ShardActor(make_job(toy_model, options, signature=signature)).open().error


def test_an_actor_that_sees_another_manifest(toy_model, options):
    outcome = ShardActor(make_job(toy_model, options, manifest="0" * 64)).open()
    assert "at the run's start" in outcome.error


def test_an_actor_works_where_its_driver_does(toy_model, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(image_folder.parent)
    make_manifest(ManifestOptions(sources=("images",), output="m"))
    options = ScoreOptions(from_manifest="m", output="shards")
    job = make_job(toy_model, options)
    monkeypatch.chdir("/")
    actor = ShardActor(job)
    assert actor.open() == Outcome()
    assert actor.score(0).counts == {"ok": 12}
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["00000-of-00002.jsonl.shard"]
    absolute = ScoreOptions(from_manifest=str(tmp_path / "m"), output=str(tmp_path / "shards"))
    lost = ShardActor(make_job(toy_model, absolute, folder="/not/here")).open()
    assert "This machine has no folder '/not/here', the driver's" in lost.error


def test_how_many_actors_there_are(monkeypatch, toy_model, options):
    for cpus, chosen, expected in ((8, None, SHARDS), (0, None, 1), (2, 4, 4), (4, None, 4)):
        ray = FakeRay(cpus=cpus)
        run(monkeypatch, toy_model, options, ray, num_actors=chosen)
        assert ray.started == expected
    assert engine._count_fitting({"CPU": 16.0, "GPU": 2.0}, cpus=2, gpus=1) == 2


def test_how_many_shards_there_are():
    assert [count_shards(names) for names in (0, 1, 2048, 2049, 100_000)] == [1, 1, 1, 2, 49]
    assert [count_shards(10**6), count_shards(10**8)] == [489, 10_000]


def test_the_number_of_shards_is_the_manifests(monkeypatch, toy_model, options):
    assert Manifest(str(options.from_manifest)).names == 12
    tally = run(monkeypatch, toy_model, options, FakeRay(), shards=None)
    assert tally.rows == 12
    assert [path.name for path in Path(str(options.output)).iterdir()] == ["00000-of-00001.jsonl.shard"]


@pytest.mark.parametrize("wrong", [{"num_actors": 0}, {"shards": 0}, {"shards": -1}])
def test_wrong_numbers(wrong):
    with pytest.raises(UsageError, match="1 or more"):
        ClusterOptions(model="m", **wrong)


def test_a_signature_is_demanded_before_ray_is_looked_for(monkeypatch, toy_model, options, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    _, public = write_keys(tmp_path)
    with pytest.raises(TamperedModelError, match="signature"):
        score_on_cluster(options, ClusterOptions(model=str(toy_model), public_key=str(public)))


def test_options_are_refused_before_ray_is_looked_for(monkeypatch, toy_model):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="--from-manifest"):
        score_on_cluster(ScoreOptions(sources=("x",), output="y"), ClusterOptions(model=str(toy_model)))


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wetread\[ray\]'"):
        import_ray()


def test_signals_stay_the_callers(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay()

    def handle(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with connect(ray, None):
            assert signal.getsignal(signal.SIGTERM) is handle
            assert ray.initialized["address"] == "local"
            assert ray.initialized["_node_ip_address"] == "127.0.0.1"
        monkeypatch.setattr(engine, "_knock", lambda address: None)
        with connect(ray, "10.0.0.1:6379"):
            assert set(ray.initialized) == {"address", "log_to_driver", "logging_level"}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_cluster_that_cannot_be_reached(monkeypatch):
    ray = FakeRay()
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody\nthere")))
    with pytest.raises(ClusterError, match="at 'x' cannot be reached: nobody there"), connect(ray, "x"):
        pass


def test_nobody_listens_at_an_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        engine._knock(f"127.0.0.1:{port}")
        engine._knock(f"ray://127.0.0.1:{port}")
    for address in (f"127.0.0.1:{port}", f"ray://localhost:{port}"):
        with pytest.raises(ClusterError, match="refused"), connect(FakeRay(), address):
            pass
    engine._knock("auto")
