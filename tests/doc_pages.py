"""Run the commands in the docs and compare what they print.

    python -m tests.doc_pages            # print what differs
    python -m tests.doc_pages --write    # write what the commands print into the pages

A block that is marked `console` holds commands, each after `$ `, and what they print. All blocks of one page
run in one folder, in order. A block marked `console long` needs a training run. Other blocks are not run,
but for the tutorial's, which `list_tutorial` returns: their figures are those of one processor.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```console( long)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What changes from run to run: times, rates, digests, and what this machine is.
_VOLATILE = re.compile(
    r"\b[0-9a-f]{12,64}\b|[\d.,]+ ?(?:s|ms|µs|seconds|images/s|GB|MB|GiB)\b|\b20\d\d-\d\d-\d\d[T ]?[\d:.+Z]*"
)
# What an archive files an object by.
_STUDY = {"StudyInstanceUID": "1.2.3.0", "SeriesInstanceUID": "1.2.3.0.1"}
_NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page whose commands run in one folder. `long`: some need a training run; `text`: what it says."""

    path: Path
    long: bool
    text: str

    @property
    def name(self) -> str:
        """The page's path in the project."""
        return self.path.relative_to(ROOT).as_posix()


def list_pages() -> list[Page]:
    """Return the pages that have commands to run."""
    pages = []
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = file.read_text(encoding="utf-8")
        if found := _BLOCK.findall(text):
            pages.append(Page(path=file, long=any(mark for mark, _ in found), text=text))
    return pages


def prepare_folder(page: Page, folder: Path) -> None:
    """Fill a folder with what commands use: `inbox/`, `DATA/<label>/`, `model.onnx`; some also `run/`."""
    from wetread.demo.inbox import fill_inbox
    from wetread.demo.phantoms import draw_dataset
    from wetread.runtime.model.packaged import choose_model

    folder.mkdir(parents=True, exist_ok=True)
    fill_inbox(folder / "inbox", count=4, seed=0)
    draw_dataset(folder / "DATA", count=40, seed=0)
    shutil.copyfile(choose_model(None), folder / "model.onnx")
    if "scan.dcm" in page.text:
        from tests.runtime.images.dicom.drawing import draw_xray, write_dicom

        (folder / "scan.dcm").write_bytes(write_dicom(draw_xray(12, shape=(520, 470)), bits=12, extra=_STUDY))
    if page.long:
        run_commands(
            "wetread train DATA --output run --epochs 2 --group-regex '(phantom[0-9]+)-' --quiet",
            folder,
        )


@contextmanager
def serve_bucket(page: Page, folder: Path) -> Iterator[Mapping[str, str]]:
    """Hold the folder's `inbox/` and model in the bucket gs://clinic while a page with that name runs.

    Yields the environment that leads there, instead of to Google.
    """
    if "gs://clinic" not in page.text:
        yield {}
        return
    from tests.runtime.gcs_server import serve

    with serve() as server:
        server.buckets.fill("clinic", str(folder / "inbox"), prefix="inbox/")
        server.buckets.put("clinic", "model.onnx", (folder / "model.onnx").read_bytes())
        yield {"STORAGE_EMULATOR_HOST": server.url}


def run_commands(command: str, folder: Path, *, environment: Mapping[str, str] | None = None) -> str:
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
            **(environment or {}),
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
    """Return the page with what its commands print now, in a folder that is prepared for it."""
    with serve_bucket(page, folder) as environment:

        def renew(block: re.Match[str]) -> str:
            printed = ""
            for command in list_commands(block[2]):
                printed += f"$ {command}\n{run_commands(command, folder, environment=environment)}"
            return f"```console{block[1] or ''}\n{printed}```"

        return _BLOCK.sub(renew, page.text)


def list_tutorial() -> dict[str, list[str]]:
    """Return the tutorial's commands in order, each with the lines that the page shows for it, if any."""
    text = (
        (ROOT / "docs" / "tutorial.md")
        .read_text(encoding="utf-8")
        .partition("## Now with your own images")[0]
    )
    commands: dict[str, list[str]] = {}
    for block in re.findall(r"^```(?:text|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        first, *shown = block.splitlines()
        command = first.removeprefix("$ ").partition(" | ")[0]
        if not command.startswith("pip "):
            commands.setdefault(command, []).extend(shown)
    return commands


def list_words(lines: list[str]) -> set[str]:
    """Return the words with which lines begin: what stays when figures are of another processor."""
    return {found[1] for line in lines if (found := re.match(r"[\s$]*([A-Za-z][\w./-]*)", line))}


def compare_pages(page: str, now: str) -> list[str]:
    """Return the lines that differ, but for times, digests, and the last places of decimals."""
    left, right = page.splitlines(), now.splitlines()
    if len(left) != len(right):
        return list(unified_diff(left, right, "the page", "what its commands print", lineterm="", n=0))
    return [f"{a!r} is now {b!r}" for a, b in zip(left, right, strict=True) if not _alike(a, b)]


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
            prepare_folder(page, Path(place))
            now = run_page(page, Path(place))
        for line in compare_pages(page.text, now):
            sys.stdout.write(f"{page.name}: {line}\n")
        if "--write" in sys.argv:
            page.path.write_text(now, encoding="utf-8")


if __name__ == "__main__":
    main()
