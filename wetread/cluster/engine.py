"""All shards of a manifest on a Ray cluster: actors with a session each, and a loop that gives them work.

A shard is right however often it is scored (`runtime.shards`), so the loop needs to remember nothing: a
shard whose actor or node is lost is given to another, and a run that is started again meets the finished ones
and verifies them. Plain actors, not Ray Data: docs/guides/many-machines.md says what was measured.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from wetread.cluster.actors import Job, Outcome, ShardActor
from wetread.errors import ClusterError, UsageError
from wetread.packages import importing
from wetread.runtime.gcs.billing import bill_project
from wetread.runtime.model.file import read_model
from wetread.runtime.model.signature import check_signature, read_signature
from wetread.runtime.model.spec import check_digest, extract_spec
from wetread.runtime.scoring.run import ScoreOptions, Stop, Tally, Watch
from wetread.runtime.shards.shard import check_options, open_manifest

# A shard is some seconds of work, so that a lost one costs little; and few enough to list and merge.
_SHARD_NAMES, _MOST_SHARDS = 2048, 10_000
_ATTEMPTS = 5
_LOOK_SECONDS, _KNOCK_SECONDS = 1.0, 10.0
_STORE_BYTES = 80 << 20
_GPU_DEVICES = ("cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a run uses a Ray cluster.

    `model` and `public_key` as of `Classifier`: the driver reads and proves it, and gives its bytes to the
    actors. `address`: the cluster's (default: RAY_ADDRESS, or one on this machine for the run's length).
    `num_actors`: sessions at work (default: as many as fit now); more than fit wait for nodes to join.
    `shards`: how many (default: `count_shards`); a run that is started again must have as many.
    """

    model: str
    public_key: str | None = None
    address: str | None = None
    num_actors: int | None = None
    shards: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (("--num-actors", self.num_actors), ("--shards", self.shards)):
            if value is not None and value < 1:
                raise UsageError(f"Expected {name} of 1 or more. Received {value}.")


def count_shards(names: int) -> int:
    """How many shards a manifest of so many names has, unless told: the same whenever it is asked."""
    return max(1, min(math.ceil(names / _SHARD_NAMES), _MOST_SHARDS))


