"""A run whose directory is in a bucket: trained in a temporary folder, uploaded after every epoch.

A machine that is lost costs only the current epoch. The arrays stay on this machine: in `cache` or
$WETREAD_CACHE, or in the temporary folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from wetread.runtime.entries import is_bucket_location
from wetread.runtime.gcs.bucket_folder import RUN_FILES, stage_folder
from wetread.train import run as runs
from wetread.train.config import TrainConfig
from wetread.train.dataset import UnreadableLabelError
from wetread.train.events import EpochEnded, Event, OnEvent, TrainingStarted


@contextmanager
def stage_run(config: TrainConfig, on_event: OnEvent) -> Iterator[tuple[TrainConfig, OnEvent]]:
    """Yield the configuration and the listener to train with; for a local run, unchanged.

    Raises SourceError and OutputError where the bucket cannot be read or written, or another trainer
    writes there.
    """
    if not is_bucket_location(config.output):
        yield config, on_event
        return
    with stage_folder(config.output, names=RUN_FILES, last=runs.METRICS) as staged:
        folder = Path(staged.folder)

        def publish() -> None:
            _name_output(folder / runs.CONFIG, config.output)
            staged.publish()

        def tell(event: Event) -> None:
            on_event(event)
            if isinstance(event, TrainingStarted | EpochEnded):
                publish()

        try:
            yield replace(config, output=staged.folder), tell
        except UnreadableLabelError:
            staged.publish()  # corrupt.csv, which says why
            raise
        publish()


def _name_output(path: Path, output: str) -> None:
    """Write the run's real location into config.json, not that of the temporary folder."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if values["output"] != output:
        runs.write_json(path, {**values, "output": output})
