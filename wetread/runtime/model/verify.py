"""Verify at every load, and with `wetread verify`, that this machine computes a model's recorded results."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wetread.errors import BrokenPackageError, ConfigError, MachineError, MissingExtraError, ModelError
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.model.golden_inputs import draw_inputs
from wetread.runtime.model.spec import ModelSpec, check_digest, read_spec

# This is imported at every load, so imports that only a failure or `wetread verify` needs are inside
# functions.
if TYPE_CHECKING:
    from wetread.runtime.machine import Processor
    from wetread.runtime.model.saturation import LayerProof

Classify = Callable[[Pixels], NDArray[np.float32]]
Judge = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class SelfTest:
    """The results of the golden inputs on this machine, compared with the recorded ones.

    `exact` and `keras`: the largest difference of a probability for each input. `same_pixels`: whether the
    drawn JPEG and the resized images have the recorded digest. `unlike`: the relative difference of that
    output for each input; () if the model has none.
    """

    same_pixels: bool
    exact: tuple[float, ...]
    keras: tuple[float, ...]
    exact_tolerance: float
    keras_tolerance: float
    seconds: float
    unlike: tuple[float, ...] = ()
    unlike_tolerance: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether pixels, probabilities and the output `unlike` match the recorded ones."""
        return self.same_pixels and self.exact_holds and self.keras_holds and self.unlike_holds

    @property
    def unlike_holds(self) -> bool:
        """Whether the output `unlike` matches the recorded one. NaN does not."""
        return all(difference <= self.unlike_tolerance for difference in self.unlike)

    @property
    def exact_holds(self) -> bool:
        """Whether every probability matches the file's in exact arithmetic. NaN does not."""
        return all(difference <= self.exact_tolerance for difference in self.exact)

    @property
    def keras_holds(self) -> bool:
        """Whether every probability is close to the Keras network's."""
        return all(difference <= self.keras_tolerance for difference in self.keras)