def score_on_cluster(
    options: ScoreOptions,
    cluster: ClusterOptions,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> Tally:
    """Score all shards of `options.from_manifest` into `options.output`, for `merge_shards` to join.

    `watch` is called after each shard; when `stop` says so, the run ends, and the shards at hand are lost.
    Raises MissingExtraError without Ray, ClusterError when the cluster fails, and what the shards raise.
    """
    location, _ = check_options(options)
    manifest = open_manifest(location, options)
    job = Job(
        model=_read_model(cluster, options.project),
        name=cluster.model,
        device=cluster.device,
        options=replace(options, workers=options.workers or 1),
        folder=os.getcwd(),
        manifest=manifest.digest,
        count=cluster.shards or count_shards(manifest.names),
    )
    ray = import_ray()
    with connect(ray, cluster.address):
        return _Loop(ray, job, cluster).run(watch, stop)


def _read_model(cluster: ClusterOptions, project: str | None) -> bytes:
    """Read the model and hold it to its digest and, where a key is given, to its signature."""
    with bill_project(project):
        data, name = read_model(cluster.model)
        extract_spec(data, name=name)
        check_digest(data, name=name)
        if cluster.public_key is not None:
            signature = read_signature(name)
            check_signature(data, name=name, signature=signature, public_key=cluster.public_key)
    return data


def import_ray() -> Any:
    """Import Ray, which is told to send nothing home. Raises MissingExtraError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with importing("ray", extra="ray"):
        import ray
    return ray


@contextmanager
def connect(ray: Any, address: str | None) -> Iterator[None]:
    """Be connected to a cluster, or to one on this machine alone. Raises ClusterError."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = {"_node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    with _kept_handlers():
        try:
            _knock(address)
            ray.init(address=address, **quiet, **(here if address == "local" else {}))
        except (OSError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())
            raise ClusterError(
                f"Expected a Ray cluster at {address!r}. Received: {words}. Check the address, and that it "
                "runs the same versions of Ray and Python."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would ask for minutes, and print as it does."""
    host, colon, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Keep the handlers of signals: Ray puts its own in their place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Loop:
    """Gives shards to actors, and those of lost actors to others."""

    def __init__(self, ray: Any, job: Job, cluster: ClusterOptions) -> None:
        self._ray, self._job = ray, job
        cpus = job.options.workers or 1
        gpus = 1 if cluster.device in _GPU_DEVICES else 0
        fit = _count_fitting(ray.cluster_resources(), cpus=cpus, gpus=gpus)
        self._number = min(cluster.num_actors or fit, job.count)
        self._kind = ray.remote(num_cpus=cpus, num_gpus=gpus, scheduling_strategy="SPREAD")(ShardActor)
        self._given = ray.put(job)
        self._left = deque(range(job.count))
        self._attempts: Counter[int | None] = Counter()
        # What each answer that is awaited will be about: an actor, and its shard (None: it is starting).
        self._awaited: dict[Any, tuple[Any, int | None]] = {}

    def run(self, watch: Watch | None, stop: Stop | None) -> Tally:
        """Score every shard."""
        tally, done = Tally(), 0
        for _ in range(self._number):
            self._start_actor()
        while done < self._job.count:
            for answer in self._ray.wait(list(self._awaited), timeout=_LOOK_SECONDS)[0]:
                outcome = self._take(answer)
                if outcome is not None:
                    _add_outcome(tally, outcome)
                    done += 1
                    if watch is not None:
                        watch(tally)
            if stop is not None and stop():
                tally.interrupted = True
                break
        return tally

    def _start_actor(self) -> None:
        actor = self._kind.remote(self._given)
        self._awaited[actor.open.remote()] = (actor, None)

    def _take(self, answer: Any) -> Outcome | None:
        """Take in an answer, and give its actor more work; None when no shard was finished by it."""
        actor, shard = self._awaited.pop(answer)
        try:
            outcome: Outcome = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise ClusterError(
                f"Expected {self._describe(shard)}. Received {error.cause!r}. Look at the log of its actor."
            ) from error
        except self._ray.exceptions.RayError as error:
            self._replace(actor, shard, error)
            return None
        if outcome.error:
            raise ClusterError(outcome.error)
        if shard is None:
            self._attempts[None] = 0  # of starts that failed one after the other
        if self._left:
            index = self._left.popleft()
            self._awaited[actor.score.remote(index)] = (actor, index)
        else:
            self._ray.kill(actor)
        return outcome if shard is not None else None

    def _replace(self, actor: Any, shard: int | None, error: Exception) -> None:
        """Put a lost actor's shard first again, and another actor in its place."""
        self._attempts[shard] += 1
        if self._attempts[shard] >= _ATTEMPTS * (self._number if shard is None else 1):
            words = " ".join(str(error).split())
            raise ClusterError(
                f"Expected {self._describe(shard)}. Received the loss of the actor {self._attempts[shard]} "
                f"times, the last one so: {words[-500:]}. Finished shards are kept: run the command again."
            )
        self._ray.kill(actor)
        if shard is not None:
            self._left.appendleft(shard)
        self._start_actor()

    def _describe(self, shard: int | None) -> str:
        return "actors that start" if shard is None else f"shard {shard}/{self._job.count} to be scored"


def _count_fitting(resources: dict[str, float], *, cpus: int, gpus: int) -> int:
    """How many actors a cluster has room for; one at least, for nodes may be on their way."""
    fit = int(resources.get("CPU", 0) // cpus)
    if gpus:
        fit = min(fit, int(resources.get("GPU", 0) // gpus))
    return max(1, fit)


def _add_outcome(tally: Tally, outcome: Outcome) -> None:
    for status, count in outcome.counts.items():
        tally.counts[status] = tally.counts.get(status, 0) + count
    for stage, seconds in outcome.seconds.items():
        tally.add_seconds(stage, seconds)
    tally.resumed += outcome.resumed
