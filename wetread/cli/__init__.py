"""The command line: parse, call, print, exit code. No logic, and no heavy import outside a command.

Exit codes: 0 every input scored; 3 finished, but some inputs have no score; 2 wrong usage; 1 anything
else; 130 and 143 when interrupted. Errors are one line on standard error.
"""

from __future__ import annotations

import io
import os
import sys

from typer import TyperException

from wetread.cli.app import app
from wetread.errors import UsageError, WetreadError

# Each of these modules adds its commands to the app as it is imported.
from wetread.cli import bundle, demo, doctor, evaluate, explain, export  # isort: skip  # noqa: F401
from wetread.cli import inspect, parity, score, train, verify, watch  # isort: skip  # noqa: F401


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A console or a pipe on Windows lacks most letters: a name with them must not end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # The workers are the parallelism; a matrix product that starts threads of its own only slows them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # TensorFlow tells of absent GPUs on standard error, where a command says only what its user must know.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        code = app(arguments, prog_name="wetread", standalone_mode=False, windows_expand_args=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except UsageError as error:
        return _report(error, code=2)
    except WetreadError as error:
        return _report(error, code=1)
    except TyperException as error:
        return _report(f"{error.format_message()} Try 'wetread --help'.", code=error.exit_code)
    except BrokenPipeError:
        # Whoever read standard output went away; keep the interpreter's last flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _report(error: object, *, code: int) -> int:
    print("wetread: " + " ".join(str(error).split()), file=sys.stderr)
    return code
