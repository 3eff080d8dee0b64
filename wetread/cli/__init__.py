"""The command line: parse, call, print, exit code. No logic, and no heavy import outside a command.

Exit codes: 0 every input scored; 3 finished, but some inputs have no score; 2 wrong usage; 1 anything
else; 130 and 143 when interrupted. Errors are one line on standard error, those that nobody foresaw as well.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from typer import TyperException

from wetread.cli.app import app
from wetread.errors import ConfigError, RunWarning, UsageError, WetreadError
from wetread.packages import explain_import
from wetread.streams import open_missing

# Modules of this room, each of which adds the command of its name as it is imported.
COMMANDS = (
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
    "parity",
    "score",
    "train",
    "tune",
    "verify",
    "watch",
)


_RESUME = " What was done so far is kept: --resume goes on with it."


def load_commands(arguments: list[str]) -> None:
    """Add the command asked for to the app, or all: to describe them costs more than to load a model."""
    asked = [name for name in arguments[:1] if name in COMMANDS]
    for name in asked or COMMANDS:
        import_module(f"wetread.cli.{name}")


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        # A console or a pipe on Windows lacks most letters: a name with them must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # All files are closed by now. To take the libraries apart again, as the interpreter would, takes a
    # third of the time that it takes to score one image.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # The workers are the parallelism; a matrix product that starts threads of its own only slows them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # TensorFlow tells of absent GPUs on standard error, where a command says only what its user must know.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        load_commands(arguments)
        with _tidy_termination(), _plain_warnings():
            code = app(arguments, prog_name="wetread", standalone_mode=False, windows_expand_args=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (UsageError, ConfigError) as error:
        return _report(error, code=2)
    except WetreadError as error:
        return _report(f"{error}{_RESUME if error.resumable else ''}", code=1)
    except TyperException as error:
        return _report(_add_hint(error), code=error.exit_code)
    except BrokenPipeError:  # whoever read standard output went away
        return _drop_output()
    except OSError as error:  # a full disk under standard output, say
        if (explained := explain_import(error)) is not None:  # or a library that a package loads and lacks
            return _report(explained, code=1)
        _report(f"Expected to read and write as asked. Received: {error}.", code=1)
        return _drop_output()
    except MemoryError:
        return _report("out of memory. Give fewer --workers or a smaller --batch-size.", code=1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - an import may raise anything, too; else nobody foresaw it: the user gets one line, we get the details
        explained = explain_import(error)
        return _report_fault(error, arguments) if explained is None else _report(explained, code=1)


def _add_hint(error: TyperException) -> str:
    """Return the message with the option that may be meant, and the command whose help to read."""
    text = error.format_message().replace(" (Possible options: ", ". Did you mean ").removesuffix(")")
    text += "?" if "Did you mean --" in text else ""
    context = getattr(error, "ctx", None)
    return f"{text} See '{context.command_path if context else 'wetread'} --help'."


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Say in one line, once, what a file system or a source lacks, and which image is slow."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)  # "once" is once for each module that warns
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


def _report_fault(error: Exception, arguments: list[str]) -> int:
    from wetread.cli.faults import describe_fault

    command = next((name for name in arguments[:1] if name in COMMANDS), "")
    kept = command in ("score", "train", "tune") and any(a.startswith(("-o", "--output")) for a in arguments)
    in_shards = any(a.startswith(("--shard", "--engine")) for a in arguments)
    return _report(describe_fault(error, command=command) + _RESUME * (kept and not in_shards), code=1)


def _drop_output() -> int:
    """Keep the last flush of standard output quiet, and return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


@contextmanager
def _tidy_termination() -> Iterator[None]:
    """Let SIGTERM end the process as an exception does: passing folders, which may hold pixels, go."""

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
