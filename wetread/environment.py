"""Set the environment variables that switch off the telemetry of wetread's dependencies.

Some dependencies read them only once, at import. So `wetread/__init__.py` sets them: before any other module
can import a dependency, and in every process (a Ray actor, a child process) that imports wetread.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings

_ONNXRUNTIME = "ORT_DISABLE_TELEMETRY"
_OFF = {
    # disable_telemetry_events() comes too late for the events of its start (microsoft/onnxruntime#27379).
    _ONNXRUNTIME: "1",
    # A coming version of onnxruntime renames the switch (microsoft/onnxruntime#29843).
    "ORT_TELEMETRY_DISABLED": "1",
    # Ray's usage statistics, and its question about them.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    # google-cloud-storage asks for the bucket's metadata in the background, for its traces.
    "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
}
_too_late = False
_temporary: set[str] = set()


def switch_telemetry_off() -> None:
    """Set the variables that switch telemetry off, whatever they were set to before."""
    global _too_late
    _too_late = _too_late or ("onnxruntime" in sys.modules and os.environ.get(_ONNXRUNTIME) != "1")
    os.environ.update(_OFF)


def warn_of_telemetry() -> None:
    """Warn where onnxruntime was imported before its telemetry could be switched off."""
    # On Windows the variable does nothing: there onnxruntime's API is the switch, at any time.
    if _too_late and sys.platform != "win32":
        warnings.warn(
            "onnxruntime was imported before wetread, so its telemetry may be on: since 1.29 it sends usage "
            "data to Microsoft, and this process cannot stop it any more. Import wetread before onnxruntime, "
            "or set ORT_DISABLE_TELEMETRY=1 before Python starts.",
            stacklevel=2,
        )


def keep_home_clean() -> None:
    """Give Keras and matplotlib a temporary folder, unless they already have one under HOME.

    Both write to HOME when they are imported: `~/.keras/keras.json`, and a list of fonts. A folder that is
    there, or that a variable names, is used as it is.
    """
    places = {"KERAS_HOME": (".keras",), "MPLCONFIGDIR": (".config/matplotlib", ".matplotlib")}
    home = os.path.expanduser("~")
    for variable, folders in places.items():
        if variable not in os.environ and not any(os.path.exists(os.path.join(home, f)) for f in folders):
            folder = tempfile.mkdtemp(prefix="wetread-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            os.environ[variable] = folder
            _temporary.add(folder)


def find_keras_home() -> str:
    """Return the folder of Keras' settings and weights: $KERAS_HOME, unless it is temporary, or ~/.keras."""
    named = os.environ.get("KERAS_HOME")
    return named if named and named not in _temporary else os.path.join(os.path.expanduser("~"), ".keras")


def name_python() -> list[str]:
    """Return the command line of this Python for a child process: as isolated, with the same file names."""
    isolated = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *isolated, "-X", f"utf8={sys.flags.utf8_mode}"]
