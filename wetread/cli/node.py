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
    from wetread.node.options import Peer, TlsFiles

_DEFAULT_OBJECT = 512


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """How the node is called, and who may send."""

    panel: ClassVar[str] = "Network"

    ae_title: Annotated[str, typer.Option(metavar="TITLE", help="The node's own AE title.")] = "WETREAD"
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on this address; default: on all of this machine.")
    ] = ""
    port: Annotated[int, typer.Option(metavar="N", help="Listen on this port.")] = 11112
    allow: Annotated[
        str, typer.Option(metavar="AE@HOST,...", help="Who may send; '*' stands for any title or address.")
    ] = ""
    associations: Annotated[int, typer.Option(metavar="N", help="Most associations at a time.")] = 10
    max_object: Annotated[
        int, typer.Option(metavar="MIB", min=1, help="Largest object taken; a larger one is broken off.")
    ] = _DEFAULT_OBJECT
    tls_cert: Annotated[str | None, typer.Option(metavar="PEM", help="This node's certificate.")] = None
    tls_key: Annotated[str | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None
    tls_ca: Annotated[
        str | None, typer.Option(metavar="PEM", help="Who signed the certificates of the others.")
    ] = None

    @property
    def peers(self) -> tuple[Peer, ...]:
        """`allow`, one by one. Raises UsageError."""
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
                "--tls-cert, --tls-key and --tls-ca belong together: TLS asks both sides who they are."
            )
        return TlsFiles(certificate=str(files[0]), key=str(files[1]), authority=str(files[2]))


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """Where rows and objects go."""

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
            help="What becomes of an object once its row is written and its results are sent.",
        ),
    ] = "keep"


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """What is sent back."""

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
        """`send_to`, one by one. Raises UsageError."""
        from wetread.node.options import read_peer

        return tuple(read_peer(text, option="--send-to", called=True) for text in _split(self.send_to))


@app.command(
    short_help="Receive, score and answer as a DICOM node.",
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

    Stop it with Ctrl-C or SIGTERM (exit code 130 or 143), or however the machine stops: started again, it
    continues where it stopped, and no object or row is lost or written twice.
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

    def show_start(port: int) -> None:
        if not quiet:
            say(
                f"{options.ae_title} listens on port {port} and computes on {classifier.device} "
                f"-> {options.output}"
            )

    with catch_signals() as caught:
        tally = run_node(
            classifier,
            options,
            stop=lambda: bool(caught),
            watch=None if quiet else count_lines(),
            report=say,
            started=show_start,
        )
    if not quiet:
        say(f"stopped: {describe_tally(tally)}")
    raise typer.Exit(128 + caught[0])


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
