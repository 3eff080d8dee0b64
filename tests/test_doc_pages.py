"""The commands in the docs print what the docs show."""

from __future__ import annotations

import re
import statistics

import pytest

from tests import doc_pages
from tests.doc_pages import (
    compare_pages,
    list_pages,
    list_tutorial,
    list_words,
    prepare_folder,
    run_commands,
    run_page,
)

PAGES = list_pages()
BLOCKS = re.MULTILINE | re.DOTALL
# Enough to see that pages are true; `make test-all` runs the others.
QUICK = {"README.md", "docs/reference/rows.md", "docs/reference/command-line.md", "docs/guides/python.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[] if page.name in QUICK else [pytest.mark.long])
        for page in PAGES
    ],
)
def test_commands_print_what_the_page_shows(page, tmp_path):
    prepare_folder(page, tmp_path)
    assert compare_pages(page.text, run_page(page, tmp_path)) == []


def test_a_page_that_is_wrong_is_found():
    assert compare_pages("ok 0.98\n3 files", "ok 0.985\n3 files") == []
    assert compare_pages("ok 0.98\n3 files", "ok 0.88\n3 files") != []
    assert compare_pages("ok 0.98\n3 files", "ok 0.98\n4 files") != []
    assert compare_pages("ok 0.98", "ok 0.98\nnote: more") != []


@pytest.mark.long
def test_the_tutorial_can_be_followed_in_a_new_folder(tmp_path):
    for command, shown in list_tutorial().items():
        *printed, code = run_commands(f"{command}; echo $?", tmp_path).splitlines()
        assert code in ("0", "3"), (command, printed)
        assert list_words(shown) - list_words(printed) == set(), command
    assert (tmp_path / "where.png").stat().st_size > 10_000


def test_paragraphs_are_short_and_examples_many():
    words, examples = [], 0
    for file in sorted((doc_pages.ROOT / "docs").rglob("*.md")):
        text = file.read_text(encoding="utf-8")
        examples += sum(map(_shows_output, re.findall(r"^```\w[^\n]*\n(.*?)^```$", text, BLOCKS)))
        text = re.sub(r"^```.*?^```$", "", text, flags=BLOCKS)
        paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        prose = [part for part in paragraphs if not re.match(r"\s*(#|\||<|    |>|!\[)", part)]
        words += [len(part.split()) for part in prose]
    assert statistics.median(words) <= 35
    assert examples >= 120


@pytest.mark.parametrize("page", sorted((doc_pages.ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_each_page_begins_with_a_command_and_what_it_prints(page):
    title, _, rest = page.read_text(encoding="utf-8").partition("\n\n")
    assert title.startswith("# ")
    first = re.match(r"```(?:console|console long|text)\n(.*?)^```$", rest, BLOCKS)
    assert first and _shows_output(first[1]), rest[:200]


def _shows_output(block: str) -> bool:
    """Whether a block has a command and at least one line that it printed."""
    lines = block.splitlines()
    return any(line.startswith("$ ") for line in lines) and not all(line.startswith("$ ") for line in lines)
