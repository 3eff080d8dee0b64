from __future__ import annotations

import onnxruntime
import pytest

from tests.models import build_model, toy_spec
from wetread.errors import ConfigError, ProviderError
from wetread.runtime.model import providers
from wetread.runtime.model.providers import DEVICES, open_session


@pytest.fixture(scope="module")
def model() -> bytes:
    return build_model(toy_spec())


def test_auto_says_what_it_took(model):
    opened = open_session(model)
    assert opened.provider == DEVICES[opened.device] == opened.session.get_providers()[0]
    assert opened.reason


def test_cpu_is_used_when_asked_for(model):
    opened = open_session(model, device="cpu")
    assert (opened.device, opened.provider) == ("cpu", "CPUExecutionProvider")
    assert opened.session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("device", sorted(set(DEVICES) - {"cpu"}))
def test_a_device_that_is_not_there_is_an_error_that_says_what_to_do(model, device):
    if DEVICES[device] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime holds {DEVICES[device]}")
    with pytest.raises(ProviderError, match=rf"{device} cannot be used.*has no {DEVICES[device]}.*Try: "):
        open_session(model, device=device)


def test_an_unknown_device(model):
    with pytest.raises(ConfigError, match="'gpu'"):
        open_session(model, device="gpu")


class Fallback:
    """An onnxruntime whose CUDA provider is listed but falls back to the CPU in silence."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, model, options, *, providers):  # noqa: N802 - onnxruntime's name
        self.asked.append(providers[0][0])
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def test_a_silent_fallback_is_found(model, monkeypatch):
    monkeypatch.setattr(providers, "import_onnxruntime", Fallback)
    with pytest.raises(ProviderError, match="CPUExecutionProvider instead of CUDAExecutionProvider"):
        open_session(model, device="cuda")
    opened = open_session(model)
    assert opened.device == "cpu"
    assert "cuda did not start" in opened.reason


def test_two_packages_that_overwrite_one_another(model, monkeypatch):
    both = ["onnxruntime 1.32.0", "onnxruntime-gpu 1.32.0"]
    monkeypatch.setattr(providers, "installed_packages", lambda: both)
    with pytest.raises(ProviderError, match=r"onnxruntime 1\.32\.0 and onnxruntime-gpu 1\.32\.0"):
        open_session(model)
