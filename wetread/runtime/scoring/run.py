"""A scoring run: open sources and output, score, write the record; it can be resumed and interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO

from wetread.errors import OutputError, Status, UsageError, WetreadError
from wetread.packages import RESULT_PACKAGES, find_versions
from wetread.runtime.entries import Entry, Source, require_inputs
from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.scoring.batches import Chunk, Seconds, map_joined
from wetread.runtime.scoring.chunk_scorer import ChunkScorer, RowOptions
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.dicom_columns import check_tags
from wetread.runtime.scoring.input_digest import check_inputs, skip_written
from wetread.runtime.scoring.output import Output, check_free, check_identity, open_output
from wetread.runtime.scoring.output_opening import make_output
from wetread.runtime.scoring.processes import use_processes
from wetread.runtime.scoring.row_encoding import Rows
from wetread.runtime.scoring.rows import (
    check_band,
    choose_format,
    encode_header,
    import_parquet,
    list_optional,
)
from wetread.runtime.scoring.scope_columns import check_scope
from wetread.runtime.sources.chunks import DEFAULT_BATCH
from wetread.runtime.sources.name_list import NameList, read_name_list
from wetread.runtime.sources.opening import open_sources
from wetread.runtime.threads import count_processors

if TYPE_CHECKING:
    from wetread.runtime.model.spec import ModelSpec
    from wetread.runtime.sources.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What a scoring run was asked for, as `wetread score` takes it.

    `sources` are files, folders, globs or `gs://` locations; or `from_file` names a list of them, one a
    line; or `from_manifest` a manifest. One that lists nothing is an error, unless `allow_empty`. Without
    `output`, rows go to a stream. `max_memory`: bytes that decoding one image may take.
    `project` is billed where a bucket's requesters pay. Columns after `error`: `uncertain` where it is asked
    for, and attributes by their keywords, `dicom_tags`. `refuse_outside`: what is outside the model's scope
    gets a status and no probability.
    """

    sources: tuple[str, ...] = ()
    from_file: str | None = None
    from_manifest: str | None = None
    include: str | None = None
    allow_empty: bool = False
    output: str | None = None
    workers: int | None = None
    batch_size: int = DEFAULT_BATCH
    max_memory: int = MAX_MEMORY
    resume: bool = False
    overwrite: bool = False
    project: str | None = None
    uncertain: bool = False
    dicom_tags: tuple[str, ...] = ()
    refuse_outside: bool = False

    def list_optional(self, spec: ModelSpec) -> tuple[str, ...]:
        """Return the columns after `error` of this run with a model."""
        return list_optional(spec, uncertain=self.uncertain, dicom_tags=self.dicom_tags)

    def check_model(self, spec: ModelSpec) -> None:
        """Check that a model has the band or the scope that the options need. Raises UsageError."""
        if self.uncertain:
            check_band(spec)
        if self.refuse_outside:
            check_scope(spec)

    def __post_init__(self) -> None:
        given = {"SOURCE": self.sources, "--from-file": self.from_file, "--from-manifest": self.from_manifest}
        named = [name for name, value in given.items() if value]
        if len(named) != 1:
            found = f"{' and '.join(named)} cannot be used together. " if named else ""
            raise UsageError(f"{found}Give one of: a SOURCE, --from-file LIST, --from-manifest M.")
        counts = {"--workers": self.workers, "--batch-size": self.batch_size, "--max-memory": self.max_memory}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}.")
        if self.include and not self.sources:
            raise UsageError(f"--include cannot be used with {named[0]}: the list already names the inputs.")
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume cannot be used with --overwrite, which starts again. Give one of them."
            )
        if self.output is None and (self.resume or self.overwrite):
            raise UsageError("--resume and --overwrite need --output FILE.")
        check_tags(self.dicom_tags)


@dataclass
class Tally:
    """What a run has done: rows by status and by scope, those of an earlier run that it resumed, seconds by
    stage.

    `seconds` of read, decode and infer add up over the workers; list and write are the main thread's.
    """

    counts: dict[str, int] = field(default_factory=dict)
    scope: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def rows(self) -> int:
        """All rows written so far."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Rows without a score."""
        return self.rows - self.counts.get(Status.OK, 0)

    def add_chunk(self, chunk: Chunk | Rows) -> None:
        """Count a chunk's rows and seconds."""
        for found, total in ((chunk.counts, self.counts), (chunk.scope, self.scope)):
            for word, count in found.items():
                total[word] = total.get(word, 0) + count
        for stage, seconds in zip(Seconds._fields, chunk.seconds, strict=True):
            self.add_seconds(stage, seconds)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to one stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


