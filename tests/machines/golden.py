"""Compare this machine with the golden corpus: `python tests/machines/golden.py`, with the wheel alone.

Reads every file of the corpus by each recipe and scores it with three models, then compares with what the
repository keeps: pixels to the byte, statuses, labels and scope, probabilities within a tolerance. Exits
with 1 where anything differs. `--json FILE` writes all that was measured.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from wetread import Classifier, PixelRecipe
from wetread.errors import ImageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import KERNELS, find_family
from wetread.runtime.machine import read_processor

HERE = Path(__file__).parent / "golden"
CORPUS, PIXELS, SCORES = "corpus.tar.xz", "pixels.csv", "scores.csv"
RECIPES = {
    "stretch": PixelRecipe(),
    "fit": PixelRecipe(color="rgb", height=48, width=64, resize="fit"),
    "crop": PixelRecipe(height=64, width=48, resize="crop"),
    "enlarge": PixelRecipe(color="rgb", height=224, width=224),
    "equalize": PixelRecipe(height=33, width=31, equalize="histogram"),
    "unscaled": PixelRecipe(height=24, width=24, scaled_decoding=0),
    "as-stored": PixelRecipe(color="rgb", height=20, width=30, resize="fit", orientation="ignore"),
}
# As Keras' own loaders make pixels (`--pipeline keras:load_img`, `keras:dataset`, ...), by every kernel.
PILLOW = {"orientation": "exif-of-tiff", "gray": "rec601-of-rgb", "depth": "pillow", "alpha": "drop"}
TENSORFLOW = {"orientation": "ignore", "gray": "libpng", "depth": "high-byte", "alpha": "drop", "dct": "fast"}
# Odd kernels make gray pixels, even ones rgb and bgr: each family has both, and each way with proportions.
LOADERS = {
    kernel: PixelRecipe(
        color=("gray", "rgb", "gray", "bgr")[index % 4],
        height=40,
        width=52,
        resize=("stretch", "crop", "fit" if find_family(kernel) == "tensorflow" else "stretch")[index % 3],
        kernel=kernel,
        scaled_decoding=0,
        **(PILLOW if find_family(kernel) == "pillow" else TENSORFLOW),
    )
    for index, kernel in enumerate(KERNELS)
}
# What these files show is how pixels are resized; each is read by every loader, and by the recipes above.
RESIZED = (
    "scaled-large-420",
    "scaled-tall-gray",
    "scaled-tiny-424",
    "turned-tiff-6",
    "turned-jpeg-8",
    "depth-png-16",
    "color-png-rgba-16",
    "color-bmp-8",
    "color-webp-lossless-alpha",
    "color-jpeg-ycck",
)
# The packaged model is the third: it comes with the wheel.
MODELS = {"float32": "float32.onnx", "int8": "int8.onnx", "packaged": None}
TOLERANCE = {"float32": 1e-5, "int8": 1e-5, "packaged": 1e-5}
# An emulated processor takes a minute for what a real one does in a second: what is broken, or slow to
# decode, is read by fewer recipes, and the packaged model, the largest, scores every sixth file, and what is
# drawn for it.
FEWER = {"cut-": 1, "padded-": 1, "short-": 1, "changed-": 2, "unsupported-": 1, "dicom-": 3}
EVERY = {"float32": 1, "int8": 1, "packaged": 6}
ALWAYS = ("chest-", "blank-", "lamp-")
# Decoded in floating point, by other people's code: docs/guides/dicom.md claims no equal bits for these.
LOSSY = ("dicom-jpeg-2000-8", "dicom-jpeg-2000-12", "dicom-jpeg-2000-16", "dicom-jpeg-extended-12")
PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "onnxruntime", "pydicom", "imagecodecs")
# A status, a label, the probabilities, and the scope: inside, outside, or '' where there is no score.
Scored = tuple[str, str, tuple[float, ...], str]


@dataclass(frozen=True)
class Measured:
    """What a machine made of the corpus.

    `pixels`: for each file and recipe a digest of the array, or the status. `scores`: for each model and file
    the status, the label, the probabilities and the scope.
    """

    machine: Mapping[str, str]
    pixels: Mapping[str, Mapping[str, str]]
    scores: Mapping[str, Mapping[str, Scored]]

    @property
    def digest(self) -> str:
        """One SHA-256 of the pixels of every file and recipe, but for the lossy ones."""
        exact = {name: dict(found) for name, found in sorted(self.pixels.items()) if not is_lossy(name)}
        return hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What differs: files by name, and the largest difference of a probability for each model."""

    pixels: tuple[str, ...]
    lossy: tuple[str, ...]
    rows: tuple[str, ...]
    largest: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether this machine gives the same answer."""
        near = all(self.largest[model] <= TOLERANCE[model] for model in MODELS)
        return near and not self.pixels and not self.rows


def is_lossy(name: str) -> bool:
    """Whether a file, whole or broken, is one whose decoder may round otherwise elsewhere."""
    return name.endswith(LOSSY)


def read_corpus(folder: Path = HERE) -> dict[str, bytes]:
    """Every file of the corpus by name."""
    with tarfile.open(folder / CORPUS) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


def measure(folder: Path = HERE) -> Measured:
    """Read and score the corpus here."""
    files = read_corpus(folder)
    pixels = {
        name: {kind: read_case(data, recipe) for kind, recipe in choose_recipes(name).items()}
        for name, data in files.items()
    }
    with TemporaryDirectory() as place:
        for name, data in files.items():
            (Path(place) / name).write_bytes(data)
        scores = {model: dict(score(place, folder, model)) for model in MODELS}
    return Measured(describe_machine(), pixels, scores)


def choose_recipes(name: str) -> dict[str, PixelRecipe]:
    """The recipes that a file is read by."""
    most = next((count for start, count in FEWER.items() if name.startswith(start)), None)
    return dict(list(RECIPES.items())[:most]) | (LOADERS if name in RESIZED else {})


def read_case(data: bytes, recipe: PixelRecipe) -> str:
    """The first 16 characters of the SHA-256 of a file's pixels, or its status."""
    try:
        return hashlib.sha256(read_pixels(data, recipe).tobytes()).hexdigest()[:16]
    except ImageError as error:
        return str(error.status)


