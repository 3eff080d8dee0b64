"""Give an export its scope: the words, the rules, and the measure of what is unlike the training images."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx

from wetread.export.images import ExportImages
from wetread.export.scope_file import ScopeRequest
from wetread.export.unlike_nodes import attach_unlike
from wetread.export.unlike_output import fit_unlike
from wetread.runtime.images.pixels import Pixels
from wetread.runtime.model.spec import ModelSpec


def attach_scope(
    model: onnx.ModelProto,
    spec: ModelSpec,
    images: ExportImages | None,
    request: ScopeRequest | None,
    *,
    source: onnx.ModelProto,
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Return a graph and its spec with the scope that is asked for; as they are without one.

    `source`: the float32 graph that the model was made from. The measure is fitted on it, so that every
    precision of a network has the same one. Without images there are words and rules alone. Raises
    ExportError for too few images.
    """
    if request is None:
        return model, spec
    scope = request.scope
    if request.unlike is not None and images is not None:
        fit, held_out = choose_images(images)
        measure, unlike = fit_unlike(source, request.unlike, fit=fit, held_out=held_out)
        model, scope = attach_unlike(model, measure), dataclasses.replace(scope, unlike=unlike)
    return model, dataclasses.replace(spec, scope=scope)


def choose_images(images: ExportImages) -> tuple[Pixels, Pixels]:
    """The images to fit on, and those to set the threshold on: training and held-out ones, if they are known.

    Of a folder, which only calibrates and judges, half of what judges is fitted on as well.
    """
    calibration, validation = images.calibration.pixels, images.validation.pixels
    if images.training is not None and len(images.training):
        return images.training.pixels, validation
    return np.concatenate([calibration, validation[::2]]), validation[1::2]


def note_unmeasured(spec: ModelSpec) -> tuple[str, ...]:
    """Say so where a scope cannot tell a picture by its looks."""
    if spec.scope is None or spec.scope.unlike is not None:
        return ()
    return (
        "The scope has words and rules alone: nothing tells a picture that is unlike the training images. "
        "Give images with --calibration, and no 'unlike = false' in the scope's file.",
    )
