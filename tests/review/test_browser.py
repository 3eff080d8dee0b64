"""The page in Debian's chromium: what a reader does by keys and mouse, and what comes of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.review.chromium import Page, open_chromium
from tests.review.conftest import COLUMNS, Served, make_cells, write_scores
from wetread.cli import run
from wetread.evaluate.reviews import read_reviews
from wetread.runtime.images.pixels import read_picture
from wetread.runtime.images.recipe import PixelRecipe

AXE = Path(__file__).parents[2] / ".axe" / "package" / "axe.min.js"
ASKED = "document.getElementById('list').dataset.asked"
CANVAS = "document.querySelector('#viewer canvas')"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """A tab that wrote nothing into its console and asked nobody but the server, when the test ends."""
    chromium.open_blank()
    chromium.resize(1280, 800)
    yield chromium
    assert chromium.messages == []
    hosts = {address.split("/")[2] for address in chromium.asked if address.startswith("http")}
    assert len(hosts) <= 1  # none in a test that was skipped
    assert all(host.startswith("127.0.0.1:") for host in hosts)


@pytest.fixture
def copied(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scored folder, to change: scores.csv and inbox/."""
    for name in ("scores.csv", "scores.csv.run.json"):
        shutil.copy(scored / name, tmp_path / name)
    shutil.copytree(scored / "inbox", tmp_path / "inbox")
    return tmp_path


def read_rows(scores: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(scores.read_bytes().decode(), newline="")))


def enter(page: Page, served: Served) -> None:
    page.open(served.keys.address)
    wait_for_picture(page)


def wait_for_picture(page: Page, number: int | None = None) -> int:
    """Wait until a row (any, or this one) is on the page with its picture; return its number."""
    shown = "document.querySelector('#viewer').dataset.number"
    page.wait(f"{shown} !== undefined" if number is None else f"{shown} === '{number}'")
    return int(page.run(shown))


def press_on(page: Page, key: str) -> int:
    """Press a key that goes to another row, and wait for it."""
    before = page.run("document.querySelector('#viewer').dataset.number")
    page.press(key)
    page.wait(f"document.querySelector('#viewer').dataset.number !== '{before}'")
    return wait_for_picture(page)


def list_shown(page: Page) -> list[int]:
    return page.run(
        "[...document.querySelectorAll('.item')].filter(i => i.dataset.number)"
        ".sort((a, b) => a.dataset.place - b.dataset.place).map(i => Number(i.dataset.number))"
    )


