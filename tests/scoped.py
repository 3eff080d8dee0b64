"""A tiny model with a scope: it knows bright discs on a dark ground."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import onnx

from tests.models import build_model, toy_spec
from wetread.export.contract import finish
from wetread.export.scope_file import UnlikeRequest
from wetread.export.selftest import Inputs, add_unlike_answers, make_golden
from wetread.export.unlike_nodes import attach_unlike
from wetread.export.unlike_output import fit_unlike
from wetread.runtime.model.scope import AttributeRule, Scope
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.classifier import Classifier


def draw_disc(seed: int, *, size: int = 64) -> np.ndarray:
    """A disc in the upper left, darker below: it has a way up, a side, and a bright part. uint8 (H, W, 1)."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    place = chance.uniform(0.25, 0.35, 2)
    disc = (np.hypot(y - place[0], x - place[1]) < chance.uniform(0.14, 0.2)) * chance.uniform(90, 140)
    noise = cv2.resize(chance.normal(0, 8, (8, 8)), (size, size))
    return np.clip(30 + 40 * y + disc + noise, 0, 255).astype(np.uint8)[..., None]


@cache
def build_scoped(
    changes: tuple[str, ...] = ("turned", "negative", "mirrored"), attributes: tuple[AttributeRule, ...] = ()
) -> bytes:
    """A model file of format version 2."""
    graph = onnx.load_from_string(build_model(toy_spec()))
    fit, held_out = (np.stack([draw_disc(s) for s in seeds]) for seeds in (range(150), range(200, 350)))
    measure, unlike = fit_unlike(graph, UnlikeRequest(find=changes), fit=fit, held_out=held_out)
    graph = attach_unlike(graph, measure)
    scope = Scope(purpose="Bright discs", attributes=attributes, unlike=unlike)
    spec = replace(toy_spec(), scope=scope)
    bare = finish(graph, spec)
    inputs = Inputs((1, 2), tuple(min(16 * step, 255) for step in range(17)), 1.0)

    def answer(images: np.ndarray) -> np.ndarray:
        return Classifier(bare, device="cpu").classify(images)

    spec = with_golden(spec, bare, inputs, answer)
    return finish(graph, spec)


def with_golden(spec: ModelSpec, bare: bytes, inputs: Inputs, answer) -> ModelSpec:
    golden = make_golden(bare, inputs, spec.pixels, precision="float32", keras=answer)
    spec = replace(spec, golden=golden)
    return replace(spec, golden=add_unlike_answers(bare, spec))


def encode(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(picture))[1].tobytes()
