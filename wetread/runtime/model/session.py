"""ModelSession: one checked model file, one shared session, arrays to probabilities."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ModelError
from wetread.runtime.model.file import read_model
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.providers import open_session
from wetread.runtime.model.signature import check_signature, read_signature
from wetread.runtime.model.spec import ModelSpec, check_digest, read_spec
from wetread.runtime.model.verify import check_machine

if TYPE_CHECKING:
    pass

ACTIVATION, UNLIKE = "activation", "unlike"
# A core's own cache holds what the layers make of so many images; more at once take longer each.
_CPU_BATCH = 4


class ModelSession:
    """A model that is ready to compute: its spec is known, its bytes and this machine are checked.

    `model`: the name of an ONNX file that `wetread export` wrote, on this disk or in a bucket, or its bytes;
    without one, the packaged model, as in the commands.
    `device`: auto, cpu, cuda, tensorrt, directml, openvino or coreml. `public_key`, a PEM file, demands its
    signature beside the model. Raises ModelError for a file that is not wetread's or is of an unknown
    version, TamperedModelError for one that changed, MachineError on a machine that computes something else
    from it, ProviderError when the device does not start.

    Safe to share between threads: the session is one, and each call runs on its caller's thread.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        *,
        device: str = "auto",
        public_key: str | os.PathLike[str] | None = None,
    ) -> None:
        data, self.name = read_model(choose_model(None) if model is None else model)
        self.size = len(data)
        self.spec = read_spec(data, name=self.name)
        self.digest = check_digest(data, name=self.name)
        if public_key is not None:
            signature = read_signature(self.name)
            check_signature(data, name=self.name, signature=signature, public_key=public_key)
        opened = open_session(data, device=device)
        self.session = opened.session
        self.device, self.provider, self.reason = opened.device, opened.provider, opened.reason
        _check_interface(self.session, self.spec, self.name)
        check_machine(self.spec, self.classify, name=self.name, provider=self.provider, judge=self.judge)

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of images that `read_pixels` brought to the model's size.

        `images`: uint8 (N, height, width, channels), 0 to 255. Returns float32 (N, K), rows sum to 1, in
        the order of `spec.labels`. Raises ModelError on another shape or dtype.
        """
        return self._run(images, ["probabilities"])[0]

    def judge(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the probabilities (N, K), and how unlike the training images each image is, float32 (N,).

        `images` as in `classify`. Raises ModelError where the model's scope has no such output.
        """
        if self.spec.scope is None or self.spec.scope.unlike is None:
            raise ModelError(
                f"{self.name}: Expected a model with the output '{UNLIKE}'. Received one without. Export it "
                "with --scope FILE.toml and images."
            )
        probabilities, unlike = self._run(images, ["probabilities", UNLIKE])
        return probabilities, unlike

    def _run(self, images: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        """Compute outputs, float32 (N, ...) each, of which the first are the probabilities."""
        if images.dtype != np.uint8 or images.shape[1:] != self.spec.pixels.shape:
            raise ModelError(
                f"Expected uint8 images of shape (N, {', '.join(map(str, self.spec.pixels.shape))}). "
                f"Received {images.dtype} {images.shape}. Read files with wetread's read_pixels."
            )
        if not len(images):
            return [np.empty((0, len(self.spec.labels)), np.float32), np.empty(0, np.float32)][: len(outputs)]
        at_once = _CPU_BATCH if self.device == "cpu" else len(images)
        parts: list[list[NDArray[np.float32]]] = [
            self.session.run(outputs, {"image": images[at : at + at_once]})
            for at in range(0, len(images), at_once)
        ]
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    @property
    def has_activation(self) -> bool:
        """Whether the model was exported with `activation`, its second output."""
        return any(output.name == ACTIVATION for output in self.session.get_outputs())

    def activate(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute what each place of the last feature maps says for each label, float32 (N, K, h, w).

        Logits, at the model's temperature: their mean over the places is what the softmax takes. `images` as
        in `classify`. Raises ModelError where the model has no such output.
        """
        if not self.has_activation:
            raise ModelError(
                f"{self.name}: Expected a model with the output '{ACTIVATION}'. Received one without. Export "
                "it with --with-activation, or explain by occlusion."
            )
        result: NDArray[np.float32] = self.session.run([ACTIVATION], {"image": images})[0]
        return result


def _check_interface(session: object, spec: ModelSpec, name: str) -> None:
    """Hold the graph to the contract: `image` uint8 (N, H, W, C) in, `probabilities` float (N, K) out."""
    (image, *others), outputs = session.get_inputs(), session.get_outputs()  # type: ignore[attr-defined]
    received = (image.name, image.type, tuple(image.shape[1:]), len(others))
    if received != ("image", "tensor(uint8)", spec.pixels.shape, 0):
        raise ModelError(
            f"{name}: Expected one input 'image', uint8 (N, {spec.pixels.shape}). Received {received}."
        )
    first = (outputs[0].name, outputs[0].type, outputs[0].shape[-1])
    if first != ("probabilities", "tensor(float)", len(spec.labels)):
        raise ModelError(
            f"{name}: Expected the first output 'probabilities', float32 (N, {len(spec.labels)}). "
            f"Received {first}."
        )
    if spec.scope is not None and spec.scope.unlike is not None:
        second = [(output.name, output.type, len(output.shape)) for output in outputs[1:2]]
        if second != [(UNLIKE, "tensor(float)", 1)]:
            raise ModelError(
                f"{name}: Expected the second output '{UNLIKE}', float32 (N,). Received {second}."
            )