def choose(page: Page, name: str, value: str) -> None:
    """Choose in a list, and wait until the worklist was asked anew."""
    before = page.run(ASKED)
    page.run(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {json.dumps(value)};"
        " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    page.wait(f"{ASKED} !== '{before}' && document.querySelector('.item')?.dataset.number !== undefined")


def read_canvas(page: Page, height: int, width: int) -> np.ndarray:
    """The pixels of the picture at one for one, uint8 (H, W, 3)."""
    page.press("o")
    code = f"""(() => {{ const c = {CANVAS}, t = document.createElement('canvas');
      [t.width, t.height] = [{width}, {height}];
      const place = [Math.round(c.width / 2 - {width} / 2), Math.round(c.height / 2 - {height} / 2)];
      const seen = t.getContext('2d', {{ willReadFrequently: true }});
      seen.drawImage(c, ...place, {width}, {height}, 0, 0, {width}, {height});
      const data = seen.getImageData(0, 0, {width}, {height}).data;
      let text = '';
      for (let k = 0; k < data.length; k += 32768) {{
        text += String.fromCharCode(...data.subarray(k, k + 32768));
      }}
      return btoa(text); }})()"""
    time.sleep(0.15)
    data = np.frombuffer(base64.b64decode(page.run(code)), np.uint8)
    return data.reshape(height, width, 4)[..., :3]


def test_opened_it_shows_the_most_doubtful_first_and_goes_on_by_keys(page, serve, scored):
    served = serve(scored / "scores.csv")
    enter(page, served)
    rows = read_rows(scored / "scores.csv")
    known = [n for n, row in enumerate(rows) if row["status"] == "ok"]
    order = sorted(known, key=lambda n: abs(np.float32(rows[n]["p_PNEUMONIA"]) - np.float32(0.5)))
    assert wait_for_picture(page) == order[0]
    assert page.run("location.search") == ""
    assert "Not a medical device" in page.text("footer")
    assert press_on(page, "j") == order[1]
    assert press_on(page, "ArrowDown") == order[2]
    assert press_on(page, "k") == order[1]
    row = rows[order[1]]
    assert page.text("#name") == row["path"].rpartition("/")[2]
    assert page.text("#chosen") == f"{row['label']} {float(row['probability']):.4f}"
    assert "the threshold 0.5" in page.text("#decision")
    assert page.text("#progress") == "0 of 25 reviewed"
    page.click(".item[data-place='4']")
    wait_for_picture(page, order[4])


def test_the_page_says_that_rows_are_read_and_then_shows_all(page, serve, tmp_path):
    write_scores(tmp_path / "scores.csv", [f"{number:06}.png" for number in range(3_000)])
    served = serve(tmp_path / "scores.csv", load=False)
    page.call("Page.navigate", url=served.keys.address)
    page.wait("performance.getEntriesByName(location.origin + '/main.js').length")
    time.sleep(0.3)
    assert page.text("#progress") == "Reading the rows …"
    served.room.load()
    wait_for_picture(page)
    assert page.text("#progress") == "0 of 3,000 reviewed"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.49999997", "PNEUMONIA 0.49999997, below the threshold 0.5"),
        ("0.5", "PNEUMONIA 0.5000, at or above the threshold 0.5"),
        ("0.50001", "PNEUMONIA 0.50001, at or above the threshold 0.5"),
        ("0.4876", "PNEUMONIA 0.4876, below the threshold 0.5"),
    ],
)
def test_a_probability_next_to_the_threshold_is_told_apart_from_it(page, serve, tmp_path, value, words):
    cells = [make_cells("a.png", np.float32(value))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *cells])
    (tmp_path / "scores.csv").write_text(text.getvalue())
    enter(page, serve(tmp_path / "scores.csv"))
    assert page.text("#decision") == words


def test_orders_filters_and_a_range_change_the_list_and_its_counts(page, serve, scored):
    enter(page, serve(scored / "scores.csv"))
    rows = read_rows(scored / "scores.csv")
    scores = {n: np.float32(row["p_PNEUMONIA"]) for n, row in enumerate(rows) if row["p_PNEUMONIA"]}
    choose(page, "sort", "probability-down")
    order = sorted(scores, key=scores.get, reverse=True)
    assert list_shown(page)[:10] == order[:10]
    choose(page, "status", "truncated")
    assert page.text("#total") == "1 of 25 pictures"
    choose(page, "status", "")
    label = rows[order[0]]["label"]
    choose(page, "label", label)
    count = sum(row["label"] == label for row in rows)
    assert page.text("#total").startswith(f"{count} of 25" if count < 25 else "25 pictures")
    choose(page, "label", "")
    box = page.run(
        "(() => { const b = document.querySelector('#histogram').getBoundingClientRect();"
        " return [b.left, b.top + b.height / 2, b.width]; })()"
    )
    page.drag((box[0] + 0.25 * box[2], box[1]), (0.5 * box[2], 0))
    page.wait("document.getElementById('low').value !== ''")
    page.wait("document.getElementById('total').innerText !== '25 pictures'")
    low, high = (float(page.run(f"document.getElementById('{name}').value")) for name in ("low", "high"))
    assert abs(low - 0.25) < 0.02 and abs(high - 0.75) < 0.02
    inside = sum(np.float32(low) <= value <= np.float32(high) for value in scores.values())
    assert page.text("#total") == f"{inside} of 25 pictures"
    page.click("#clear-span")
    page.wait("document.getElementById('total').innerText === '25 pictures'")
    page.press("/")
    page.call("Input.insertText", text="PERSON3_")
    page.wait("document.getElementById('total').innerText === '3 of 25 pictures'")
    page.press("Escape")
    assert page.run("document.activeElement.id") == "list"


