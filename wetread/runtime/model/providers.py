"""Execution providers: create a session that really uses the device of `--device`.

onnxruntime silently falls back to the CPU if a provider's libraries are missing (onnxruntime#23372), so the
provider in use is read back from the session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wetread.environment import switch_telemetry_off, warn_of_telemetry
from wetread.errors import ConfigError, ProviderError
from wetread.packages import ONNXRUNTIME_PACKAGES, find_versions, importing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEVICES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
# The devices that `auto` tries, best first. TensorRT compiles for minutes and CoreML rounds to half
# precision, so both must be asked for.
_AUTO = ("cuda", "directml", "cpu")
_ADVICE = {
    "cpu": "pip install 'wetread[cpu]'",
    "cuda": "pip install 'wetread[gpu]' in an environment without onnxruntime, and check that nvidia-smi "
    "lists a GPU and that the CUDA and cuDNN versions are those that onnxruntime-gpu needs",
    "tensorrt": "pip install 'wetread[gpu]' and the TensorRT libraries that onnxruntime-gpu needs",
    "directml": "pip install 'wetread[directml]' on Windows, in an environment without onnxruntime",
    "openvino": "pip install onnxruntime-openvino in an environment without onnxruntime",
    "coreml": "use macOS, where the onnxruntime of 'wetread[cpu]' has it",
}


@dataclass(frozen=True)
class OpenSession:
    """A session, the device that it really runs on, and why `auto` chose it."""

    session: Any
    device: str
    provider: str
    reason: str

    def run(self, outputs: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute outputs of images (N, H, W, C). Raises ProviderError where the device fails."""
        try:
            found: list[NDArray[np.float32]] = self.session.run(outputs, {"image": images})
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):  # such as MemoryError
                raise
            reason = " ".join(str(error).split())[:300]
            raise ProviderError(
                f"{self.device} failed on a batch of {len(images)}: {reason}. Is its memory short? Give a "
                "smaller --batch-size, or another --device; `wetread doctor` tries each."
            ) from error
        return found


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off: by its variable, and on Windows by its API.

    Warns if the caller's program imported onnxruntime first: then the variable comes too late. Raises
    MissingExtraError without it, and ProviderError if two of its packages overwrite one another.
    """
    found = installed_packages()
    if len(found) > 1:
        raise ProviderError(
            f"Several onnxruntime packages, which overwrite one another, are installed: {' and '.join(found)}"
            ". Uninstall all of them, then install the one you need."
        )
    switch_telemetry_off()  # again: the program may have cleared its environment meanwhile
    warn_of_telemetry()
    with importing("onnxruntime", extra="cpu"):
        import onnxruntime

        # A folder that an uninstall left behind can be imported too, but has none of these.
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def installed_packages() -> list[str]:
    """Names and versions of the onnxruntime packages in this environment."""
    return [f"{name} {version}" for name, version in find_versions(ONNXRUNTIME_PACKAGES).items()]


def open_session(
    model: bytes, *, device: str = "auto", check: Callable[[OpenSession], None] | None = None
) -> OpenSession:
    """Create a session on a device: auto, cpu, cuda, tensorrt, directml, openvino, coreml.

    It has one intra-op thread without spinning, because the callers' threads run in parallel. `check` has it
    compute something: `auto` passes over a device that raises ProviderError then, such as a GPU that is too
    old for this onnxruntime, which starts. Raises ConfigError for an unknown device, and ProviderError, with
    advice, if another device is in use than the one that was asked for.
    """
    check = check or (lambda _: None)
    onnxruntime = import_onnxruntime()
    if device != "auto":
        if device not in DEVICES:
            raise ConfigError(f"--device must be auto, {', '.join(DEVICES)}, not {device!r}.")
        session = _try_session(onnxruntime, model, device)
        if isinstance(session, str):
            raise ProviderError(f"{device} cannot be used: {session}. Try: {_ADVICE[device]}.")
        opened = OpenSession(session, device, DEVICES[device], "asked for")
        check(opened)
        return opened
    passed_over: list[str] = []
    for candidate in _AUTO:
        if DEVICES[candidate] not in onnxruntime.get_available_providers():
            continue
        session = _try_session(onnxruntime, model, candidate)
        if isinstance(session, str):
            passed_over.append(f"{candidate} did not start: {session}")
            continue
        reason = "; ".join(passed_over) or "the best that this onnxruntime offers"
        opened = OpenSession(session, candidate, DEVICES[candidate], reason)
        try:
            check(opened)
        except ProviderError as error:
            passed_over.append(str(error))
        else:
            return opened
    raise ProviderError(f"No device can be used: {'; '.join(passed_over) or 'onnxruntime offers none'}.")


def _try_session(onnxruntime: Any, model: bytes, device: str) -> Any:
    """Return a session that really runs on the device, or a clause that says why there is none."""
    provider = DEVICES[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        packages = ", ".join(installed_packages()) or "not installed by pip"
        return f"this onnxruntime ({packages}) has no {provider}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings: dict[str, str] = {}
    if device == "cuda":
        # The exhaustive search runs again for every new batch shape, and chooses by timing: not repeatable.
        settings = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[(provider, settings)])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own, undocumented types
        return f"{provider} failed: {str(error).splitlines()[0][:300]}"
    used = session.get_providers()[0]
    return session if used == provider else f"the session runs on {used} instead of {provider}"
