"""The sections of the scoring benchmark: what is compared, and which claim each one checks.

Standard library only, for the reason that processes.py gives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import tables
from processes import Contender, interleave, median_ratio

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every section works with. `peer_python` runs the peers whose packages are not
    wetread's, and `make` makes something in a process of its own."""

    model: Path
    run: Path | None
    keras: Path | None
    small: Path
    full: Path | None
    scratch: Path
    peer_python: str
    repeats: int
    quick: bool
    make: Callable[..., None]


def score_command(setup: Setup, source: Path, *, output: Path | None) -> list[str]:
    """`wetread score`, as a user types it."""
    command = [sys.executable, "-m", "wetread", "score", str(source), "--model", str(setup.model), "--quiet"]
    return command if output is None else [*command, "--output", str(output), "--overwrite"]


def wetread(setup: Setup, source: Path, *, name: str = "`wetread score`") -> Contender:
    output = setup.scratch / "wetread.csv"
    return Contender(name, score_command(setup, source, output=output), answers=output, root=source)


def peer(setup: Setup, script: str, name: str, *, source: Path, options: Sequence[str] = ()) -> Contender:
    """One script of peers/, with the Python and the kind of model that it needs."""
    python = setup.peer_python if script in ("torch_loader", "openvino_queue") else sys.executable
    model = setup.keras if script == "keras_predict" else setup.model
    answers = setup.scratch / f"{script}{''.join(options)}.csv"
    command = [python, str(PEERS / f"{script}.py"), "--model", str(model), "--folder", str(source)]
    contender = Contender(name, [*command, "--output", str(answers), *options], answers=answers, root=source)
    if model is None:
        contender.not_run = "no Keras model was given (--run)"
    return contender


@dataclass(frozen=True, kw_only=True)
class Field:
    """Who runs on one set of files: wetread, its peers, others that answer another question, the bounds."""

    ours: Contender
    peers: list[Contender]
    others: list[Contender]
    bounds: list[Contender]

    def everyone(self) -> list[Contender]:
        return [self.ours, *self.peers, *self.others, *self.bounds]


def gather(setup: Setup, source: Path) -> Field:
    """wetread, its peers, and the bounds, on one set of files."""
    peers = [
        peer(setup, "imread_loop", "imread + session.run, 32 at a time", source=source),
        peer(
            setup,
            "imread_loop",
            "imread + session.run, one at a time",
            source=source,
            options=["--batch-size", "1"],
        ),
        peer(setup, "keras_predict", "Keras image_dataset_from_directory + predict", source=source),
        peer(setup, "torch_loader", "PyTorch DataLoader (Pillow) + onnxruntime", source=source),
        peer(setup, "openvino_queue", "OpenVINO async queue + OpenCV threads", source=source),
    ]
    others = [
        peer(
            setup,
            "openvino_queue",
            "the same in the precision that OpenVINO likes here",
            source=source,
            options=["--precision", ""],
        )
    ]
    bounds = [
        peer(setup, "decode_bound", "bound: decode only, all cores", source=source),
        peer(setup, "infer_bound", "bound: inference only, all cores", source=source),
        peer(setup, "both_bound", "bound: both, a process for each core", source=source),
    ]
    return Field(ours=wetread(setup, source), peers=peers, others=others, bounds=bounds)