def test_the_picture_is_the_runtimes_zoomed_moved_windowed_and_inverted(page, serve, scored):
    enter(page, serve(scored / "scores.csv"))
    rows = read_rows(scored / "scores.csv")
    number = wait_for_picture(page)
    plain = read_picture(Path(rows[number]["path"]).read_bytes(), PixelRecipe())
    np.testing.assert_array_equal(read_canvas(page, 240, 200), np.repeat(plain, 3, axis=2))
    page.press("i")
    np.testing.assert_array_equal(read_canvas(page, 240, 200), np.repeat(255 - plain, 3, axis=2))
    page.press("i")
    page.press("]")
    low, width = 0.05 * 255, 255
    windowed = np.floor(255 * np.clip(plain - low, 0, width) / width + 0.5)
    np.testing.assert_array_equal(read_canvas(page, 240, 200)[..., :1], windowed)
    assert page.text("#window").startswith("level 140, width 255")
    middle = page.find("#viewer canvas")
    page.drag(middle, (100, 0), button="right")
    page.wait("!document.getElementById('window').innerText.includes('width 255,')")
    page.press("w")
    np.testing.assert_array_equal(read_canvas(page, 240, 200), np.repeat(plain, 3, axis=2))

    page.press("f")
    fitted = page.text("#window")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=middle[0], y=middle[1], deltaX=0, deltaY=-200)
    page.wait(f"document.getElementById('window').innerText !== {json.dumps(fitted)}")
    page.drag(middle, (60, 40))
    page.press("ArrowLeft", shift=True)
    page.press("f")
    page.wait(f"document.getElementById('window').innerText === {json.dumps(fitted)}")


def test_sixteen_bits_are_windowed_as_stored(page, serve, tmp_path, toy_model):
    (tmp_path / "deep").mkdir()
    ramp = np.tile(np.arange(1928, 2168, dtype=np.uint16), (200, 1))  # 12 bits
    (tmp_path / "deep" / "ramp.png").write_bytes(cv2.imencode(".png", ramp)[1].tobytes())
    output = str(tmp_path / "scores.csv")
    assert run(["score", str(tmp_path / "deep"), "-m", str(toy_model), "-o", output, "--quiet"]) == 0
    enter(page, serve(Path(output)))
    plain = read_picture((tmp_path / "deep" / "ramp.png").read_bytes(), PixelRecipe())
    np.testing.assert_array_equal(read_canvas(page, 200, 240)[..., :1], plain)
    for _ in range(30):
        page.press(",")
    shown = read_canvas(page, 200, 240)[0, :, 0].astype(int)
    low, high = 4095 * (1 - 0.9**30) / 2, 4095 * (1 + 0.9**30) / 2
    expected = np.floor(255 * np.clip(ramp[0] - low, 0, high - low) / (high - low) + 0.5)
    np.testing.assert_array_equal(shown, expected)
    # Of eight bits there would be fewer levels in this window.
    inside = (ramp[0] > low) & (ramp[0] < high)
    assert len(set(shown[inside])) > 10 * len(set(plain[0, inside, 0]))


