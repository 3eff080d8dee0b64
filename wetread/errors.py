"""Every error that wetread raises on purpose.

    WetreadError                 the root; `except WetreadError` catches all of them
    ├── ImageError               one input has no pixels: it carries the row's status (data, not failure)
    ├── UsageError               options that contradict one another (exit code 2)
    └── SetupError               the run cannot be right, so it does not start or does not go on
        ├── ModelError           the model file: missing, not wetread's, of an unknown version
        │   ├── TamperedModelError   its bytes are not those that were exported
        │   └── MachineError         this machine computes something else from it than its author saw
        ├── ProviderError        the execution provider that was asked for is not the one in use
        ├── SourceError          a source that is not there or cannot be listed
        ├── OutputError          an output that exists, cannot be written, or cannot be resumed
        ├── DatasetError         labelled folders that cannot train or judge a network
        ├── ConfigError          an option's value or a file of them that cannot be (exit code 2)
        ├── ClusterError         a cluster that cannot be reached, or whose actors fail
        ├── ExportError          a network that cannot be converted, or whose conversion disagrees with it
        ├── MissingExtraError    an optional package that is not installed
        └── BrokenPackageError   a package that is installed, and does not load

Messages say what was expected, what was received, and what to do.
"""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Any


class WetreadError(Exception):
    """Any error that wetread raises on purpose.

    `resumable`: what was done until then is kept, and the same run goes on with it when it resumes.
    """

    resumable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Let every error be pickled, whatever it is made from: a worker process passes it on."""
        return _restore, (type(self), self.args, vars(self))


def _restore(kind: type[WetreadError], words: tuple[Any, ...], fields: dict[str, Any]) -> WetreadError:
    error = kind.__new__(kind, *words)
    vars(error).update(fields)
    return error


class Status(StrEnum):
    """What became of one input: the word in its row. Only with OK does the row have a score."""

    OK = "ok"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"
    BLANK = "blank"
    NO_ANSWER = "no_answer"
    OUT_OF_SCOPE = "out_of_scope"

    def __repr__(self) -> str:
        return repr(self.value)  # a Prediction that is printed reads as its row does


class ImageError(WetreadError):
    """One input has no score; `status` is the word that its row carries, any but OK.

    `errno`: the system's number of the error, where an input could not be read now and may be later: a local
    file, or one for which there was no memory (ENOMEM).
    """

    def __init__(self, status: Status, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.status, self.errno = status, errno


def make_fault(error: Exception) -> ImageError:
    """Turn an exception that nobody foresaw into the error of the one input that caused it: 'unreadable'.

    It names the exception's type and the line that raised it, not its words: they may hold a patient's name.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(__file__).parent)]
    at = f"{Path(ours[-1].filename).stem}.py, line {ours[-1].lineno}" if ours else "an unknown place"
    return ImageError(
        Status.UNREADABLE,
        f"A fault of wetread, not of the file: {type(error).__name__} in {at}. Please report it.",
    )


class RunWarning(UserWarning):
    """What whoever runs wetread should know while it goes on; commands print it as a line."""


class SlowImageWarning(RunWarning):
    """One image took more than a minute to decode."""


class ShareWarning(RunWarning):
    """A file system lacks something that protects an output; the output itself is right."""


class EmptySourceWarning(RunWarning):
    """One of several sources lists nothing; the others do."""


class UsageError(WetreadError):
    """Options or arguments that contradict one another."""


class SetupError(WetreadError):
    """The run cannot be right, so it does not start or does not go on."""


class ModelError(SetupError):
    """The model file is missing, not wetread's, or of an unknown version."""


class TamperedModelError(ModelError):
    """The bytes of the model file are not those that were exported."""


class MachineError(ModelError):
    """This machine computes something else from the model than its author saw."""


class ProviderError(SetupError):
    """The execution provider that was asked for is not the one in use, or it fails."""


class SourceError(SetupError):
    """A source is not there or cannot be listed."""


class OutputError(SetupError):
    """An output exists already, cannot be written, or cannot be resumed."""


class DatasetError(SetupError):
    """Labelled folders cannot train or judge a network."""


class ConfigError(SetupError):
    """A configuration value or file does not hold together."""


class ClusterError(SetupError):
    """A cluster cannot be reached, or its actors fail."""


class ExportError(SetupError):
    """A network cannot be converted, or its conversion disagrees with it."""


class MissingExtraError(SetupError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"The package '{package}' is not installed. Install it: {advise_extra(extra)}")
        self.package = package
        self.extra = extra


class BrokenPackageError(SetupError):
    """A package is installed and does not load: a library is missing, or another package does not fit it."""

    def __init__(self, package: str, *, reason: str, advice: str) -> None:
        super().__init__(f"The package '{package}' is installed, but does not load: {reason}. {advice}.")
        self.package = package
        self.reason = reason
        self.advice = advice


def list_installation_folders() -> list[Path]:
    """Return the folder that holds this environment: where it is, and where a link to it is, if one was used.

    What an administrator puts beside an environment must hold through a link to it, too.
    """
    prefix = Path(sys.prefix)
    return list(dict.fromkeys([prefix.resolve().parent, prefix.parent]))


def find_installation() -> Path | None:
    """Return the folder into which a bundle's installer installed this; None without a bundle."""
    # The installer leaves the bundle's description there.
    folders = (each for each in list_installation_folders() if (each / "bundle.json").is_file())
    return next(folders, None)


def is_from_bundle() -> bool:
    """Tell whether a bundle's installer made this installation."""
    return find_installation() is not None


def advise_extra(extra: str) -> str:
    """How to get an extra here: an installation from a bundle has no index to take it from."""
    if is_from_bundle():
        return f"ask for a bundle made with --with {extra}"
    return f"pip install 'wetread[{extra}]'"