def compare_speed_224(setup: Setup) -> None:
    """5,216 X-rays of 224 x 224 pixels."""
    source = link_tree(setup, setup.small, 200, folders=2) if setup.quick else setup.small
    field = gather(setup, source)
    ours, bounds = field.ours, field.bounds
    interleave(field.everyone(), repeats=setup.repeats)
    tables.print_speed(ours, [*field.peers, *field.others], bounds)
    ran = [one for one in field.peers if one.runs]
    plain = next(one for one in ran if "one at a time" in one.name)
    for figure, how in ((tables.wall, "whole processes"), (tables.inner, "start-up left out")):
        best, name = min((median_ratio(one, ours, figure), one.name) for one in ran)
        loop = median_ratio(plain, ours, figure)
        tables.print_claim(f"times the plain loop (one at a time), {how}", loop, at_least=2.0)
        tables.print_claim(f"times the best peer ({name}), {how}", best, at_least=1.3)
    decode, infer, both = bounds
    most = median_ratio(plain, both, tables.inner)
    print(f"- {most:.2f} times the plain loop is the most there can be: both, a process for each core")
    bound = tables.bound_share(ours, decode, infer)
    tables.print_claim("of the bound 1 / (1/decode + 1/inference), start-up left out", bound, at_least=0.9)


def compare_forms(setup: Setup) -> None:
    """The 224-pixel X-rays with an int8 file and with the packaged model: everyone reads the same file.

    The packaged model's threshold is not 0.5, and the peers take the largest probability: labels differ.
    """
    source = link_tree(setup, setup.small, 200, folders=2) if setup.quick else setup.small
    forms = {"packaged": ()} if setup.run is None else {"int8": (setup.run,), "packaged": ()}
    for form, made_from in forms.items():
        scratch = setup.scratch / form
        scratch.mkdir()
        setup.make(form, *made_from, scratch / "model.onnx")
        one = replace(setup, model=scratch / "model.onnx", keras=None, scratch=scratch)
        print(f"### {'model-3 in int8' if form == 'int8' else 'the packaged model (int8)'}\n")
        compare_form(one, source)
    if setup.run is None:
        print("Not run: model-3 in int8 needs a run (--run).")


def compare_form(setup: Setup, source: Path) -> None:
    """wetread, the plain loop, OpenVINO and the bound, all with one file."""
    loop = peer(setup, "imread_loop", "imread + session.run, 32 at a time", source=source)
    openvino = peer(setup, "openvino_queue", "OpenVINO async queue + OpenCV threads", source=source)
    both = peer(setup, "both_bound", "bound: both, a process for each core", source=source)
    ours = wetread(setup, source)
    interleave([ours, loop, openvino, both], repeats=setup.repeats)
    tables.print_speed(ours, [loop, openvino], [both])
    share = median_ratio(both, ours, tables.inner)
    tables.print_claim("of the bound, start-up left out", share, at_least=0.95)
    if openvino.runs:
        for figure, how in ((tables.wall, "whole processes"), (tables.inner, "start-up left out")):
            ahead = median_ratio(openvino, ours, figure)
            tables.print_claim(f"times OpenVINO, {how}", ahead, at_least=1.0)