def test_what_the_reader_says_is_saved_and_undone(page, serve, copied):
    served = serve(copied / "scores.csv", images=str(copied / "inbox"))
    enter(page, served)
    rows = read_rows(copied / "scores.csv")
    first = wait_for_picture(page)
    page.press("m")
    page.call("Input.insertText", text="a note, with a comma")
    page.press("Escape")
    second = press_on(page, "a")
    third = press_on(page, "d")
    fourth = press_on(page, "u")
    fifth = press_on(page, "x")
    press_on(page, "1")
    assert page.text("#progress").startswith("5 of 25 reviewed")
    assert press_on(page, "z") == fifth
    page.wait("document.getElementById('progress').innerText.startsWith('4 of 25')")
    served.room.refresh()
    found = read_reviews(served.room.options.output)
    assert [(r.path, str(r.verdict)) for r in found] == [
        (rows[first]["path"], "agree"),
        (rows[second]["path"], "disagree"),
        (rows[third]["path"], "unsure"),
        (rows[fourth]["path"], "unusable"),
    ]
    assert (found[0].note, found[0].label) == ("a note, with a comma", rows[first]["label"])
    assert {found[1].label, rows[second]["label"]} == {"NORMAL", "PNEUMONIA"}
    assert found[0].seconds > 0 and found[0].reader == "Kim"
    choose(page, "review", "unreviewed")
    assert page.text("#total") == "21 of 25 pictures"
    choose(page, "review", "unsure")
    wait_for_picture(page, third)
    assert "You are unsure (saved)" in page.text("#said")


def test_a_broken_and_a_vanished_picture_are_said_and_passed(page, serve, copied):
    rows = read_rows(copied / "scores.csv")
    enter(page, serve(copied / "scores.csv", images=str(copied / "inbox")))
    choose(page, "sort", "status")
    broken = next(n for n, row in enumerate(rows) if row["status"] == "truncated")
    page.run("document.getElementById('list').focus()")
    page.click(".item[data-place='0']")
    wait_for_picture(page, broken)
    assert "cut short" in page.text("#viewer .broken") and page.text("#chosen") == "No answer"
    assert page.text("#failed").startswith("truncated: ")
    gone = list_shown(page)[6]
    (copied / "inbox" / Path(rows[gone]["path"]).name).unlink()
    page.click(".item[data-place='6']")
    wait_for_picture(page, gone)
    assert "No such file" in page.text("#viewer .broken")
    number = press_on(page, "j")
    page.wait("document.querySelector('#viewer .broken').hidden")
    assert number != gone


def test_the_heat_map_stands_beside_and_is_laid_over(page, serve, scored):
    enter(page, serve(scored / "scores.csv"))
    page.wait("document.getElementById('heat-scale').innerText.includes('in every picture')")
    assert "Hiding the" in page.text("#heat-words")
    assert page.run("document.getElementById('heat-map').width") > 100
    plain = read_canvas(page, 240, 200)
    assert (plain[..., 0] == plain[..., 2]).all()
    page.press("h")
    assert (read_canvas(page, 240, 200)[..., 0] != plain[..., 0]).any()
    page.press("h")
    np.testing.assert_array_equal(read_canvas(page, 240, 200), plain)


def test_another_picture_of_the_patient_stands_beside(page, serve, scored):
    served = serve(scored / "scores.csv")
    enter(page, served)
    number = wait_for_picture(page)
    other = served.room.table.find_beside(number)[0]
    page.press("b")
    page.wait("!document.getElementById('second').hidden")
    page.wait("document.querySelector('#second .caption').innerText !== ''")
    assert served.room.table.paths[other].rpartition("/")[2] in page.text("#second .caption")
    for _ in served.room.table.find_beside(number):
        page.press("b")
    page.wait("document.getElementById('second').hidden")


def test_a_blind_study_hides_the_answer_until_it_is_asked_for(page, serve, scored):
    served = serve(scored / "scores.csv", blind=True, seed=3)
    enter(page, served)
    rows = read_rows(scored / "scores.csv")
    order = np.argsort(np.random.default_rng(3).random(25), kind="stable").tolist()
    assert wait_for_picture(page) == order[0]
    told = page.text("body") + page.run("document.title")
    assert "person" not in told and "truncated" not in told and "0." not in page.text("#panel")
    assert page.text("#chosen") == "Hidden until you have decided"
    assert page.text("#name") == "Picture 1 of 25"
    page.press("a")
    assert "choose a label" in page.text("#said")
    assert press_on(page, "2") == order[1]
    assert press_on(page, "k") == order[0]
    assert page.text("#said") == "You said: PNEUMONIA (saved)"
    page.press("r")
    page.wait(
        f"document.getElementById('name').innerText === {json.dumps(rows[order[0]]['path'].split('/')[-1])}"
    )
    page.press("1")
    page.wait("document.getElementById('said').innerText.startsWith('Your decision is final')")
    assert served.room.count()["reviewed"] == 1


