"""The shards of `wetread score --engine ray` through Ray Data's actor pool in place of plain actors.

python benchmarks/peers/ray_data.py --manifest M --model MODEL.onnx --output FOLDER [--actors 2]
"""

from __future__ import annotations

import argparse
import logging
import os

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import ray

from wetread.cluster.actors import Job, ShardActor
from wetread.cluster.engine import count_shards
from wetread.runtime.scoring.run import ScoreOptions
from wetread.runtime.sources.manifest import Manifest


class Scorer:
    """An actor of the pool: a batch is one shard's number."""

    def __init__(self, job: Job) -> None:
        self._actor = ShardActor(job)
        assert not self._actor.open().error

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outcomes = [self._actor.score(int(index)) for index in batch["id"]]
        assert not any(outcome.error for outcome in outcomes)
        return {"rows": np.array([sum(outcome.counts.values()) for outcome in outcomes])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--model", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--actors", type=int, default=2)
    chosen = parser.parse_args()
    manifest = Manifest(chosen.manifest)
    with open(chosen.model, "rb") as file:
        model = file.read()
    options = ScoreOptions(from_manifest=chosen.manifest, output=chosen.output, workers=1)
    shards = count_shards(manifest.names)
    job = Job(
        model=model,
        name=chosen.model,
        device="cpu",
        options=options,
        folder=os.getcwd(),
        manifest=manifest.digest,
        count=shards,
    )
    # One more logical processor than there are actors, for Ray Data's own read tasks.
    ray.init(
        address="local",
        num_cpus=chosen.actors + 1,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.range(shards, override_num_blocks=shards)
    rows = numbers.map_batches(
        Scorer,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=chosen.actors),
    )
    print(rows.sum("rows"))


if __name__ == "__main__":
    main()
