"""Choose the writer of an output: for a local file, or for an object in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wetread.runtime.entries import is_bucket_location
from wetread.runtime.scoring.output import Output


def make_output(
    path: str,
    *,
    labels: tuple[str, ...],
    kind: str,
    identity: Mapping[str, Any],
    optional: tuple[str, ...] = (),
    project: str | None = None,
) -> Output:
    """Create the writer of a local output or one in a bucket, without reading or writing anything yet.

    Arguments as in `Output`; `project` is billed for requester-pays buckets. Raises MissingExtraError and
    SourceError like opening a `gs://` source.
    """
    if not is_bucket_location(path):
        return Output(path, labels=labels, kind=kind, identity=identity, optional=optional)
    from wetread.runtime.gcs.client import Storage
    from wetread.runtime.scoring.bucket_output import BucketOutput

    storage = Storage(project=project)
    return BucketOutput(path, labels=labels, kind=kind, identity=identity, optional=optional, storage=storage)
