"""How quick the page of `wetread review` is with 100,000 rows of 2,500 x 3,800 JPEGs, in chromium.

    python benchmarks/review.py [--rows 100000] [--xray FILE.jpeg] [--starts 5] [--other CHECKOUT]

Prints the seconds from the command to the first picture (medians of the starts), those from a key to the next
one, those of filters and of scrolling, and the server's memory and processor time. Only the first pictures of
the order exist; the other names lead nowhere. The command has its bytecode, as an installation by pip has,
and the browser runs already. Another checkout starts in turns with this one, and the ratio is printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.review.chromium import Page, open_chromium
from tests.review.conftest import write_scores

SHOWN = "document.querySelector('#viewer').dataset.number"
FILES = 40
HERE = Path(__file__).parents[1]


def draw_jpeg(xray: str | None) -> bytes:
    """A gray JPEG of 2,500 x 3,800: a real X-ray brought to that size, or smooth noise."""
    if xray is None:
        noise = np.random.default_rng(0).integers(0, 256, (60, 40), dtype=np.uint8)
        picture = cv2.resize(noise, (2500, 3800), interpolation=cv2.INTER_CUBIC)
    else:
        picture = cv2.resize(cv2.imread(xray, cv2.IMREAD_GRAYSCALE), (2500, 3800))
    return cv2.imencode(".jpeg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def prepare(folder: Path, rows: int, xray: str | None) -> None:
    """Write scores.csv, and the pictures that are most doubtful."""
    names = [f"inbox/person{number // 2}_view_{number:06}.jpeg" for number in range(rows)]
    write_scores(folder / "scores.csv", names)
    (folder / "inbox").mkdir()
    doubt = np.abs(np.random.default_rng(0).random(rows).astype(np.float32) - np.float32(0.5))
    data = draw_jpeg(xray)
    for number in np.argsort(doubt, kind="stable")[:FILES].tolist():
        (folder / names[number]).write_bytes(data)


def read_memory(process: int) -> int:
    """The resident bytes of a process, at their most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def read_processor_time(process: int) -> float:
    """The seconds of processor time of a process, of all its threads."""
    values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def time_key(page: Page, key: str) -> float:
    """Seconds from a key to the next picture on the canvas."""
    before = page.run(SHOWN)
    code = f"""new Promise(done => {{ const place = document.querySelector('#viewer');
      const start = performance.now();
      new MutationObserver((_, o) => {{ o.disconnect(); requestAnimationFrame(() =>
        requestAnimationFrame(() => done((performance.now() - start) / 1000))); }})
        .observe(place, {{attributes: true, attributeFilter: ['data-number']}});
      document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})); }})"""
    seconds = page.run(code)
    assert page.run(SHOWN) != before
    return seconds


def time_filter(page: Page, name: str, value: str) -> float:
    """Seconds from a choice to the list that it makes."""
    return page.run(
        f"""new Promise(done => {{ const s = document.getElementById('{name}'), start = performance.now();
      const total = document.getElementById('total');
      new MutationObserver((_, o) => {{ o.disconnect(); done((performance.now() - start) / 1000); }})
        .observe(total, {{childList: true, characterData: true, subtree: true}});
      s.value = '{value}'; s.dispatchEvent(new Event('change', {{bubbles: true}})); }})"""
    )


def time_scroll(page: Page, share: float) -> float:
    """Seconds from a jump in the list until every row in view is there."""
    return page.run(
        f"""new Promise(done => {{ const l = document.getElementById('list'), start = performance.now();
      l.scrollTop = l.scrollHeight * {share};
      const look = () => {{ const items = [...document.querySelectorAll('.item')];
        if (items.length && items.every(i => i.dataset.number)) done((performance.now() - start) / 1000);
        else requestAnimationFrame(look); }};
      requestAnimationFrame(() => requestAnimationFrame(look)); }})"""
    )


@contextmanager
def start_command(folder: Path, checkout: Path = HERE) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a checkout's `wetread review` until the block ends; its process, and the address it printed."""
    command = [sys.executable, "-m", "wetread", "review", "scores.csv", "--no-browser", "--reader", "bench"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONPATH": str(checkout)}
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure_start(folder: Path, page: Page, checkout: Path) -> tuple[float, float, float]:
    """Seconds to the address and to the first picture, and the server's processor time until then."""
    page.open_blank()
    start = time.monotonic()
    with start_command(folder, checkout) as (process, address):
        printed = time.monotonic() - start
        page.call("Page.navigate", url=address)
        page.wait(f"{SHOWN} !== undefined", seconds=60)
        return printed, time.monotonic() - start, read_processor_time(process.pid)


def measure_starts(folder: Path, page: Page, *, starts: int, checkouts: list[Path]) -> None:
    """Start the command of each checkout in turns, first without measuring, and print the medians."""
    rounds = [[measure_start(folder, page, checkout) for checkout in checkouts] for _ in range(starts + 1)][
        1:
    ]
    for checkout, found in zip(checkouts, zip(*rounds, strict=True), strict=True):
        printed, shown, busy = zip(*found, strict=True)
        print(f"{'this checkout' if checkout == HERE else 'the other'}, {starts} starts")
        print(f"address printed      {median(printed):.2f} s (median), {max(printed):.2f} s (most)")
        print(f"first picture        {median(shown):.2f} s (median), {max(shown):.2f} s (most)")
        print(f"processor time       {median(busy):.2f} s of the server until then (median)")
    if len(checkouts) == 2:
        ratios = [here[1] / other[1] for here, other in rounds]
        print(f"ratio of the first   {median(ratios):.2f} (median), {min(ratios):.2f} to {max(ratios):.2f}")


def measure(folder: Path, page: Page, *, pause: float) -> None:
    """Start the command, open its page, and print what is measured."""
    with start_command(folder) as (process, address):
        page.call("Page.navigate", url=address)
        page.wait(f"{SHOWN} !== undefined", seconds=60)
        steps = []
        for _ in range(FILES - 10):
            time.sleep(pause)
            steps.append(time_key(page, "j"))
        print(f"next picture         {median(steps):.3f} s (median), {max(steps):.3f} s (most)")
        choices = [("label", "NORMAL"), ("sort", "path"), ("label", ""), ("sort", "study"), ("sort", "doubt")]
        filters = [time_filter(page, name, value) for name, value in choices * 2]
        print(f"filter               {median(filters):.3f} s (median), {max(filters):.3f} s (most)")
        scrolls = [time_scroll(page, share) for share in (0.9, 0.1, 0.5, 0.7, 0.3, 1.0)]
        print(f"scroll               {median(scrolls):.3f} s (median), {max(scrolls):.3f} s (most)")
        print(f"memory of the server {read_memory(process.pid) / 1e6:.0f} MB (most)")


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--xray")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds that a picture is looked at")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout of wetread, to start in turns")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, open_chromium(Path(place)) as page:
        folder = Path(place)
        prepare(folder, given.rows, given.xray)
        checkouts = [HERE] if given.other is None else [HERE, given.other.resolve()]
        measure_starts(folder, page, starts=given.starts, checkouts=checkouts)
        measure(folder, page, pause=given.pause)


if __name__ == "__main__":
    main()
