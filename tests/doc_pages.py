"""Run the commands in the docs and compare what they print.

    python -m tests.doc_pages            # print what differs
    python -m tests.doc_pages --write    # write what the commands print into the pages

A block that is marked `console` holds commands, each after `$ `, and what they print. All blocks of one page
run in one folder, in order. A block marked `console long` needs a training run. Other blocks are not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```console( long)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What changes from run to run: times, rates, digests, and what this machine is.
_VOLATILE = re.compile(
    r"\b[0-9a-f]{12,64}\b|[\d.,]+ ?(?:s|ms|µs|seconds|images/s|GB|MB|GiB)\b|\b20\d\d-\d\d-\d\d[T ]?[\d:.+Z]*"
)
_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page whose commands run in one folder. `long`: some need a training run."""

    path: Path
    long: bool

    @property
    def name(self) -> str:
        """The page's path in the project."""
        return self.path.relative_to(ROOT).as_posix()


def list_pages() -> list[Page]:
    """Return the pages that have commands to run."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {file: _BLOCK.findall(file.read_text(encoding="utf-8")) for file in files}
    return [Page(path=file, long=any(mark for mark, _ in found)) for file, found in texts.items() if found]


def prepare_folder(folder: Path, *, long: bool) -> None:
    """Fill a folder with what commands use: `inbox/`, `DATA/<label>/`, `model.onnx`; for long ones `run/`."""
    from wetread.demo.inbox import fill_inbox
    from wetread.demo.phantoms import draw_dataset
    from wetread.runtime.model.packaged import choose_model

    folder.mkdir(parents=True, exist_ok=True)
    fill_inbox(folder / "inbox", count=4, seed=0)
    draw_dataset(folder / "DATA", count=40, seed=0)
    shutil.copyfile(choose_model(None), folder / "model.onnx")
    if long:
        run_commands(
            "wetread train DATA --output run --epochs 2 --group-regex '(phantom[0-9]+)-' --quiet",
            folder,
        )


def run_commands(command: str, folder: Path) -> str:
    """Run one command line in the shell and return what it prints, both streams in order."""
    place = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    python = f'wetread() {{ "{sys.executable}" -m wetread "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", python + command],
        cwd=folder,
        env={
            **os.environ,
            **place,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "TERM": "dumb",
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    text = done.stdout.decode("utf-8", "replace").replace(str(folder), ".")
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def list_commands(block: str) -> list[str]:
    """Return the commands of a block; one whose quotes are open goes on in the next line."""
    commands: list[str] = []
    for line in block.splitlines():
        if commands and commands[-1].count('"') % 2:
            commands[-1] += f"\n{line}"
        elif line.startswith("$ "):
            commands.append(line[2:])
    return commands


def run_page(page: Page, folder: Path) -> str:
    """Return the page with what its commands print now."""

    def renew(block: re.Match[str]) -> str:
        commands = list_commands(block[2])
        printed = "".join(f"$ {command}\n{run_commands(command, folder)}" for command in commands)
        return f"```console{block[1] or ''}\n{printed}```"

    return _BLOCK.sub(renew, page.path.read_text(encoding="utf-8"))


def compare_pages(page: str, now: str) -> list[str]:
    """Return the lines that differ, but for times, digests, and the last places of decimals."""
    left, right = page.splitlines(), now.splitlines()
    lines = [f"{a!r} is now {b!r}" for a, b in zip(left, right, strict=False) if not _alike(a, b)]
    return lines + ([f"{len(left)} lines are now {len(right)}"] if len(left) != len(right) else [])


def _alike(left: str, right: str) -> bool:
    left, right = _VOLATILE.sub("~", left), _VOLATILE.sub("~", right)
    if re.sub(r"\s+", " ", _NUMBER.sub("#", left)) != re.sub(r"\s+", " ", _NUMBER.sub("#", right)):
        return False
    pairs = zip(_NUMBER.findall(left), _NUMBER.findall(right), strict=True)
    return all(abs(float(a) - float(b)) <= 0.01 for a, b in pairs)


def main() -> None:
    """Run every page, or those that are named."""
    import tempfile

    named = [name for name in sys.argv[1:] if not name.startswith("-")]
    for page in list_pages():
        if named and page.name not in named:
            continue
        with tempfile.TemporaryDirectory() as place:
            prepare_folder(Path(place), long=page.long)
            now = run_page(page, Path(place))
        for line in compare_pages(page.path.read_text(encoding="utf-8"), now):
            sys.stdout.write(f"{page.name}: {line}\n")
        if "--write" in sys.argv:
            page.path.write_text(now, encoding="utf-8")


if __name__ == "__main__":
    main()
