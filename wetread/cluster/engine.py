"""Run all shards of a manifest on a Ray cluster: actors with a session each, and a loop that gives them work.

Scoring a shard twice gives the same result (`runtime.shards`), so the loop keeps no state: a shard whose
actor or node is lost goes to another actor, and a restarted run verifies the finished shards and scores the
others. Plain actors, not Ray Data: docs/guides/many-machines.md has the measurements.
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
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.gcs.billing import bill_project
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.signature import check_signatures, list_required_keys, read_signature
from wetread.runtime.model.spec import check_digest, extract_spec
from wetread.runtime.scoring.run import ScoreOptions, Stop, Tally, Watch
from wetread.runtime.shards.shard import check_options, open_manifest

# A shard takes some seconds, so that losing one costs little; and there are few enough to list and merge.
_SHARD_NAMES, _MOST_SHARDS = 2048, 10_000
_ATTEMPTS = 5
_LOOK_SECONDS, _KNOCK_SECONDS = 1.0, 10.0
_STORE_BYTES = 80 << 20
_GPU_DEVICES = ("cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a run uses a Ray cluster.

    `model` and `public_key`: as in `Classifier`; the driver reads and verifies the model and sends its bytes
    to the actors. `address`: of the cluster (default: RAY_ADDRESS, or one on this machine during the run).
    `num_actors`: number of sessions (default: as many as fit now); those that do not fit wait for new nodes.
    `shards`: their number (default: `count_shards`); it must not change when a run is started again.
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
                raise UsageError(f"{name} must be 1 or more, not {value}.")


def count_shards(names: int) -> int:
    """Return the default number of shards of a manifest with this many names."""
    return max(1, min(math.ceil(names / _SHARD_NAMES), _MOST_SHARDS))


def score_on_cluster(
    options: ScoreOptions,
    cluster: ClusterOptions,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> Tally:
    """Score all shards of `options.from_manifest` into `options.output`, for `merge_shards` to join.

    `watch` is called after each shard. When `stop` returns true, the run ends and drops unfinished shards.
    Raises MissingExtraError without Ray, ClusterError if the cluster fails, and what the shards raise.
    """
    location, _ = check_options(options)
    manifest = open_manifest(location, options)
    model, signature = _read_model(cluster, options.project)
    job = Job(
        model=model,
        signature=signature,
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


def _read_model(cluster: ClusterOptions, project: str | None) -> tuple[bytes, bytes | None]:
    """Read the model and its signature; check its digest and, if a key is required, the signature.

    The signature goes along: the actors' machines may require one where this one does not.
    """
    with bill_project(project):
        data, name = read_model(cluster.model)
        extract_spec(data, name=name)
        check_digest(data, name=name)
        required = bool(list_required_keys(cluster.public_key))
        signature = read_signature(name) if required or not is_bucket_location(name) else None
        check_signatures(data, name=name, signature=signature, public_key=cluster.public_key)
    return data, signature


def import_ray() -> Any:
    """Import Ray, with its usage statistics switched off. Raises MissingExtraError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with importing("ray", extra="ray"):
        import ray
    return ray


@contextmanager
def connect(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine alone. Raises ClusterError."""
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
                f"The Ray cluster at {address!r} cannot be reached: {words}. Check the address, and that it "
                "runs the same versions of Ray and Python."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens there: Ray itself would retry for minutes, and print lines."""
    host, colon, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Restore the signal handlers, which Ray replaces by its own."""
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
    """Gives shards to actors, and gives those of lost actors to others."""

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
        # For each awaited answer, its actor and shard (None: the actor is starting).
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
        """Process an answer, and give its actor more work; None if it finished no shard."""
        actor, shard = self._awaited.pop(answer)
        try:
            outcome: Outcome = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise ClusterError(
                f"Ray failed while {self._describe(shard)}: {error.cause!r}. Look at the actor's log."
            ) from error
        except self._ray.exceptions.RayError as error:
            self._replace(actor, shard, error)
            return None
        if outcome.error:
            raise ClusterError(outcome.error)
        if shard is None:
            self._attempts[None] = 0  # counts only starts that failed one after the other
        if self._left:
            index = self._left.popleft()
            self._awaited[actor.score.remote(index)] = (actor, index)
        else:
            self._ray.kill(actor)
        return outcome if shard is not None else None

    def _replace(self, actor: Any, shard: int | None, error: Exception) -> None:
        """Put a lost actor's shard at the front of the queue, and start another actor."""
        self._attempts[shard] += 1
        if self._attempts[shard] >= _ATTEMPTS * (self._number if shard is None else 1):
            words = " ".join(str(error).split())
            raise ClusterError(
                f"The actor was lost {self._attempts[shard]} times while {self._describe(shard)}. The last "
                f"error: {words[-500:]}. Finished shards are kept: run the command again."
            )
        self._ray.kill(actor)
        if shard is not None:
            self._left.appendleft(shard)
        self._start_actor()

    def _describe(self, shard: int | None) -> str:
        return "starting" if shard is None else f"scoring shard {shard}/{self._job.count}"


def _count_fitting(resources: dict[str, float], *, cpus: int, gpus: int) -> int:
    """Return how many actors fit on a cluster now; at least one, because nodes may still join."""
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
