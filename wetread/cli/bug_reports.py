"""Report bugs of wetread itself: one line for the user, and a file with the details for a bug report."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback

from wetread.packages import find_own_version

SHOW = "WETREAD_TRACEBACK"


def describe_fault(error: Exception, *, command: str) -> str:
    """Describe an unforeseen error in one line that says where its details are.

    The details are the versions and the traceback, without arguments or values of variables. They go to a new
    file in the temporary folder that only its owner can read, or to standard error if WETREAD_TRACEBACK is 1.
    """
    details = _write_details(error, command=command)
    if os.environ.get(SHOW) == "1":
        print(details, end="", file=sys.stderr)
        where = "The details are above."
    else:
        where = _save(details)
    return f"this is a fault of wetread, not of your files: {type(error).__name__}. {where} Please report it."


def _write_details(error: Exception, *, command: str) -> str:
    versions = f"wetread {find_own_version()} {command}, Python {platform.python_version()}"
    head = f"{versions}, {platform.platform()}"
    return head + "\n" + "".join(traceback.format_exception(error))


def _save(details: str) -> str:
    try:
        number, path = tempfile.mkstemp(prefix="wetread-fault-", suffix=".txt")  # readable by its owner alone
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
    except OSError as error:
        return f"Its details could not be saved ({error.strerror}): set {SHOW}=1 to see them."
    return f"Its details are in {path} (they may name files; read them before you pass them on)."
