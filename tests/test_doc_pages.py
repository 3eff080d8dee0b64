"""The commands in the docs print what the docs show."""

from __future__ import annotations

import re
import statistics

import pytest

from tests import doc_pages
from tests.doc_pages import compare_pages, list_pages, prepare_folder, run_page

PAGES = list_pages()
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


def test_paragraphs_are_short_and_examples_many():
    words, blocks = [], 0
    for file in sorted((doc_pages.ROOT / "docs").rglob("*.md")):
        text = file.read_text(encoding="utf-8")
        blocks += len(re.findall(r"^```\w", text, re.MULTILINE))
        text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        paragraphs = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
        prose = [part for part in paragraphs if not re.match(r"\s*(#|\||<|    |>|!\[)", part)]
        words += [len(part.split()) for part in prose]
    assert statistics.median(words) <= 35
    assert blocks >= 120
