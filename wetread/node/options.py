"""What a node was asked for, and who may talk to it."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wetread.errors import SetupError, UsageError
from wetread.runtime.entries import is_bucket_location
from wetread.runtime.scoring.rows import choose_format
from wetread.runtime.watch.growing_output import GrowingOptions

RESULTS = ("sr", "sc")
RETAIN = ("keep", "delete")
ANY = "*"
_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")  # PS3.5, 6.2: AE, without '\'


@dataclass(frozen=True)
class Peer:
    """An application entity: its title, its address as typed, and its port where it is called.

    `*` as title or address stands for any.
    """

    title: str
    host: str
    port: int = 0

    def find_addresses(self) -> frozenset[str]:
        """Return the addresses of the host; a name is looked up. Raises SetupError."""
        try:
            return frozenset(str(info[4][0]) for info in socket.getaddrinfo(self.host, None))
        except OSError as error:
            raise SetupError(
                f"The address of {self.host!r} cannot be found: {error.strerror}. Give it as a number."
            ) from error


def read_peer(text: str, *, option: str, called: bool = False) -> Peer:
    """Read AE@HOST, or AE@HOST:PORT of a peer that is `called`. Raises UsageError."""
    title, _, place = text.partition("@")
    host, _, port = place.rpartition(":") if called else (place, "", "")
    if not host or (title != ANY and not _TITLE.fullmatch(title)) or (called and not _is_port(port)):
        wanted = "AE@HOST:PORT" if called else "AE@HOST, where '*' stands for any"
        raise UsageError(f"{option} takes {wanted}; {text!r} is none.")
    return Peer(title, host.strip("[]"), int(port or 0))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65536


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files: this node's certificate and key, and who signed the certificates of the others."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True, kw_only=True)
class NodeOptions(GrowingOptions):
    """What a node was asked for, as `wetread node` takes it.

    `allow`: who may send; `archives`: where results go; `results`: 'sr' and 'sc'. `retain`: what becomes of
    an object once its row is written and its results are out: 'keep', 'delete' or a folder that it is moved
    to. `most_bytes`: of one object. `associations`: at a time. `port` 0 takes a free one.
    """

    ae_title: str
    store: str
    allow: tuple[Peer, ...]
    port: int = 11112
    host: str = ""
    archives: tuple[Peer, ...] = ()
    results: tuple[str, ...] = ()
    retain: str = "keep"
    tls: TlsFiles | None = None
    associations: int = 10
    most_bytes: int = 512 << 20
    retry_seconds: tuple[float, float] = field(default=(1.0, 300.0))

    def __post_init__(self) -> None:
        if not _TITLE.fullmatch(self.ae_title):
            raise UsageError(f"--ae-title takes 1 to 16 printable characters; {self.ae_title!r} is none.")
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port takes a number from 0 to 65535; {self.port} is none.")
        if is_bucket_location(self.output) or is_bucket_location(self.store):
            raise UsageError("A node writes to this machine: --output and --store cannot be gs:// locations.")
        if choose_format(self.output) == "parquet":
            raise UsageError("Rows are appended as objects arrive: give an --output in .csv or .jsonl.")
        if not self.allow:
            raise UsageError("Say who may send: --allow AE@HOST, or --allow '*@*' for everybody.")
        for name in self.results:
            if name not in RESULTS:
                raise UsageError(f"--results takes {' and '.join(RESULTS)}; {name!r} is neither.")
        if bool(self.results) != bool(self.archives):
            raise UsageError("--results and --send-to belong together: what is sent, and where to.")
        for name, count in {"--associations": self.associations, "--max-object": self.most_bytes}.items():
            if count < 1:
                raise UsageError(f"{name} must be 1 or more, not {count}.")
        if self.retain not in RETAIN and os.path.realpath(self.retain) == os.path.realpath(self.store):
            raise UsageError("--retain names the store itself: name another folder.")
        self.check_rows()

    def identify(self, model: str) -> dict[str, Any]:
        """Return what the rows depend on."""
        return self.identify_store(model) | {
            "columns": [self.uncertain, *self.dicom_tags, *self.columns],
            "refuse_outside": self.refuse_outside,
        }

    def identify_store(self, model: str) -> dict[str, Any]:
        """Return what the ledger depends on."""
        return {"model": model, "store": str(Path(self.store).resolve())}
