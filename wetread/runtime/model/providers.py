"""Execution providers: from the word after `--device` to a session that really uses it.

onnxruntime falls back to the CPU in silence when a provider's libraries are missing (onnxruntime#23372),
so what a session uses is read back from the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wetread.environment import switch_telemetry_off, warn_of_telemetry
from wetread.errors import ConfigError, ProviderError
from wetread.packages import ONNXRUNTIME_PACKAGES, find_versions, importing

DEVICES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
# What `auto` tries, best first. TensorRT compiles for minutes and CoreML rounds to half precision:
# both only when they are asked for.
_AUTO = ("cuda", "directml", "cpu")
_ADVICE = {
    "cpu": "pip install 'wetread[cpu]'",
    "cuda": "pip install 'wetread[gpu]' in an environment without onnxruntime, and check that nvidia-smi "
    "lists a GPU and that the CUDA and cuDNN versions are those that onnxruntime-gpu wants",
    "tensorrt": "pip install 'wetread[gpu]' and the TensorRT libraries that onnxruntime-gpu wants",
    "directml": "pip install 'wetread[directml]' on Windows, in an environment without onnxruntime",
    "openvino": "pip install onnxruntime-openvino in an environment without onnxruntime",
    "coreml": "use macOS, where the onnxruntime of 'wetread[cpu]' holds it",
}


@dataclass(frozen=True)
class OpenSession:
    """A session, the device word that it really runs on, and why `auto` took it."""

    session: Any
    device: str
    provider: str
    reason: str


def import_onnxruntime() -> Any:
    """Import onnxruntime, with its telemetry off: by its variable, and on Windows by its API.

    Warns where the caller's program imported onnxruntime first, which its variable cannot switch off then.
    Raises MissingExtraError without it, and ProviderError when two of its packages overwrite one another.
    """
    found = installed_packages()
    if len(found) > 1:
        raise ProviderError(
            f"Expected one onnxruntime package. Received {' and '.join(found)}, which overwrite one "
            f"another. Uninstall all of them, then install the one you need."
        )
    switch_telemetry_off()  # once more: the program may have cleared its environment since
    warn_of_telemetry()
    with importing("onnxruntime", extra="cpu"):
        import onnxruntime

        # A folder that an uninstall left behind imports as well, and has none of these.
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def installed_packages() -> list[str]:
    """Names and versions of the onnxruntime packages in this environment."""
    return [f"{name} {version}" for name, version in find_versions(ONNXRUNTIME_PACKAGES).items()]


def open_session(model: bytes, *, device: str = "auto") -> OpenSession:
    """Make a session from a model's bytes on a device: auto, cpu, cuda, tensorrt, directml, openvino, coreml.

    One intra-op thread, no spinning: the callers' threads are the parallelism. Raises ConfigError for
    another word, and ProviderError when the device that was asked for is not the one in use, saying what to
    look at.
    """
    onnxruntime = import_onnxruntime()
    if device != "auto":
        if device not in DEVICES:
            raise ConfigError(f"Expected a device: auto, {', '.join(DEVICES)}. Received {device!r}.")
        session = _try_session(onnxruntime, model, device)
        if isinstance(session, str):
            raise ProviderError(f"Expected to run on {device}. Received {session}. Try: {_ADVICE[device]}.")
        return OpenSession(session, device, DEVICES[device], "asked for")
    passed_over: list[str] = []
    for candidate in _AUTO:
        if DEVICES[candidate] not in onnxruntime.get_available_providers():
            continue
        session = _try_session(onnxruntime, model, candidate)
        if not isinstance(session, str):
            reason = "; ".join(passed_over) or "the best that this onnxruntime offers"
            return OpenSession(session, candidate, DEVICES[candidate], reason)
        passed_over.append(f"{candidate} did not start: {session}")
    raise ProviderError(f"Expected a provider that starts. Received {'; '.join(passed_over) or 'none'}.")


def _try_session(onnxruntime: Any, model: bytes, device: str) -> Any:
    """A session that really runs on the device, or a sentence that says why there is none."""
    provider = DEVICES[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        return (
            f"an onnxruntime ({', '.join(installed_packages()) or 'not installed by pip'}) without {provider}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings: dict[str, str] = {}
    if device == "cuda":
        # The exhaustive search runs again for every new batch shape, and picks by timing: not repeatable.
        settings = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[(provider, settings)])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own, undocumented types
        return f"an error of {provider}: {str(error).splitlines()[0][:300]}"
    used = session.get_providers()[0]
    return session if used == provider else f"a session on {used} instead of {provider}"