def compare_speed_full(setup: Setup) -> None:
    """Full-size X-rays: the four originals again and again, and variants of them."""
    if setup.full is None:
        print("Not run: no chest-xray-full.")
        return
    source, count = setup.scratch / "full", 16 if setup.quick else 120
    setup.make("full", setup.full, source, count)
    field = gather(setup, source)
    ours, bounds = field.ours, field.bounds
    peers = [one for one in field.peers if "one at a time" not in one.name]
    interleave([ours, *peers, *bounds], repeats=max(2, setup.repeats // 2))
    tables.print_speed(ours, peers, bounds)
    loop = next(one for one in peers if "session.run" in one.name)
    tables.print_claim(
        "times the plain loop, whole processes", median_ratio(loop, ours, tables.wall), at_least=4.0
    )
    share = median_ratio(bounds[0], ours, tables.inner)
    tables.print_claim("of scaled decoding alone, start-up left out", share, at_least=0.95)


def compare_memory(setup: Setup) -> None:
    """Peak memory of 5,000 and of 100,000 files (hard links to the 224-pixel set)."""
    counts = (500, 5_000) if setup.quick else (5_000, 100_000)
    few, many = (
        wetread(setup, link_tree(setup, setup.small, count, folders=count // 500), name=f"{count:,} files")
        for count in counts
    )
    interleave([few, many], repeats=1 if setup.quick else 2)
    tables.print_memory([few, many])
    tables.print_claim(
        "peak memory, many files against few", median_ratio(many, few, tables.peak), at_most=1.1
    )
    tables.print_claim("MB at the peak", many.middle(tables.peak), at_most=250)


def measure_listing(setup: Setup) -> None:
    """Time to the first row on a tree of a million names in 1,000 folders."""
    names, folders = (20_000, 20) if setup.quick else (1_000_000, 1_000)
    tree = link_tree(setup, setup.small, names, folders=folders)
    for name, source in (
        (f"{names:,} names in {folders:,} folders", tree),
        ("one folder of it", tree / "folder-0000"),
    ):
        times = [time_first_row(score_command(setup, source, output=None)) for _ in range(setup.repeats)]
        print(f"- first row of {name}: {', '.join(f'{seconds:.2f}' for seconds in times)} s")
        if source == tree:
            tables.print_claim("seconds to the first row (the slowest)", max(times), at_most=1.0)
    shutil.rmtree(tree)


def compare_one_image(setup: Setup) -> None:
    """One image, whole process, beside a Python that imports the libraries and loads the model."""
    image = next(path for path in sorted(setup.small.rglob("*")) if path.is_file())
    bare = Contender(
        "imports numpy, cv2, onnxruntime, loads the model",
        [sys.executable, str(PEERS / "imports_only.py"), str(setup.model)],
    )
    ours = wetread(setup, image, name="`wetread score` of one image")
    interleave([ours, bare], repeats=3 * setup.repeats)
    tables.print_start([ours, bare])
    tables.print_claim("times the bare start, wall", median_ratio(ours, bare, tables.wall), at_most=1.5)
    tables.print_claim(
        "times the bare start, processor time", median_ratio(ours, bare, tables.cpu), at_most=1.5
    )


def compare_two_sizes(setup: Setup) -> None:
    """The X-rays that exist at full size and at 224 pixels: the same answer, nearly."""
    if setup.full is None:
        print("Not run: no chest-xray-full.")
        return
    pairs = []
    for large in sorted(setup.full.glob("*.jpeg")):
        small = next(setup.small.rglob(large.name))
        outputs = [setup.scratch / f"size-{i}.csv" for i in range(2)]
        for source, output in zip((large, small), outputs, strict=True):
            subprocess.run(score_command(setup, source, output=output), check=True)
        pairs.append((large.name, *(tables.read_probability(output) for output in outputs)))
    tables.print_sizes(pairs)


def link_tree(setup: Setup, source: Path, names: int, *, folders: int) -> Path:
    """Hard links to the files of `source`, again and again: `names` of them, evenly over `folders`."""
    tree = setup.scratch / f"links-{names}"
    originals = sorted(path for path in source.rglob("*") if path.is_file())
    originals = localize(setup, originals)
    each = names // folders
    for folder in range(folders):
        home = tree / f"folder-{folder:04d}"
        home.mkdir(parents=True)
        for index in range(folder * each, (folder + 1) * each):
            original = originals[index % len(originals)]
            os.link(original, home / f"{index:07d}{original.suffix}")
    return tree


def localize(setup: Setup, originals: list[Path]) -> list[Path]:
    """Copies on the scratch file system, made once: hard links do not cross file systems."""
    home = setup.scratch / "originals"
    if not home.is_dir():
        home.mkdir()
        for index, original in enumerate(originals):
            shutil.copyfile(original, home / f"{index:06d}{original.suffix}")
    return sorted(home.iterdir())


def time_first_row(command: list[str]) -> float:
    """Seconds from starting a process to the first row (after the header) on its standard output."""
    start = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        row = child.stdout.readline()
        seconds = perf_counter() - start
        child.kill()
    if not row.count(b","):
        raise SystemExit(f"There must be a row, not {row!r}, from {' '.join(command)}.")
    return seconds
