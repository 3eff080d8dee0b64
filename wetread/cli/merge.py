"""`wetread merge`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Overwrite, Project, Quiet


@app.command(
    short_help="Join shards into one file.",
    epilog="Example: wetread merge shards --output scores.csv",
)
def merge(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The folder of the shards, local or gs://.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write: .csv, .jsonl or .parquet, local or gs://.",
        ),
    ],
    overwrite: Overwrite = False,
    project: Project = None,
    quiet: Quiet = False,
) -> None:
    """Join the shards in FOLDER into the same file that a run without shards writes.

    If a shard is missing, doubled, damaged or from another run, it is named and nothing is written. Exit code
    0 when every input has a score, 3 when some have none.
    """
    from wetread.cli.progress import show_progress
    from wetread.cli.score import catch_signals, say_done
    from wetread.runtime.shards.merge import MergeOptions, merge_shards

    options = MergeOptions(folder=folder, output=output, overwrite=overwrite, project=project)
    with catch_signals() as caught, show_progress(None, quiet=quiet) as watch:
        tally = merge_shards(options, watch=watch, stop=lambda: bool(caught))
    if tally.interrupted:
        print("wetread: interrupted; the shards are unchanged. Run the same command again.", file=sys.stderr)
        raise typer.Exit(128 + caught[0])
    if not quiet:
        say_done(tally, output)
    raise typer.Exit(3 if tally.failed else 0)
