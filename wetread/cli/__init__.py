"""The command line: parse, call, print, exit code. No logic, and no heavy import outside a command.

Exit codes: 0 every input scored; 3 finished, but some inputs have no score; 2 wrong usage; 1 anything else;
130 and 143 when interrupted. Every error is one line on standard error, even an unforeseen one.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import cleandoc
from typing import Any, NoReturn

from typer import TyperException

from wetread.cli.app import app
from wetread.errors import ConfigError, RunWarning, UsageError, WetreadError
from wetread.packages import explain_import
from wetread.standard_streams import open_missing

# Modules of this package; importing one adds the command of its name.
COMMANDS = (
    "accept",
    "agreement",
    "bundle",
    "convert",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "inspect",
    "manifest",
    "merge",
    "node",
    "parity",
    "predict",
    "pretrain",
    "report",
    "review",
    "score",
    "train",
    "tune",
    "verify",
    "watch",
)


_RESUME = " The work done so far is kept: continue it with --resume."


def load_commands(arguments: list[str]) -> None:
    """Import the command that is asked for, or all: importing all takes longer than loading a model."""
    asked = [name for name in arguments[:1] if name in COMMANDS]
    for name in asked or COMMANDS:
        import_module(f"wetread.cli.{name}")
    for command in app.registered_commands:
        command.help = _join_lines(command.callback.__doc__ or "")


def _join_lines(text: str) -> str:
    """Write each paragraph in one line: typer would break it where the source does, and at the edge."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        # A console or a pipe on Windows cannot encode most letters: they must not raise an exception.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # All files are closed by now. A normal exit would unload the libraries first, which takes a third of the
    # time of scoring one image.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # The workers run in parallel; a matrix product that starts its own threads only slows them down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # TensorFlow reports absent GPUs on standard error, which is for what the user must know.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import_module("wetread.runtime")  # asks whether this processor runs numpy, before anything imports it
        load_commands(arguments)
        with _tidy_termination(), _plain_warnings(), _plain_faults(arguments):
            code = app(arguments, prog_name="wetread", standalone_mode=False, windows_expand_args=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (UsageError, ConfigError) as error:
        return _report(error, code=2)
    except WetreadError as error:
        return _report(f"{error}{_RESUME if error.resumable else ''}", code=1)
    except TyperException as error:
        return _report(_add_hint(error), code=error.exit_code)
    except BrokenPipeError:  # the reader of standard output is gone
        return _drop_output()
    except OSError as error:  # for example, standard output goes to a full disk
        if (explained := explain_import(error)) is not None:  # or a package's library is missing
            return _report(explained, code=1)
        _report(f"a file could not be read or written: {error}.", code=1)
        return _drop_output()
    except MemoryError:
        return _report("out of memory. Give fewer --workers or a smaller --batch-size.", code=1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - from an import, or unforeseen: the user gets one line, and a file gets the details
        explained = explain_import(error)
        return _report_fault(error, arguments) if explained is None else _report(explained, code=1)


def _add_hint(error: TyperException) -> str:
    """Return the message with a suggested option and a pointer to the command's help."""
    text = error.format_message().replace(" (Possible options: ", ". Did you mean ").removesuffix(")")
    text += "?" if "Did you mean --" in text else ""
    context = getattr(error, "ctx", None)
    return f"{text} See '{context.command_path if context else 'wetread'} --help'."


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each of wetread's own warnings as one line, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)  # "once" would be once for each module that warns
        show, said = warnings.showwarning, set[str]()

        def say(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
            if issubclass(category, RunWarning):
                if str(message) not in said:
                    _report(message, code=0)
                said.add(str(message))
            else:
                show(message, category, *place, **rest)

        warnings.showwarning = say
        yield


@contextmanager
def _plain_faults(arguments: list[str]) -> Iterator[None]:
    """Print an exception of a thread or of an object's finalizer as one line, once for each type.

    No code can catch such an exception: Python would print its traceback, and the command would continue.
    """
    hooks, said = (threading.excepthook, sys.unraisablehook), set[str]()

    def say(error: BaseException | None) -> None:
        if not isinstance(error, Exception):
            return
        frames = traceback.extract_tb(error.__traceback__)
        kind = f"{type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        if kind not in said:
            said.add(kind)
            _report(f"the command continues, but {_describe_fault(error, arguments)}", code=0)

    threading.excepthook = lambda failed: say(failed.exc_value)
    sys.unraisablehook = lambda failed: say(failed.exc_value)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks


def _report_fault(error: Exception, arguments: list[str]) -> int:
    kept = arguments[:1] in (["score"], ["train"], ["tune"])
    kept = kept and any(a.startswith(("-o", "--output")) for a in arguments)
    in_shards = any(a.startswith(("--shard", "--engine")) for a in arguments)
    return _report(_describe_fault(error, arguments) + _RESUME * (kept and not in_shards), code=1)


def _describe_fault(error: Exception, arguments: list[str]) -> str:
    from wetread.cli.bug_reports import describe_fault

    return describe_fault(error, command=next((name for name in arguments[:1] if name in COMMANDS), ""))


def _drop_output() -> int:
    """Prevent an error in the last flush of standard output, and return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


@contextmanager
def _tidy_termination() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that temporary folders, which may hold pixels, are deleted."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, leave) if here else None
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _report(error: object, *, code: int) -> int:
    print("wetread: " + " ".join(str(error).split()), file=sys.stderr)
    return code
