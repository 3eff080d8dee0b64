"""Turn a Keras network into the one ONNX file that a workstation needs. Needs the extra `train`.

The package is also the function `wetread.export(run, output=...)`: see `wetread.export.interface`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wetread.keyword_functions import make_callable
from wetread.packages import importing

with importing("onnx", extra="train"):
    import onnx  # noqa: F401

if TYPE_CHECKING:
    from wetread.export.convert import export_keras, export_run
    from wetread.export.description import NetworkDescription
    from wetread.export.forms.network_files import NetworkSource
    from wetread.export.judging import Gate, GateError
    from wetread.export.options import ExportOptions
    from wetread.export.parity import assert_parity, measure_parity

__all__ = [
    "ExportOptions",
    "Gate",
    "GateError",
    "NetworkDescription",
    "NetworkSource",
    "assert_parity",
    "export_keras",
    "export_run",
    "measure_parity",
]

make_callable(__name__)
_HOMES = {
    "assert_parity": "parity",
    "measure_parity": "parity",
    "export_keras": "convert",
    "export_run": "convert",
    "ExportOptions": "options",
    "Gate": "judging",
    "GateError": "judging",
    "NetworkDescription": "description",
    "NetworkSource": "forms.network_files",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: onnx and TensorFlow are not needed before."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"wetread.export.{_HOMES[name]}"), name)