Watch = Callable[[Tally], None]
Stop = Callable[[], bool]


def score_to_file(
    classifier: Classifier, options: ScoreOptions, *, watch: Watch | None = None, stop: Stop | None = None
) -> Tally:
    """Score everything into `options.output`, which appears when it is complete, with its record.

    `watch` is called after each chunk. When `stop` returns true, the run ends after the current chunk and can
    be resumed. Raises SourceError, OutputError or UsageError; the rows written until then can be resumed.
    """
    if options.output is None:
        raise UsageError("Give an output to write to.")
    kind, identity = choose_format(options.output), run_identity(classifier, options)
    options.check_model(classifier.spec)
    if kind == "parquet":
        import_parquet()  # fail before the work, not after it
    labels, project = classifier.spec.labels, options.project
    output = make_output(
        options.output,
        labels=labels,
        kind=kind,
        identity=identity,
        optional=options.list_optional(classifier.spec),
        project=project,
    )
    if options.resume and output.is_finished():
        return _finished_tally(output, options)
    source = open_options(options)
    started, tally = datetime.now(UTC), Tally()
    check_free(output, resume=options.resume, overwrite=options.overwrite)
    listed = _list_inputs(source, tally, options)
    with open_output(output, resume=options.resume), _mark_resumable(output):
        tally.counts, tally.scope = dict(output.progress.counts), dict(output.progress.scope)
        tally.resumed = output.progress.rows
        entries = skip_written(listed, output.progress.marks, output=output.path)
        for rows in score_source(classifier, entries, source, options, kind=kind):
            start = perf_counter()
            output.write_rows(rows)
            tally.add_seconds("write", perf_counter() - start)
            if advance(tally, rows, watch, stop):
                return tally
        record = make_record(classifier, options, tally, started=started)
        reading = source.describe()
        record |= {"storage": reading} if reading else {}
        output.finish(record | {"identity": identity, "inputs": output.progress.inputs.describe()})
    return tally


@contextmanager
def _mark_resumable(output: Output) -> Iterator[None]:
    """Mark an error that ends a run as resumable if rows were written."""
    try:
        yield
    except WetreadError as error:
        error.resumable = output.progress.rows > 0
        raise


