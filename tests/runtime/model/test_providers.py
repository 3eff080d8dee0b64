from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from tests.models import build_model, toy_spec
from tests.scoped import build_scoped
from wetread.cli import run as run_command
from wetread.errors import ConfigError, ProviderError
from wetread.runtime.model import providers
from wetread.runtime.model.providers import DEVICES, open_session
from wetread.runtime.scoring.classifier import Classifier


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


class Failing(Fallback):
    """An onnxruntime whose CUDA provider starts, and fails when it computes more than `most` images."""

    most = 0

    def InferenceSession(self, model, options, *, providers):  # noqa: N802 - onnxruntime's name
        session = super().InferenceSession(model, options, providers=providers)
        return FailingSession(session, self.most) if providers[0][0] == DEVICES["cuda"] else session


class FailingSession:
    def __init__(self, session: onnxruntime.InferenceSession, most: int) -> None:
        self._session, self._most = session, most

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [DEVICES["cuda"], DEVICES["cpu"]]

    def run(self, outputs, images):
        if len(images["image"]) > self._most:
            raise RuntimeException(
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION :\nCUDA error 209: no kernel image"
            )
        return self._session.run(outputs, images)


@pytest.fixture
def failing(monkeypatch) -> type[Failing]:
    monkeypatch.setattr(providers, "import_onnxruntime", Failing)
    return Failing


GOLDEN = build_scoped()  # it has a self-test, so that it computes something at load


def test_auto_passes_over_a_device_that_starts_and_does_not_compute(failing):
    model = Classifier(GOLDEN)
    assert (model.device, model.provider) == ("cpu", DEVICES["cpu"])
    assert model.reason.startswith("cuda failed on a batch of ") and "no kernel image" in model.reason
    assert np.isfinite(model.classify(np.zeros((2, *model.spec.pixels.shape), np.uint8))).all()


def test_one_that_was_asked_for_is_an_error(failing):
    with pytest.raises(ProviderError, match=r"cuda failed on a batch of \d+: .*no kernel .*--batch-size"):
        Classifier(GOLDEN, device="cuda")


def test_a_run_that_a_device_breaks_off_is_no_fault_of_wetread(
    failing, image_folder, tmp_path, monkeypatch, capsys
):
    model, output = tmp_path / "m.onnx", tmp_path / "x.csv"
    model.write_bytes(GOLDEN)
    words = ["score", str(image_folder), "--model", str(model), "--output", str(output), "--device", "cuda"]
    monkeypatch.setattr(failing, "most", 5)
    assert run_command([*words, "--batch-size", "8"]) == 1
    said = capsys.readouterr().err
    assert "cuda failed on a batch of 8" in said and "fault of wetread" not in said
    assert run_command([*words, "--batch-size", "4", "--overwrite"]) == 0
    assert output.read_text().count("\n") == 13


def test_two_packages_that_overwrite_one_another(model, monkeypatch):
    both = ["onnxruntime 1.32.0", "onnxruntime-gpu 1.32.0"]
    monkeypatch.setattr(providers, "installed_packages", lambda: both)
    with pytest.raises(ProviderError, match=r"onnxruntime 1\.32\.0 and onnxruntime-gpu 1\.32\.0"):
        open_session(model)
