"""What runs on a cluster's machines: one model, one session, one shard after the other.

Nothing here imports Ray. Errors go back as words: an exception's class may not survive the way.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wetread.errors import SourceError, WetreadError

if TYPE_CHECKING:
    from wetread.runtime.runs import ScoreOptions
    from wetread.runtime.shards import ShardScorer


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every actor of a run is given.

    `model` is the model file's bytes, `name` what to call it; `manifest` the digest of the manifest that
    the driver saw; `count` the number of shards.
    """

    model: bytes
    name: str
    device: str
    options: ScoreOptions
    manifest: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a shard: rows by status, those that stood already, seconds by stage; or an error."""

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
        """Make the session and open the manifest."""
        try:
            self._scorer = self._make_scorer()
            return Outcome()
        except (WetreadError, OSError) as error:
            return _explain(error)

    def _make_scorer(self) -> ShardScorer:
        from wetread.runtime.classifier import Classifier
        from wetread.runtime.shards import ShardScorer

        job = self._job
        classifier = Classifier(job.model, device=job.device)
        classifier.name = job.name
        scorer = ShardScorer(classifier, job.options)
        if scorer.manifest.digest != job.manifest:
            raise SourceError(
                f"Expected the manifest of the run's start, {job.manifest}, at {scorer.manifest.location!r}. "
                f"Received {scorer.manifest.digest}. Keep it where every machine sees the same one."
            )
        return scorer

    def score(self, index: int) -> Outcome:
        """Score one shard, or verify it if it is there."""
        from wetread.runtime.shards import Shard

        assert self._scorer is not None
        try:
            tally = self._scorer.score(Shard(index, self._job.count))
        except (WetreadError, OSError) as error:
            return _explain(error)
        return Outcome(counts=tally.counts, resumed=tally.resumed, seconds=tally.seconds)


def _explain(error: Exception) -> Outcome:
    return Outcome(error=f"{error} (on {socket.gethostname()})")
