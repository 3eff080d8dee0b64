"""What a user names as a network: a file or folder, and what belongs to it."""

from __future__ import annotations

import glob
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """A Keras network as its owner has it.

    `path`: a file, or a folder that is one. `weights`: where `path` is an architecture alone (JSON), its
    weights. `custom`: the owner's own code that the network needs, 'module', 'module:Name,Name' or the same
    with a .py file; it is run. `output_name`: which of several outputs is meant.
    """

    path: str | os.PathLike[str]
    weights: str | os.PathLike[str] | None = None
    custom: str | None = None
    output_name: str | None = None

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def list_files(self) -> list[Path]:
        """The files that hold the network, in order of their names."""
        path = Path(self.path)
        found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return found if self.weights is None else [*found, *_list_weights(Path(self.weights))]

    def measure(self) -> int:
        """The size in bytes of all files that hold the network."""
        return sum(file.stat().st_size for file in self.list_files())

    def digest(self) -> str:
        """SHA-256 of a file; of several, of their digests and names."""
        files = self.list_files()
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        if len(files) == 1:
            return digests[0]
        root = Path(self.path)
        lines = [
            f"{digest} {file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name}\n"
            for digest, file in zip(digests, files, strict=True)
        ]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _list_weights(path: Path) -> list[Path]:
    """A file of weights; or a TensorFlow checkpoint's, which is named by how its files' names begin."""
    return [path] if path.is_file() else sorted(path.parent.glob(f"{glob.escape(path.name)}.*"))


def make_source(source: str | os.PathLike[str] | NetworkSource) -> NetworkSource:
    """A path as a source; a source as it is."""
    return source if isinstance(source, NetworkSource) else NetworkSource(path=source)