def score_to_stream(
    classifier: Classifier,
    options: ScoreOptions,
    stream: BinaryIO,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> Tally:
    """Score everything as CSV into an open binary stream. Arguments and errors as in `score_to_file`."""
    options.check_model(classifier.spec)
    optional = options.list_optional(classifier.spec)
    source, tally, labels = open_options(options), Tally(), classifier.spec.labels
    listed = _list_inputs(source, tally, options)
    stream.write(encode_header(labels, kind="csv", optional=optional))
    for rows in score_source(classifier, listed, source, options, kind="csv"):
        stream.write(rows.data)
        stream.flush()
        if advance(tally, rows, watch, stop):
            return tally
    stream.flush()
    return tally


def open_options(options: ScoreOptions) -> Source:
    """Open the inputs that the options name as one source. Raises SourceError."""
    if options.from_manifest is not None:
        return _open_manifest(options)
    if options.from_file is not None:
        return NameList(read_name_list(options.from_file), project=options.project)
    return open_sources(
        options.sources,
        include=options.include,
        project=options.project,
        allow_empty=options.allow_empty,
    )


def _open_manifest(options: ScoreOptions) -> Manifest:
    """Open the manifest that the options name; its module is imported only here."""
    from wetread.runtime.sources.manifest import Manifest

    assert options.from_manifest is not None
    return Manifest(options.from_manifest, project=options.project)


def run_identity(classifier: Classifier, options: ScoreOptions) -> dict[str, Any]:
    """Return everything that a run's rows depend on, except the inputs (but with a manifest's digest)."""
    manifest: dict[str, Any] = {}
    if options.from_manifest is not None:
        manifest = {"manifest": _open_manifest(options).digest}
    return manifest | {
        "model": classifier.digest,
        "sources": list(options.sources),
        "from_file": options.from_file,
        "include": options.include,
        "max_memory": options.max_memory,
        "batch_size": options.batch_size,
        "uncertain": options.uncertain or None,
        "dicom_tags": list(options.dicom_tags) or None,
        "refuse_outside": options.refuse_outside or None,
        "provider": classifier.provider,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that a result depends on."""
    return find_versions(RESULT_PACKAGES)


def make_record(
    classifier: Classifier, options: ScoreOptions, tally: Tally, *, started: datetime
) -> dict[str, Any]:
    """Build the record of a finished output."""
    import platform

    ended = datetime.now(UTC)
    seconds = (ended - started).total_seconds()
    scored_now = tally.rows - tally.resumed
    return {
        "model": {"name": classifier.name, "sha256": classifier.digest},
        "spec": asdict(replace(classifier.spec, golden=None)) | {"pixels": classifier.spec.pixels.to_dict()},
        "device": classifier.device,
        "provider": classifier.provider,
        "provider_reason": classifier.reason,
        "options": asdict(options),
        "versions": versions(),
        "machine": {
            # Not platform.platform(), which starts a process to find the processor's name.
            "platform": f"{platform.system()} {platform.release()}",
            "processor": platform.machine(),
            "processors": count_processors(),
            "python": platform.python_version(),
        },
        "rows": tally.rows,
        "counts": dict(sorted(tally.counts.items())),
        **({} if classifier.spec.scope is None else {"scope": dict(sorted(tally.scope.items()))}),
        "rows_resumed": tally.resumed,
        "images_per_second": round(scored_now / seconds, 1) if seconds else None,
        "seconds": {stage: round(value, 3) for stage, value in tally.seconds.items()},
        "started": started.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
    }


def score_source(
    classifier: Classifier, entries: Iterator[Entry], source: Source, options: ScoreOptions, *, kind: str
) -> Iterator[Rows]:
    """Yield the rows of a source's entries, encoded for an output of `kind`, a chunk at a time, lazily."""
    how = RowOptions(
        kind=kind,
        optional=options.list_optional(classifier.spec),
        dicom_tags=options.dicom_tags,
        refuse_outside=options.refuse_outside,
        batch_size=options.batch_size,
        max_memory=options.max_memory,
    )
    scorer = ChunkScorer(classifier, how, read=source.read)
    workers = options.workers or count_processors()
    division = scorer.divide(classifier, read=source.read_file)
    with use_processes(division.work, division.opening, workers=workers, tray=division.tray) as working:
        joined = map_joined(
            division.complete(working.work, workers=workers),
            source.read_ahead(entries),
            workers=workers + division.beside,
            batch_size=options.batch_size,
            most_entries=lambda: min(working.most_entries(), division.most_entries),
        )
        with closing(joined):  # the threads end before the processes do
            for found in joined:
                yield from found


def _list_inputs(source: Source, tally: Tally, options: ScoreOptions) -> Iterator[Entry]:
    """List the inputs to score. Raises SourceError if there are none."""
    return require_inputs(_timed_list(source.entries(), tally), source, allow_empty=options.allow_empty)


def _timed_list(entries: Iterator[Entry], tally: Tally) -> Iterator[Entry]:
    """Return entries, and add the time that listing takes to the tally."""
    seconds, start = 0.0, perf_counter()
    for entry in entries:
        seconds += perf_counter() - start
        tally.seconds["list"] = seconds
        yield entry
        start = perf_counter()
    tally.seconds["list"] = seconds + perf_counter() - start


def advance(tally: Tally, rows: Rows, watch: Watch | None, stop: Stop | None) -> bool:
    """Count a chunk's rows and return whether to stop here."""
    tally.add_chunk(rows)
    if watch is not None:
        watch(tally)
    tally.interrupted = stop is not None and stop()
    return tally.interrupted


def _finished_tally(output: Output, options: ScoreOptions) -> Tally:
    """Return the counts of an output that is already complete, after comparing it with its record.

    The output's checksum and the listed inputs are compared; no input is read. Raises OutputError if another
    run wrote the output, or if something has changed since, which it names.
    """
    record = output.read_record()
    if record is None:
        raise OutputError(
            f"{output.path!r} has no record of a run of wetread, so it cannot be resumed. Use --overwrite to "
            "replace it, or another output."
        )
    check_identity(record.get("identity", {}), output.identity, output=output.path)
    if "output" in record:  # earlier versions did not keep these, and a merge lists nothing
        output.check(record["output"])
    if "inputs" in record:
        check_inputs(open_options(options).entries(), record["inputs"], output=output.path)
    return recall_tally(record)


def recall_tally(record: dict[str, Any]) -> Tally:
    """The counts that a finished output's record, or a shard's, tells."""
    return Tally(counts=dict(record["counts"]), scope=dict(record.get("scope", {})), resumed=record["rows"])
