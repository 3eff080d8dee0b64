"""Measure `wetread score` beside its peers and its bounds: one command, one run, whole processes.

    python benchmarks/scoring.py [--data FOLDER] [--run RUN] [--peer-python PATH] [--only SECTION] [--quick]

Every section prints a Markdown table and the claims that it checks. Only ratios within one run mean
anything: the contenders take turns, and each ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import sections
from sections import Setup

HERE = Path(__file__).resolve().parent
SECTIONS = {
    "speed-224": sections.compare_speed_224,
    "forms": sections.compare_forms,
    "speed-full": sections.compare_speed_full,
    "memory": sections.compare_memory,
    "listing": sections.measure_listing,
    "one-image": sections.compare_one_image,
    "two-sizes": sections.compare_two_sizes,
}


def main() -> None:
    arguments = parse_arguments()
    print(f"# Scoring benchmark: {' '.join(sys.argv[1:]) or 'all'}\n\n{describe_machine()}", flush=True)
    if arguments.quick:
        print(
            "\nSmall sets (--quick): start-up dominates, so what is met or missed means nothing.", flush=True
        )
    with tempfile.TemporaryDirectory(prefix="wetread-bench-", dir=arguments.scratch) as scratch:
        setup = prepare(arguments, Path(scratch))
        for name in arguments.only or SECTIONS:
            print(f"\n## {name}\n", flush=True)
            SECTIONS[name](setup)
    print(f"\nLoad average at the end: {os.getloadavg()[0]:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("WETREAD_DATA", HERE.parents[1] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="holds chest-xray-224 and chest-xray-full")
    parser.add_argument(
        "--run", type=Path, help="a training run of model-3 (default: one is trained briefly)"
    )
    parser.add_argument("--model", type=Path, help="its float32 ONNX file (default: it is exported)")
    parser.add_argument("--peer-python", type=Path, help="a Python with requirements-peers.txt")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scratch", type=Path, help="where to put hard links: the data's file system")
    parser.add_argument("--quick", action="store_true", help="small sets, two rounds: to see that it works")
    return parser.parse_args()


def describe_machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return (
        f"{model}, {len(os.sched_getaffinity(0))} processors, Python {platform.python_version()}, "
        f"load average at the start {os.getloadavg()[0]:.1f}."
    )


def prepare(arguments: argparse.Namespace, scratch: Path) -> Setup:
    """Make in other processes what the sections need."""
    small, full = arguments.data / "chest-xray-224", arguments.data / "chest-xray-full"
    if not small.is_dir():
        small = scratch / "phantoms"
        make("phantoms", small, 300 if arguments.quick else 5000)
        print(f"No {arguments.data / 'chest-xray-224'}: drawn phantoms stand in, which vary in size.")
    run, model = arguments.run, arguments.model
    if model is None:
        if run is None:
            run = scratch / "run"
            make("run", small, run)
        model = scratch / "model-3.onnx"
        make("model", run, model)
    return Setup(
        model=model,
        run=run,
        keras=run / "model.keras" if run else None,
        small=small,
        full=full if full.is_dir() else None,
        scratch=scratch,
        peer_python=str(arguments.peer_python or sys.executable),
        repeats=2 if arguments.quick else arguments.repeats,
        quick=arguments.quick,
        make=make,
    )


def make(what: str, *arguments: object) -> None:
    """Make something in a process of its own."""
    print(f"making the {what}", file=sys.stderr, flush=True)
    command = [sys.executable, str(HERE / "prepare.py"), what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
