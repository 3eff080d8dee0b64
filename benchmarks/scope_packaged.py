"""Give an exported file a scope without training it again: its probabilities stay as they are, to the bit.

    python benchmarks/scope_packaged.py DATA --model MODEL.onnx --scope FILE.toml --output MODEL.onnx

DATA is the training folder that benchmarks/make_model.py trained from. The measure is fitted on every second
patient of those that trained the network and its threshold set on the others, versions of both among them;
the patients that make_model.py holds out judge (benchmarks/scope.py), and are not read.

The network was trained on all of these patients, so its features are a little tighter here than of
patients that they never saw; benchmarks/scope.py shows what it costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import onnx
from make_model import SIZE, hold_out

from wetread.export.contract import finish
from wetread.export.scope_file import read_scope
from wetread.export.selftest import add_unlike_answers
from wetread.export.unlike_nodes import attach_unlike, detach_unlike
from wetread.export.unlike_output import fit_unlike
from wetread.runtime.files.atomic import write_file
from wetread.runtime.model.spec import NO_DIGEST, ModelSpec, read_spec
from wetread.runtime.scoring.classifier import Classifier
from wetread.train.config import TrainConfig
from wetread.train.dataset import Dataset, load_dataset
from wetread.train.defaults import XRAY
from wetread.train.splits import hash_name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scope", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    bytes_before = arguments.model.read_bytes()
    spec = read_spec(bytes_before, name=str(arguments.model))
    with tempfile.TemporaryDirectory() as work:
        data = load_dataset(
            TrainConfig(data=str(arguments.data), output=work, cache=work, **{**XRAY, "size": SIZE})
        )
        fit, held_out, judged = deal_images(data)
        made = give_scope(bytes_before, spec, arguments.scope, (fit, held_out))
        compare(bytes_before, made, np.concatenate([judged, held_out[:500]]))
    write_file(arguments.output, made)
    print(f"{arguments.output}: {len(made):,} bytes, {len(made) - len(bytes_before):,} more than before")


def deal_images(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of every second patient, of the others, and of those that judge."""
    judged = hold_out(data)
    even = np.array([hash_name(group, seed=7)[0] % 2 == 0 for group in data.groups])
    sides = (~judged & even, ~judged & ~even, judged)
    return tuple(np.asarray(data.pixels[np.flatnonzero(side)]) for side in sides)


def give_scope(model: bytes, spec: ModelSpec, file: Path, images: tuple[np.ndarray, np.ndarray]) -> bytes:
    """Return the file's bytes with the scope's output, words, rules, threshold and golden answers."""
    request, graph = read_scope(file), detach_unlike(onnx.load_from_string(model))
    if request.unlike is None or spec.golden is None:
        raise SystemExit("Expected a scope with [unlike], and a model with a self-test.")
    measure, unlike = fit_unlike(graph, request.unlike, fit=images[0], held_out=images[1])
    print(unlike)
    graph = attach_unlike(graph, measure)
    scope = dataclasses.replace(request.scope, unlike=unlike)
    spec = dataclasses.replace(spec, version=2, scope=scope, digest=NO_DIGEST)
    golden = add_unlike_answers(finish(graph, spec), spec)
    return finish(graph, dataclasses.replace(spec, golden=golden))


def compare(before: bytes, after: bytes, images: np.ndarray) -> None:
    """Make sure that the probabilities are the same to the bit, alone and in batches."""
    old, new = Classifier(before, device="cpu"), Classifier(after, device="cpu")
    for size in (1, 4, 32):
        for at in range(0, len(images) if size > 1 else 100, size):
            some = images[at : at + size]
            if not np.array_equal(old.classify(some), new.judge(some)[0]):
                raise SystemExit(f"The probabilities changed, at {at} in batches of {size}.")
    print(f"the probabilities of {len(images)} images are the same to the bit")


if __name__ == "__main__":
    main()
