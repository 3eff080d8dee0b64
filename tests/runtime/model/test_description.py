"""What a model file says of itself, for people."""

from __future__ import annotations

import dataclasses

from wetread.runtime.model.description import describe_spec, inspect_model
from wetread.runtime.model.packaged import choose_model


def test_a_spec_is_laid_out_in_words_and_numbers_without_the_language_that_wrote_it():
    spec, _ = inspect_model(choose_model(None))
    training = {
        "images": {"train": 4689, "val": 527},
        "parameters": 795525,
        "mixed": True,
        "held_out": {
            "from": "out-of-fold predictions",
            "log_loss": [0.18379, 0.18146],
            "sensitivity": [0.91214, 0.90227, 0.92146],
            "uncertain": {"images": 235, "errors": 81},
            "patients": 2597,
        },
    }
    quantization = {"float_layers": ["dense/Gemm", "conv/Conv"], "reverted": []}
    rows = dict(describe_spec(dataclasses.replace(spec, training=training, quantization=quantization)))
    assert {name: said for name, said in rows.items() if name.startswith(("training", "quantization"))} == {
        "training images": "train 4,689, val 527",
        "training parameters": "795,525",
        "training mixed": "True",
        "training held out from": "out-of-fold predictions",
        "training held out log loss": "0.18379 at temperature 1, 0.18146 at its own",
        "training held out sensitivity": "0.91214, 95% 0.90227 to 0.92146",
        "training held out uncertain": "images 235, errors 81",
        "training held out patients": "2,597",
        "quantization float layers": "dense/Gemm, conv/Conv",
        "quantization reverted": "none",
    }
    leaves = dict(describe_spec(dataclasses.replace(spec, training={**training, "group": "leaf"})))
    assert leaves["training group"] == "leaf" and leaves["training held out leafs"] == "2,597"
    assert "training held out patients" not in leaves
