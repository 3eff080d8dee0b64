"""ModelSession: a verified model file and its session, which computes probabilities of arrays."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ModelError
from wetread.runtime.model.file_reading import read_model
from wetread.runtime.model.packaged import choose_model
from wetread.runtime.model.providers import OpenSession, open_session
from wetread.runtime.model.signature import check_signatures, list_required_keys, read_signature
from wetread.runtime.model.spec import ModelSpec, check_digest, read_spec
from wetread.runtime.model.verify import check_machine

ACTIVATION, UNLIKE = "activation", "unlike"
# The activations of this many images fit in a core's cache; with more at once each takes longer.
_CPU_BATCH = 4


class ModelSession:
    """A model that is ready to compute: its spec is read, its bytes and this machine are verified.

    `model`: the name of an ONNX file of `wetread export`, local or in a bucket, or its bytes; without one,
    the packaged model, as in the commands. `device`: auto, cpu, cuda, tensorrt, directml, openvino or coreml.
    `public_key`: a PEM file; the model must then have a signature by this key, as by the installation's own
    `only-signed.pem`, if there is one. `signature`: the 64 bytes of it; without them, those of `MODEL.sig`
    beside a file. Bytes have no file beside them. Raises ModelError for a file that is not wetread's or is of
    an unknown version, TamperedModelError for one that has changed or lacks a signature, MachineError on a
    machine that computes something else from it, ProviderError if the device does not start.

    It may be shared between threads: there is one session, and each call runs on its caller's thread.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | None = None,
        *,
        device: str = "auto",
        public_key: str | os.PathLike[str] | None = None,
        signature: bytes | None = None,
    ) -> None:
        data, name = read_model(choose_model(None) if model is None else model)
        self._identify(data, name)
        if list_required_keys(public_key):
            if signature is None and not isinstance(model, bytes):
                signature = read_signature(name)
            check_signatures(data, name=name, signature=signature, public_key=public_key)
        self._start(data, device)

    def _identify(self, data: bytes, name: str) -> None:
        """Read a model's spec and check its digest."""
        self.name, self.size = name, len(data)
        self.spec = read_spec(data, name=name)
        self.digest = check_digest(data, name=name)
        # In a worker process, `reopening()` opens the same bytes again.
        self.reopening = partial(_reopen, data, name)

    def _start(self, data: bytes, device: str) -> None:
        """Make the session, and verify this machine."""
        open_session(data, device=device, check=self._adopt)

    def _adopt(self, opened: OpenSession) -> None:
        """Use a session that is right. Raises MachineError, and ProviderError where its device fails."""
        self._opened, self.session = opened, opened.session
        self.device, self.provider, self.reason = opened.device, opened.provider, opened.reason
        _check_interface(self.session, self.spec, self.name)
        check_machine(self.spec, self.classify, name=self.name, provider=self.provider, judge=self.judge)

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of images from `read_pixels`.

        `images`: uint8 (N, height, width, channels), 0 to 255. Returns float32 (N, K), rows sum to 1, in the
        order of `spec.labels`. Raises ModelError for another shape or dtype, and ProviderError where the
        device fails, as when its memory is short.
        """
        return self._run(images, ["probabilities"])[0]

    def judge(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the probabilities (N, K), and how unlike the training images each image is, float32 (N,).

        `images` as in `classify`. Raises ModelError where the model's scope has no such output.
        """
        if self.spec.scope is None or self.spec.scope.unlike is None:
            raise ModelError(
                f"{self.name} has no output '{UNLIKE}'. Export it with --scope FILE.toml and images."
            )
        probabilities, unlike = self._run(images, ["probabilities", UNLIKE])
        return probabilities, unlike

    def _run(self, images: NDArray[np.uint8], outputs: list[str]) -> list[NDArray[np.float32]]:
        """Compute outputs, float32 (N, ...) each, of which the first are the probabilities."""
        images = self._check_images(images)
        if not len(images):
            return [np.empty((0, len(self.spec.labels)), np.float32), np.empty(0, np.float32)][: len(outputs)]
        at_once = _CPU_BATCH if self.device == "cpu" else len(images)
        parts: list[list[NDArray[np.float32]]] = [
            self._opened.run(outputs, images[at : at + at_once]) for at in range(0, len(images), at_once)
        ]
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _check_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the images that the model takes. Raises ModelError for other shapes and dtypes."""
        images = np.asarray(images)  # a list has no dtype to name in the error
        if images.dtype != np.uint8 or images.shape[1:] != self.spec.pixels.shape:
            raise ModelError(
                f"The images must be uint8 of shape (N, {', '.join(map(str, self.spec.pixels.shape))}), not "
                f"{images.dtype} {images.shape}. Read files with wetread's read_pixels."
            )
        return images

    @property
    def has_activation(self) -> bool:
        """Whether the model was exported with `activation`, its second output."""
        return any(output.name == ACTIVATION for output in self.session.get_outputs())

    def activate(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the class activation maps of the last feature maps, float32 (N, K, h, w).

        They are logits, at the model's temperature; the softmax takes their mean over all positions. `images`
        as in `classify`. Raises ModelError if the model has no such output, and for another shape or dtype.
        """
        if not self.has_activation:
            raise ModelError(
                f"{self.name} has no output '{ACTIVATION}', which --method cam needs. Export it with "
                "--with-activation, or use --method occlusion."
            )
        return self._opened.run([ACTIVATION], self._check_images(images))[0]


def _reopen(data: bytes, name: str) -> ModelSession:
    """Open, on the CPU, what another process opened already."""
    session = ModelSession.__new__(ModelSession)
    session._identify(data, name)
    session._start(data, "cpu")
    return session


def _check_interface(session: object, spec: ModelSpec, name: str) -> None:
    """Check the graph's interface: input `image`, uint8 (N, H, W, C); output `probabilities`, (N, K)."""
    (image, *others), outputs = session.get_inputs(), session.get_outputs()  # type: ignore[attr-defined]
    received = (image.name, image.type, tuple(image.shape[1:]), len(others))
    if received != ("image", "tensor(uint8)", spec.pixels.shape, 0):
        raise ModelError(
            f"{name} must have one input 'image', uint8 (N, {spec.pixels.shape}), and has {received}."
        )
    first = (outputs[0].name, outputs[0].type, outputs[0].shape[-1])
    if first != ("probabilities", "tensor(float)", len(spec.labels)):
        raise ModelError(
            f"The first output of {name} must be 'probabilities', float32 (N, {len(spec.labels)}), and is "
            f"{first}."
        )
    if spec.scope is not None and spec.scope.unlike is not None:
        second = [(output.name, output.type, len(output.shape)) for output in outputs[1:2]]
        if second != [(UNLIKE, "tensor(float)", 1)]:
            raise ModelError(
                f"The second output of {name} must be '{UNLIKE}', float32 (N,), and is {second}."
            )
