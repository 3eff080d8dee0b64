"""`wetread predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import DEFAULT_MEMORY, MaxMemory, ModelOptions, Quiet, expand_options

if TYPE_CHECKING:
    from wetread.runtime.model.spec import ModelSpec
    from wetread.runtime.scoring.rows import Prediction


@app.command(
    short_help="Print a readable line for each image.",
    epilog="Example: wetread predict xray.jpeg other.png --model model.onnx",
)
@expand_options
def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Image files on this disk, or globs in quotes.")
    ],
    *,
    chosen: ModelOptions,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many labels to print.")] = 3,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object a line: the columns of `score`, and `top`."),
    ] = False,
    max_memory: MaxMemory = DEFAULT_MEMORY,
    quiet: Quiet = False,
) -> None:
    """Print a line for each image: the best labels with their probabilities, or what is wrong with the file.

    Where the model has a scope, the line says whether the image is in it. Exit code 0 when every image has an
    answer, 3 when some have none. For folders, buckets and files of results use `wetread score`.
    """
    from wetread.errors import Status
    from wetread.runtime.scoring.readable import check_images, describe_prediction, predict_images

    check_images(images)
    classifier = chosen.load(quiet=quiet)
    failed = False
    for one in predict_images(classifier, images, max_memory=max_memory << 20):
        write = _write_json if as_json else describe_prediction
        print(write(one, classifier.spec, top=top), flush=True)
        failed = failed or one.status != Status.OK
    raise typer.Exit(3 if failed else 0)


def _write_json(prediction: Prediction, spec: ModelSpec, *, top: int) -> str:
    """Write a row of `score` in JSON Lines, and `top`: the labels of the readable line."""
    import json

    from wetread.runtime.scoring.readable import rank_labels
    from wetread.runtime.scoring.rows import encode_rows, list_optional

    optional = list_optional(spec, uncertain=spec.uncertain is not None, dicom_tags=())
    row = json.loads(encode_rows([prediction], spec.labels, kind="jsonl", optional=optional))
    ranked = rank_labels(prediction, spec, top=top)
    best = [{"label": label, "probability": probability} for label, probability in ranked]
    return json.dumps({**row, "top": best}, ensure_ascii=False)