@dataclass(frozen=True)
class Check:
    """One line of `wetread verify`: what was checked, what was found, and whether it passed."""

    name: str
    passed: bool
    expected: str
    received: str


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify_model`. It passed if every check did.

    `provider` is None if nothing was computed: the bytes have changed, or a required signature is not there.
    """

    model: str
    digest: str
    precision: str
    provider: str | None
    processor: Processor
    checks: tuple[Check, ...]
    self_test: SelfTest | None
    layers: tuple[LayerProof, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the model may be used here."""
        return all(check.passed for check in self.checks)


def run_self_test(spec: ModelSpec, classify: Classify, *, judge: Judge | None = None) -> SelfTest | None:
    """Run a model's golden self-test; None for a model without one.

    `classify`: uint8 images (N, height, width, channels) to float32 probabilities (N, K); `judge`: to those
    and the output `unlike`, float32 (N,), of a model that has it.
    """
    golden = spec.golden
    if golden is None:
        return None
    start = time.perf_counter()
    inputs, pixels = draw_inputs(golden, spec.pixels)
    probabilities, unlike = _compute_golden(spec, inputs, classify, judge)
    found = probabilities.astype(np.float64)
    return SelfTest(
        same_pixels=pixels == golden.pixels,
        exact=_differences(found, golden.exact),
        keras=_differences(found, golden.keras),
        exact_tolerance=golden.exact_tolerance,
        keras_tolerance=golden.keras_tolerance,
        seconds=time.perf_counter() - start,
        unlike=unlike,
        unlike_tolerance=golden.unlike_tolerance,
    )


def _compute_golden(
    spec: ModelSpec, inputs: Pixels, classify: Classify, judge: Judge | None
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Return the probabilities of the golden inputs, and the relative differences of the output `unlike`."""
    wanted = np.asarray(() if spec.golden is None else spec.golden.unlike, np.float64)
    if judge is None or not len(wanted):
        return classify(inputs), ()
    probabilities, found = judge(inputs)
    if len(found) != len(wanted):
        raise ModelError(f"There must be {len(found)} golden answers of 'unlike', not {len(wanted)}.")
    if found.shape != wanted.shape:  # OpenVINO 2025 leaves the last step out
        return probabilities, (math.inf,) * len(wanted)
    shares = np.abs(found.astype(np.float64) - wanted) / np.maximum(np.abs(wanted), 1e-3)
    return probabilities, tuple(float(share) for share in shares)


def _differences(found: NDArray[np.float64], expected: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    wanted = np.asarray(expected, np.float64)
    if found.shape != wanted.shape:
        raise ModelError(f"The golden answers must have the shape {found.shape}, not {wanted.shape}.")
    return tuple(float(difference) for difference in np.abs(found - wanted).max(axis=1))


def check_machine(
    spec: ModelSpec, classify: Classify, *, name: str, provider: str, judge: Judge | None = None
) -> SelfTest | None:
    """Refuse a machine that does not compute a model's recorded results.

    `Classifier` calls it at every load. Returns None for a model without a self-test. Raises MachineError,
    which names the file, the provider, the processor, and what to do.
    """
    result = run_self_test(spec, classify, judge=judge)
    if result is None or result.passed:
        return result
    raise MachineError(f"{name}: {_explain(result, spec, provider)}")


def _explain(result: SelfTest, spec: ModelSpec, provider: str) -> str:
    from wetread.runtime.machine import read_processor

    machine = f"{provider} on {describe_processor(read_processor())}"
    if not result.same_pixels:
        return (
            "the drawn test image has other pixels here than on its author's machine, because this machine's "
            f"image libraries decode or resize differently ({machine}). Install the versions "
            "of opencv-python-headless and simplejpeg that wetread asks for, and run `wetread doctor`."
        )
    if result.exact_holds and result.keras_holds:
        off = max(result.unlike)
        differs = (
            f"differs from its own exact answers by {off:.1%}, and at most {result.unlike_tolerance:.1%} is "
            "allowed"
            if math.isfinite(off)
            else "is not one number for each image"
        )
        return (
            f"its output 'unlike' with {machine} {differs}: other images would be outside the model's scope "
            "here. Use another provider (--device cpu), or another version of onnxruntime."
        )
    off, limit, whose = max(result.exact), result.exact_tolerance, "its own exact answers"
    if result.exact_holds:
        off, limit, whose = max(result.keras), result.keras_tolerance, "the Keras network's answers"
    other = (
        "Use the float32 file of this network"
        if spec.precision != "float32"
        else "Use another provider (--device cpu)"
    )
    return (
        f"its probabilities with {machine} differ from {whose} by {off:.2g}, and at most {limit:.1g} is "
        f"allowed. {other}, or another version of onnxruntime; `wetread verify` shows every input."
    )


def describe_processor(processor: Processor) -> str:
    """Describe a processor: architecture, features, and whether an x86 lacks exact 8-bit products."""
    features = ", ".join(processor.features) or "features unknown"
    intel = processor.architecture.lower() in ("x86_64", "amd64", "i386", "x86")
    missing = ", no VNNI" if intel and not processor.integer_dot_product else ""
    return f"{processor.architecture} with {features}{missing}"


def verify_model(
    model: str | os.PathLike[str], *, device: str = "cpu", public_key: str | os.PathLike[str] | None = None
) -> VerifyReport:
    """Verify a model on this machine: bytes, signature, pixels, answers, integers.

    Unlike a `Classifier` it does not stop at the first failure: if the bytes have changed and nothing can be
    computed, that is a failed check. A model that is not signed as required is not run. Raises ModelError for
    a file that is not wetread's, TamperedModelError for one whose spec has changed, and ProviderError if the
    device does not start.
    """
    from wetread.runtime.machine import read_processor
    from wetread.runtime.model.file_reading import read_model

    start = time.perf_counter()
    data, name = read_model(model)
    checks = [_check_bytes(data, name)]
    signatures = _check_signatures(data, name, public_key)
    checks += signatures
    spec = read_spec(data, name=name)
    provider: str | None = None
    result: SelfTest | None = None
    layers: tuple[LayerProof, ...] = ()
    try:
        if all(check.passed for check in signatures):
            provider, result, layers = _compute(data, spec, device)
            checks += _check_answers(result) + _check_layers(layers)
        else:
            checks.append(Check("answers", False, "some from every input", "not computed: see 'signature'"))
    except (ConfigError, MissingExtraError, BrokenPackageError):
        raise
    except Exception:
        # With damaged bytes, onnxruntime may raise anything, and blames the machine.
        if checks[0].passed:
            raise
        checks.append(Check("answers", False, "some from every input", f"none on {device}: see 'bytes'"))
    return VerifyReport(
        model=name,
        digest=spec.digest,
        precision=spec.precision,
        provider=provider,
        processor=read_processor(),
        checks=tuple(checks),
        self_test=result,
        layers=layers,
        seconds=time.perf_counter() - start,
    )


def _compute(
    data: bytes, spec: ModelSpec, device: str
) -> tuple[str, SelfTest | None, tuple[LayerProof, ...]]:
    """Return the provider that runs a model, its self-test, and the proofs of its layers."""
    from wetread.runtime.model.providers import open_session
    from wetread.runtime.model.saturation import prove_layers

    opened = open_session(data, device=device)
    result = run_self_test(
        spec,
        lambda images: opened.run(["probabilities"], images)[0],
        judge=lambda images: _take_both(opened.run(["probabilities", "unlike"], images)),
    )
    return opened.provider, result, prove_layers(data)


def _take_both(found: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    probabilities, unlike = found
    return probabilities, unlike


def _check_bytes(data: bytes, name: str) -> Check:
    try:
        digest = check_digest(data, name=name)
    except ModelError as error:
        return Check("bytes", False, "those that were exported", str(error))
    return Check("bytes", True, "those that were exported", f"SHA-256 {digest[:16]}...")


def _check_signatures(data: bytes, name: str, public_key: str | os.PathLike[str] | None) -> list[Check]:
    from wetread.runtime.model.signature import check_signature, list_required_keys, read_signature

    checks = []
    for key in list_required_keys(public_key):
        expected = received = f"signed by {key}"
        try:
            check_signature(data, name=name, signature=read_signature(name), public_key=key)
        except ModelError as error:
            received = str(error)
        checks.append(Check("signature", expected == received, expected, received))
    return checks


def _check_answers(result: SelfTest | None) -> list[Check]:
    if result is None:
        return [Check("self-test", False, "a golden self-test", "none: export the model again")]
    exact, keras = max(result.exact), max(result.keras)
    return [
        Check(
            "pixels",
            result.same_pixels,
            "the author's, to the byte",
            "the same" if result.same_pixels else "others: this machine's image libraries differ",
        ),
        Check("exact answers", result.exact_holds, f"within {result.exact_tolerance:.1g}", f"{exact:.1e}"),
        Check("Keras' answers", result.keras_holds, f"within {result.keras_tolerance:.1g}", f"{keras:.1e}"),
        *_check_unlike(result),
    ]


def _check_unlike(result: SelfTest) -> list[Check]:
    """What tells the scope; nothing of a model without it."""
    if not result.unlike:
        return []
    expected, received = f"within {result.unlike_tolerance:.1%}", f"{max(result.unlike):.1e}"
    return [Check("scope", result.unlike_holds, expected, received)]


def _check_layers(layers: tuple[LayerProof, ...]) -> list[Check]:
    """Check integer layers only: a float model cannot saturate."""
    if not layers:
        return []
    failing = [proof for proof in layers if not proof.holds]
    pairs = [proof.largest_pair for proof in layers if proof.largest_pair is not None]
    received = f"at most {max(pairs)} in {len(layers)} layers" if pairs else f"{len(layers)} layers of uint8"
    if failing:
        worst = max(failing, key=lambda proof: proof.largest_pair or 0)
        received = f"{len(failing)} of {len(layers)} layers can saturate; {worst.layer}: {worst.largest_pair}"
    return [Check("integers", not failing, "two largest weights sum to at most 128", received)]