def test_a_file_that_grows_is_followed(page, serve, copied):
    path = copied / "growing.csv"
    rows = (copied / "scores.csv").read_text().splitlines(keepends=True)
    part = copied / "growing.csv.part"
    part.write_text("".join(rows[:4]))
    served = serve(path, images=str(copied / "inbox"))
    enter(page, served)
    number = wait_for_picture(page)
    assert page.text("#total") == "3 pictures, more may come"
    part.write_text("".join(rows[:20]))
    served.room.refresh()
    page.wait("document.getElementById('total').innerText === '19 pictures, more may come'")
    part.write_text("".join(rows))
    part.rename(path)
    served.room.refresh()
    page.wait("document.getElementById('total').innerText === '25 pictures'")
    assert wait_for_picture(page) == number


def test_a_file_without_rows_shows_the_first_that_comes(page, serve, copied):
    rows = (copied / "scores.csv").read_text().splitlines(keepends=True)
    part = copied / "begun.csv.part"
    part.write_text(rows[0])
    served = serve(copied / "begun.csv", images=str(copied / "inbox"))
    page.open(served.keys.address)
    assert page.text("#total") == "0 pictures, more may come"
    for key in "jkadux1zbnmhfo":
        page.press(key)
    page.press("Escape")
    part.write_text("".join(rows[:3]))
    served.room.refresh()
    assert wait_for_picture(page) in (0, 1)
    page.wait("document.getElementById('total').innerText === '2 pictures, more may come'")


def test_a_hundred_thousand_rows_scroll_and_filter(page, serve, tmp_path):
    names = [f"inbox/person{k // 3}_x_{k:06}.png" for k in range(100_000)]
    write_scores(tmp_path / "scores.csv", names)
    (tmp_path / "inbox").mkdir()
    served = serve(tmp_path / "scores.csv")
    enter(page, served)
    assert page.text("#total") == "100,000 pictures"
    choose(page, "sort", "file")
    page.run("(() => { const l = document.getElementById('list'); l.scrollTop = l.scrollHeight; })()")
    page.wait("document.querySelector(\".item[data-number='99999']\") !== null")
    assert page.run("document.querySelectorAll('.item').length") < 60
    page.run("(() => { const l = document.getElementById('list'); l.scrollTop = l.scrollHeight / 2; })()")
    page.wait("document.querySelector(\".item[data-number='50000']\") !== null")
    page.wait("[...document.querySelectorAll('.item')].every(i => i.dataset.number)")
    shown = list_shown(page)
    assert shown == list(range(shown[0], shown[0] + len(shown))) and abs(shown[0] - 50_000) < 60
    page.press("/")
    page.call("Input.insertText", text="person33333_")
    page.wait("document.getElementById('total').innerText.startsWith('1 of 100,000')")


