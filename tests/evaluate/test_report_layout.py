"""The report in Debian's chromium: nothing is cut or covered on a telephone, on screens, and on paper."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluate.drawn_scores import draw_evaluation, draw_scores, name_labels
from tests.review.chromium import Page, open_chromium
from tests.review.test_browser import AXE
from wetread.evaluate.report import render_report

LONG = pytest.mark.long
WIDTHS = (480, 1280, 1920)
PORTRAIT, LANDSCAPE = 688, 1047  # CSS pixels of A4 within the margins
# Lists what is wrong: text outside the page, its cell or its chart, text on text, short words on two lines,
# and boxes that cut text.
FAULTS = """(() => {
  const width = document.documentElement.clientWidth, faults = [], texts = [];
  const hidden = e => e.closest('thead') && getComputedStyle(e.closest('thead')).position === 'absolute';
  const scrolled = document.documentElement.scrollWidth;
  if (scrolled > width) faults.push(["page", scrolled]);
  for (const e of document.body.querySelectorAll('*')) {
    const b = e.getBoundingClientRect();
    if (b.width && !hidden(e) && (b.left < -0.5 || b.right > width + 0.5))
      faults.push(['outside', e.tagName, e.className.baseVal ?? e.className, b.left, b.right]);
    if (e instanceof HTMLElement && !hidden(e) && getComputedStyle(e).overflowX !== 'visible'
        && e.scrollWidth > e.clientWidth + 1) faults.push(['cut', e.tagName, e.className]);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest('style, title') || hidden(e)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = new Set([...range.getClientRects()].map(r => r.top));
    if (/^[\\w.]{2,12}$/.test(node.data.trim()) && lines.size > 1) faults.push(['broken word', node.data]);
    const chart = e.closest('svg.chart'), cell = e.closest('.matrix td, .matrix tbody th');
    const box = (chart || cell)?.getBoundingClientRect();
    for (const r of chart ? [e.getBoundingClientRect()] : range.getClientRects()) {
      if (r.width < 0.5 || r.height < 0.5) continue;
      if (box && (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 3
          || r.bottom > box.bottom + 3)) faults.push(['beyond its box', node.data, r.left, r.right]);
      texts.push([r.left, r.top, r.right, r.bottom, node.data]);
    }
  }
  texts.sort((a, b) => a[1] - b[1]);
  for (let i = 0; i < texts.length; i++)
    for (let j = i + 1; j < texts.length && texts[j][1] < texts[i][3]; j++) {
      const [a, b] = [texts[i], texts[j]];
      const across = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
      // The boxes of lines are taller than their letters.
      const down = (Math.min(a[3], b[3]) - Math.max(a[1], b[1])) / Math.min(a[3] - a[1], b[3] - b[1]);
      if (across > 1.5 && down > 0.35) faults.push(['covered', a[4], b[4], across, down]);
    }
  return faults.slice(0, 20);
})()"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    chromium.open_blank()
    yield chromium
    chromium.call("Emulation.setEmulatedMedia", media="")
    assert chromium.messages == []


def open_report(page: Page, folder: Path, count: int) -> tuple[str, ...]:
    """Open the report of `count` labels, one of which is never chosen."""
    labels = name_labels(count)
    scores = draw_scores(labels, images=20 if count > 10 else 60, silent=1 if count > 2 else None)
    path = folder / f"{count}.html"
    path.write_text(render_report(draw_evaluation(scores)), encoding="utf-8")
    page.call("Page.navigate", url=path.as_uri())
    page.wait(f"document.readyState === 'complete' && location.pathname.endsWith('/{count}.html')")
    return labels


COUNTS = pytest.mark.parametrize(
    "count", [pytest.param(2, marks=LONG), 3, 10, 37, pytest.param(100, marks=LONG)]
)


@COUNTS
def test_nothing_is_cut_or_covered(page, tmp_path, count) -> None:
    open_report(page, tmp_path, count)
    for width in WIDTHS:
        page.resize(width, 900)
        assert page.run(FAULTS) == [], width
    page.call("Emulation.setEmulatedMedia", media="print")
    for width in (PORTRAIT, LANDSCAPE):
        page.resize(width, 900)
        assert page.run(FAULTS) == [], width


def test_the_measure_finds_what_is_wrong(page, tmp_path) -> None:
    open_report(page, tmp_path, 3)
    page.resize(1280, 900)
    assert page.run(FAULTS) == []
    before = page.run("document.querySelector('main').innerHTML")
    wrongs = {
        "outside": '<div style="width: 3000px">far</div>',
        "cut": '<div style="width: 20px; overflow: hidden; white-space: nowrap">much too long</div>',
        "covered": '<div>one line</div><div style="margin-top: -1.5em">another line</div>',
        "broken word": '<div style="width: 30px; overflow-wrap: anywhere">PNEUMONIA</div>',
        "beyond its box": '<table class="matrix" style="width: 30px"><tr><td>123456789</td></tr></table>',
    }
    for kind, html in wrongs.items():
        page.run(f"document.querySelector('main').insertAdjacentHTML('beforeend', {json.dumps(html)})")
        assert kind in {fault[0] for fault in page.run(FAULTS)}, kind
        page.run(f"document.querySelector('main').innerHTML = {json.dumps(before)}")
    assert page.run(FAULTS) == []


@COUNTS
def test_on_paper_every_label_is_there_in_few_pages(page, tmp_path, count) -> None:
    labels = open_report(page, tmp_path, count)
    data = base64.b64decode(page.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", data))
    landscape = len(re.findall(rb"/MediaBox \[0 0 841", data))
    assert pages <= {2: 9, 3: 9, 10: 14, 37: 17, 100: 22}[count]
    assert landscape == {2: 0, 3: 0, 10: 0, 37: 1, 100: 2}[count]
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed: apt-get install poppler-utils")
    (tmp_path / "report.pdf").write_bytes(data)
    command = ["pdftotext", "-raw", str(tmp_path / "report.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.sub(r"\s", "", text)
    # Letters written from right to left come out in another order.
    missing = [n for n in labels if re.sub(r"\s", "", n) not in found and not re.search("[\u0600-\u06ff]", n)]
    assert missing == []


@pytest.mark.parametrize("count", [3, pytest.param(37, marks=LONG)])
def test_axe_finds_no_serious_fault(page, tmp_path, count) -> None:
    if not AXE.is_file():
        pytest.skip(f"axe-core is not there: npm pack axe-core, unpacked into {AXE.parents[1]}")
    open_report(page, tmp_path, count)
    for width in (480, 1280):
        page.resize(width, 900)
        page.run(AXE.read_text(encoding="utf-8") + "; 0")
        found = page.run(
            "axe.run(document).then(r => r.violations.map(v => [v.impact, v.id, v.nodes.length, "
            "v.nodes[0].html.slice(0, 200)]))"
        )
        assert [fault for fault in found if fault[0] in ("serious", "critical", "moderate")] == []


def test_counts_are_shown_where_they_fit(page, tmp_path) -> None:
    open_report(page, tmp_path, 100)
    shown = "getComputedStyle(document.querySelector('.matrix.all .count')).display !== 'none'"
    seen = {}
    for width in WIDTHS:
        page.resize(width, 900)
        seen[width] = page.run(shown)
    assert seen == {480: False, 1280: False, 1920: True}
