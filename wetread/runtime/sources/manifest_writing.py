"""Make a manifest: list sources as a stream and write the file atomically."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wetread.errors import OutputError, SourceError, UsageError
from wetread.runtime.entries import Entry, is_bucket_location, require_inputs
from wetread.runtime.gcs.client import split_location
from wetread.runtime.sources.manifest import Manifest, write_manifest
from wetread.runtime.sources.opening import open_sources
from wetread.runtime.sources.shared_folder import open_bytes, put_file
from wetread.runtime.sources.unchanged import add_checksums

_EVERY = 1000


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """The options of `wetread manifest`.

    `checksum`: read local files to compute their crc32c; scoring then checks it instead of the modification
    time. `project` is billed for requester-pays buckets.
    """

    sources: tuple[str, ...]
    output: str
    include: str | None = None
    allow_empty: bool = False
    checksum: bool = False
    overwrite: bool = False
    project: str | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("Give a SOURCE to list.")
        if is_bucket_location(self.output) and not split_location(self.output)[1].rpartition("/")[2]:
            raise UsageError(f"--output must be FILE or gs://BUCKET/NAME, not {self.output!r}.")


def make_manifest(options: ManifestOptions, *, watch: Callable[[int], None] | None = None) -> Manifest:
    """List the sources into `options.output`, which appears when it is complete. Returns it, opened.

    `watch` is called with the number of names so far. Raises SourceError and OutputError.
    """
    _check_free(options)
    source = open_sources(
        options.sources,
        include=options.include,
        project=options.project,
        allow_empty=options.allow_empty,
    )
    entries = require_inputs(source.entries(), source, allow_empty=options.allow_empty)
    if options.checksum:
        entries = add_checksums(entries)
    with tempfile.TemporaryDirectory(prefix="wetread-manifest-") as folder:
        spool = Path(folder) / "manifest"
        with spool.open("wb") as file:
            origin = {"sources": options.sources, "include": options.include}
            write_manifest(_count(entries, watch), file, origin=origin)
        put_file(options.output, spool, overwrite=options.overwrite, project=options.project)
    return Manifest(options.output, project=options.project)


def _check_free(options: ManifestOptions) -> None:
    """Refuse an existing output before listing, not after it."""
    if options.overwrite:
        return
    with suppress(SourceError):
        open_bytes(options.output, project=options.project)
        raise OutputError(
            f"{options.output!r} already exists. Replace it with --overwrite, or choose another name."
        )


def _count(entries: Iterator[Entry], watch: Callable[[int], None] | None) -> Iterator[Entry]:
    for number, entry in enumerate(entries, 1):
        yield entry
        if watch is not None and number % _EVERY == 0:
            watch(number)