def score(place: str, folder: Path, model: str) -> Iterator[tuple[str, Scored]]:
    """The row of each file that a model scores."""
    file = MODELS[model]
    classifier = Classifier(None if file is None else folder / file, device="cpu")
    # By name: Windows sorts paths without regard to case.
    paths = sorted(Path(place).iterdir(), key=lambda path: path.name)
    chosen = [p for k, p in enumerate(paths) if k % EVERY[model] == 0 or p.name.startswith(ALWAYS)]
    for found in classifier.score(chosen):
        answer = str(found.status), found.label or "", found.probabilities, found.scope or ""
        yield Path(found.path).name, answer


def describe_machine() -> dict[str, str]:
    """What this machine is, and the versions that decide on its answers."""
    processor = read_processor()
    features = ", ".join(processor.features)
    kind = f"{processor.architecture} with {features}"
    found = {"system": platform.platform(), "processor": kind, "processors": str(processor.count)}
    found |= {"python": platform.python_version(), "wetread": metadata.version("wetread")}
    return found | {name: metadata.version(name) for name in PACKAGES}


def compare(found: Measured, expected: Measured) -> Verdict:
    """Tell what differs between two machines, or between this one and the repository."""
    changed = [name for name in expected.pixels if found.pixels.get(name) != expected.pixels[name]]
    changed += [name for name in found.pixels if name not in expected.pixels]
    rows, largest = [], dict.fromkeys(MODELS, 0.0)
    for model, wanted in expected.scores.items():
        for name, (status, label, probabilities, scope) in wanted.items():
            row = found.scores[model].get(name, ("missing", "", (), ""))
            if (*row[:2], row[3]) != (status, label, scope) or len(row[2]) != len(probabilities):
                rows.append(f"{model}: {name} is {row[0]} {row[1]} {row[3]}".rstrip())
            elif not is_lossy(name):
                gaps = [abs(a - b) for a, b in zip(row[2], probabilities, strict=True)]
                largest[model] = max([largest[model], *gaps])
    exact, lossy = ([n for n in changed if is_lossy(n) == kind] for kind in (False, True))
    return Verdict(tuple(exact), tuple(lossy), tuple(rows), largest)


def write_expected(found: Measured, folder: Path = HERE) -> None:
    """Keep what this machine measured as what every machine must give."""
    kinds = [*RECIPES, *LOADERS]
    table = [[name, *(row.get(kind, "") for kind in kinds)] for name, row in found.pixels.items()]
    write_table(folder / PIXELS, ["file", *kinds], table)
    rows = [
        [model, name, status, label, scope, *probabilities]
        for model, files in found.scores.items()
        for name, (status, label, probabilities, scope) in files.items()
    ]
    head = ["model", "file", "status", "label", "scope", "p_first", "p_second"]
    write_table(folder / SCORES, head, rows)


def write_table(path: Path, head: list[str], rows: list[list[object]]) -> None:
    """Write a CSV with line feeds, whatever the system."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    path.write_bytes(text.getvalue().encode())


def read_expected(folder: Path = HERE) -> Measured:
    """What the repository keeps."""
    pixels = {
        row.pop("file"): {kind: value for kind, value in row.items() if value}
        for row in read_table(folder / PIXELS)
    }
    scores: dict[str, dict[str, Scored]] = {model: {} for model in MODELS}
    for row in read_table(folder / SCORES):
        probabilities = tuple(float(row[name]) for name in ("p_first", "p_second") if row[name])
        answer = row["status"], row["label"], probabilities, row["scope"]
        scores[row["model"]][row["file"]] = answer
    return Measured({}, pixels, scores)


def read_measured(found: Mapping[str, Any]) -> Measured:
    """What another machine wrote with `--json`."""
    scores = {
        model: {
            name: (status, label, tuple(values), scope)
            for name, (status, label, values, scope) in files.items()
        }
        for model, files in found["scores"].items()
    }
    return Measured(found["machine"], found["pixels"], scores)


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: value or "" for name, value in row.items()}


def report(found: Measured, verdict: Verdict) -> str:
    """Say in lines what was compared."""
    largest = ", ".join(f"{model} {gap:.1e}" for model, gap in verdict.largest.items())
    lines = [f"{name:24}{value}" for name, value in found.machine.items()]
    recipes = len(RECIPES) + len(LOADERS)
    lines += [
        f"{'files':24}{len(found.pixels)}, by up to {recipes} recipes and {len(MODELS)} models",
        f"{'digest of the pixels':24}{found.digest}",
        f"{'pixels differ':24}{', '.join(verdict.pixels) or 'none'}",
        f"{'lossy DICOM differs':24}{', '.join(verdict.lossy) or 'none'}",
        f"{'rows differ':24}{', '.join(verdict.rows) or 'none'}",
        f"{'largest difference':24}{largest}",
        "the same answer" if verdict.passed else "ANOTHER ANSWER",
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, compare with the repository, print; 0 where this machine gives the same answer."""
    found = measure()
    verdict = compare(found, read_expected())
    if arguments[:1] == ["--json"]:
        Path(arguments[1]).write_text(json.dumps(asdict(found)), encoding="utf-8")
    sys.stdout.write(report(found, verdict) + "\n")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
