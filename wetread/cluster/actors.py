"""The actor that runs on a cluster's machines: one model, one session, one shard after the other.

Nothing here imports Ray. Errors are returned as text: the driver may not be able to unpickle an exception.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread.errors import SourceError, WetreadError
from wetread.runtime.entries import is_bucket_location

if TYPE_CHECKING:
    from wetread.runtime.scoring.run import ScoreOptions
    from wetread.runtime.shards.shard import ShardScorer


@dataclass(frozen=True, kw_only=True)
class Job:
    """The input of every actor of a run.

    `model`: the model file's bytes; `name`: its name in messages; `folder`: the driver's current folder, for
    names without a leading `/`; `manifest`: the digest of the manifest that the driver read; `count`: the
    number of shards; `signature`: that of the model, for machines that accept signed models alone.
    """

    model: bytes
    name: str
    device: str
    options: ScoreOptions
    folder: str
    manifest: str
    count: int
    signature: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a shard: rows by status, rows that existed already, seconds by stage; or an error."""

    counts: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    error: str = ""


class ShardActor:
    """Scores shards with one session. `open` first, then `score` any number of times."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scorer: ShardScorer | None = None

    def open(self) -> Outcome:
        """Create the session and open the manifest."""
        try:
            self._scorer = self._make_scorer()
            return Outcome()
        except (WetreadError, OSError) as error:
            return _explain(error)

    def _make_scorer(self) -> ShardScorer:
        from wetread.runtime.scoring.classifier import Classifier
        from wetread.runtime.shards.shard import ShardScorer

        job = self._job
        with suppress(OSError):  # a machine without this folder can still score objects in a bucket
            os.chdir(job.folder)
        classifier = Classifier(job.model, device=job.device, signature=job.signature)
        classifier.name = job.name
        scorer = ShardScorer(classifier, job.options)
        if scorer.manifest.digest != job.manifest:
            raise SourceError(
                f"The manifest {scorer.manifest.location!r} has the digest {scorer.manifest.digest} here, "
                f"and {job.manifest} at the run's start. Keep it where every machine reads the same one."
            )
        first = next(scorer.manifest.entries(), None)
        if first is not None and _is_relative(first.name) and os.getcwd() != job.folder:
            raise SourceError(
                f"This machine has no folder {job.folder!r}, the driver's, and {first.name!r} is relative to "
                "it. Make the manifest again with the source's absolute name."
            )
        return scorer

    def score(self, index: int) -> Outcome:
        """Score one shard, or verify it if it exists."""
        from wetread.runtime.shards.shard import Shard

        assert self._scorer is not None
        try:
            tally = self._scorer.score(Shard(index, self._job.count))
        except (WetreadError, OSError) as error:
            return _explain(error)
        return Outcome(counts=tally.counts, resumed=tally.resumed, seconds=tally.seconds)


def _is_relative(name: str) -> bool:
    return not (is_bucket_location(name) or os.path.isabs(name))


def _explain(error: Exception) -> Outcome:
    return Outcome(error=f"{error} (on {socket.gethostname()})")