def test_every_action_has_a_key_and_help_says_so(page, serve, scored):
    enter(page, serve(scored / "scores.csv"))
    page.press("?")
    page.wait("document.getElementById('help').open")
    assert "undo the last decision" in page.text("#help")
    page.press("j")  # says nothing to the page below
    page.press("Escape")
    page.wait("!document.getElementById('help').open")
    seen = []
    for _ in range(60):
        page.press("Tab")
        shown = "getComputedStyle(document.activeElement).outlineStyle"
        seen.append(
            (page.run("document.activeElement.id || document.activeElement.tagName"), page.run(shown))
        )
    reached = {name for name, _ in seen}
    assert {"sort", "low", "overlay", "note", "undo", "next", "open-help", "fit"} <= reached
    assert {outline for name, outline in seen if name != "BODY"} == {"solid"}


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "state", ["plain", "help", pytest.param("blind", marks=LONG), pytest.param("broken", marks=LONG)]
)
def test_axe_finds_no_serious_fault(page, serve, scored, state):
    if not AXE.is_file():
        pytest.skip(f"axe-core is not there: npm pack axe-core, unpacked into {AXE.parents[1]}")
    served = serve(scored / "scores.csv", blind=state == "blind")
    enter(page, served)
    if state == "help":
        page.press("?")
    if state == "broken":
        choose(page, "status", "truncated")
    if state == "plain":
        page.press("b")
        page.press("a")
    time.sleep(0.5)
    page.run(AXE.read_text(encoding="utf-8") + "; 0")
    found = page.run(
        "axe.run(document).then(r => r.violations.map("
        "v => [v.impact, v.id, v.nodes.map(n => n.target.join(' '))]))"
    )
    assert [fault for fault in found if fault[0] in ("serious", "critical", "moderate")] == []
    assert page.run("axe.run(document).then(r => r.passes.length)") > 10


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(1280, 720),
        pytest.param(1280, 800, marks=LONG),
        pytest.param(1920, 1080, marks=LONG),
        pytest.param(3840, 2160, marks=LONG),
    ],
)
def test_nothing_overflows_at_the_sizes_of_screens(page, serve, scored, width, height):
    page.resize(width, height)
    enter(page, serve(scored / "scores.csv"))
    page.wait("document.getElementById('heat-scale').innerText !== ''")
    code = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    assert page.run(code) == [width, height]
    for place in ("#worklist", "#stage", "#panel", "footer", "#tools", "#unreviewed", "#undo"):
        box = page.run(
            f"(() => {{ const b = document.querySelector('{place}').getBoundingClientRect();"
            " return [b.left, b.top, b.right, b.bottom]; })()"
        )
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height, (place, box)
    assert page.run(f"{CANVAS}.clientWidth") > 0.45 * width
    if folder := os.environ.get("WETREAD_SCREENSHOTS"):
        page.shoot(Path(folder) / f"{width}x{height}.png")


def test_make_cells_is_what_write_scores_writes(tmp_path):
    write_scores(tmp_path / "s.csv", ["a"], seed=1)
    value = np.random.default_rng(1).random(1).astype(np.float32)[0]
    assert (tmp_path / "s.csv").read_text().splitlines()[1] == ",".join(make_cells("a", value))


def test_another_page_of_the_browser_reads_nothing(chromium, serve, scored, tmp_path):
    """A page of another origin, in the very browser that holds the cookie."""
    served = serve(scored / "scores.csv")
    chromium.open(served.keys.address)
    evil = tmp_path / "evil.html"
    evil.write_text("<!doctype html><title>evil</title>")
    chromium.call("Page.navigate", url=evil.as_uri())
    chromium.wait("document.title === 'evil'")
    address = f"http://{served.keys.host}"
    for options in ("{credentials: 'include'}", "{mode: 'no-cors', credentials: 'include'}"):
        code = (
            f"fetch('{address}/api/rows', {options}).then(r => r.text().then(t => r.type + t), e => 'failed')"
        )
        assert chromium.run(code) in ("failed", "opaque")
    generation = served.room.table.generation
    body = json.dumps({"identity": "12345678", "number": 0, "generation": generation, "label": "NORMAL"})
    options = f"method: 'POST', mode: 'no-cors', credentials: 'include', body: {json.dumps(body)}"
    code = f"fetch('{address}/api/decisions', {{ {options} }}).then(r => r.type, e => 'failed')"
    chromium.run(code)
    assert served.room.count()["reviewed"] == 0
    frame = f"document.body.append(Object.assign(document.createElement('iframe'), {{src: '{address}/'}}))"
    chromium.run(frame)
    time.sleep(0.3)
    chromium.messages.clear()
