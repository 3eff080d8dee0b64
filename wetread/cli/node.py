"""`wetread node`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from wetread.cli.app import app
from wetread.cli.options import (
    DEFAULT_MEMORY,
    ColumnOptions,
    GrowingColumns,
    MaxMemory,
    ModelOptions,
    Workers,
    expand_options,
)
from wetread.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wetread.node.options import NodeOptions, Peer, TlsFiles

_DEFAULT_OBJECT = 512


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """The node's name and address, and who may send."""

    panel: ClassVar[str] = "Network"

    ae_title: Annotated[str, typer.Option(metavar="TITLE", help="The node's own AE title.")] = "WETREAD"
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address; default: all of this machine's.")
    ] = ""
    port: Annotated[int, typer.Option(metavar="N", help="Listen on this port.")] = 11112
    allow: Annotated[
        str, typer.Option(metavar="AE@HOST,...", help="Who may send; '*' stands for any title or address.")
    ] = ""
    associations: Annotated[
        int, typer.Option(metavar="N", help="Largest number of associations at a time.")
    ] = 10
    max_object: Annotated[
        int, typer.Option(metavar="MIB", min=1, help="Largest object in MiB; a larger one is aborted.")
    ] = _DEFAULT_OBJECT
    tls_cert: Annotated[str | None, typer.Option(metavar="PEM", help="This node's certificate.")] = None
    tls_key: Annotated[str | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None
    tls_ca: Annotated[
        str | None,
        typer.Option(metavar="PEM", help="Certificate of the authority that signed the peers' certificates."),
    ] = None

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers in `allow`. Raises UsageError."""
        from wetread.node.options import read_peer

        return tuple(read_peer(text, option="--allow") for text in _split(self.allow))

    @property
    def tls(self) -> TlsFiles | None:
        """The three files of TLS, or None without any. Raises UsageError."""
        from wetread.node.options import TlsFiles

        files = (self.tls_cert, self.tls_key, self.tls_ca)
        if not any(files):
            return None
        if not all(files):
            raise UsageError(
                "--tls-cert, --tls-key and --tls-ca must be given together: in TLS, both sides show a "
                "certificate."
            )
        return TlsFiles(certificate=str(files[0]), key=str(files[1]), authority=str(files[2]))


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """Where rows and objects are written."""

    panel: ClassVar[str] = "Output"

    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help=".csv or .jsonl; rows are appended.")
    ]
    store: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep received objects here; default: OUTPUT's name + '.store'."),
    ] = None
    retain: Annotated[
        str,
        typer.Option(
            metavar="keep|delete|FOLDER",
            help="What to do with an object when its row is written and its results are sent.",
        ),
    ] = "keep"


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Which results are sent, and where."""

    panel: ClassVar[str] = "Results"

    send_to: Annotated[
        str, typer.Option(metavar="AE@HOST:PORT,...", help="Send results to these archives.")
    ] = ""
    results: Annotated[
        str,
        typer.Option(
            metavar="sr,sc", help="sr: a structured report. sc: a picture of where the model looked."
        ),
    ] = ""

    @property
    def archives(self) -> tuple[Peer, ...]:
        """The peers in `send_to`. Raises UsageError."""
        from wetread.node.options import read_peer

        return tuple(read_peer(text, option="--send-to", called=True) for text in _split(self.send_to))


@app.command(
    short_help="Receive, score and answer images as a DICOM node.",
    epilog="Example: wetread node --allow MODALITY@10.0.0.7 --output scores.csv",
)
@expand_options
def node(
    *,
    listening: ListenOptions,
    kept: KeepOptions,
    answers: AnswerOptions,
    chosen: ModelOptions,
    columns: ColumnOptions,
    growing: GrowingColumns,
    workers: Workers = None,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Receive images over the network, score each once, and send results to archives, until stopped.

    Stop it with Ctrl-C or SIGTERM (exit code 130 or 143). Started again, even after a crash or a power cut,
    it continues where it stopped, and no object or row is lost or written twice.
    """
    from wetread.cli.score import catch_signals
    from wetread.cli.watch import count_lines, describe_tally, say
    from wetread.node.options import NodeOptions
    from wetread.node.service import run_node

    options = NodeOptions(
        ae_title=listening.ae_title,
        host=listening.host,
        port=listening.port,
        allow=listening.peers,
        associations=listening.associations,
        most_bytes=listening.max_object << 20,
        tls=listening.tls,
        output=kept.output,
        store=kept.store or f"{kept.output}.store",
        retain=kept.retain,
        archives=answers.archives,
        results=_split(answers.results),
        workers=workers,
        max_memory=max_memory << 20,
        uncertain=columns.uncertain,
        dicom_tags=columns.keywords,
        refuse_outside=columns.refuse_outside,
        **growing.parse(),
    )
    classifier = chosen.load(quiet=quiet)

    with catch_signals() as caught:
        tally = run_node(
            classifier,
            options,
            stop=lambda: bool(caught),
            watch=None if quiet else count_lines(),
            report=say,
            started=_announce(options, classifier.device, quiet=quiet),
        )
    if not quiet:
        say(f"stopped: {describe_tally(tally)}")
    raise typer.Exit(128 + caught[0])


def _announce(options: NodeOptions, device: str, *, quiet: bool) -> Callable[[int], None]:
    """Return a function that prints the port on which the node listens, unless `quiet`."""
    from wetread.cli.watch import say

    def announce(port: int) -> None:
        if not quiet:
            say(f"{options.ae_title} listens on port {port} and computes on {device} -> {options.output}")

    return announce


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
