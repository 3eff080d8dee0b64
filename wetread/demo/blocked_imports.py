"""Run `wetread` commands in a Python that cannot import the packages that train a model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

TRAINING_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "sklearn", "matplotlib")

# A module that is None in sys.modules cannot be imported: Python raises ModuleNotFoundError.
_CODE = (
    "import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
    "from wetread.cli import run; sys.exit(run(sys.argv[1:]))"
)


def run_without_training(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `wetread ARGUMENTS` in a subprocess in which no package of `TRAINING_PACKAGES` can be imported.

    Returns the finished process, with its exit code and what it printed.
    """
    code = _CODE.format(blocked=TRAINING_PACKAGES)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
