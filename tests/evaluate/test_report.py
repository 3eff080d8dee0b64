from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import draw_image
from tests.evaluate.browser import visit
from tests.evaluate.drawn_scores import draw_evaluation, draw_scores, name_labels
from tests.evaluate.test_evaluation import draw_folders, write_run
from tests.models import build_model, toy_spec
from wetread.evaluate.evaluation import EvaluateOptions, Evaluation, evaluate
from wetread.evaluate.judged_images import find_confusions, find_mistakes, select_judged
from wetread.evaluate.outputs import write_outputs
from wetread.evaluate.report import render_report
from wetread.evaluate.runs import read_run
from wetread.evaluate.svg_charts import choose_ticks, draw_whisker
from wetread.runtime.model.spec import Band
from wetread.runtime.scoring.classifier import Classifier

THREE = ("a", "b", "c<script>")


class Numbers(HTMLParser):
    """Collects (key, value, shown text) of each number that carries itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self._open: tuple[str, str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if "data-key" in known:
            self._open = (str(known["data-key"]), str(known["data-value"]))

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((*self._open, data))
            self._open = None


def look_up(value: object, key: str) -> object:
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]  # type: ignore[index]
    return value


def leaves(value: object, key: str) -> set[str]:
    """The keys of all numbers, and of what is not defined, below a value."""
    if isinstance(value, dict):
        return set().union(*(leaves(v, f"{key}.{k}") for k, v in value.items()), set())
    if isinstance(value, list):
        return set().union(*(leaves(v, f"{key}.{i}") for i, v in enumerate(value)), set())
    return {key} if value is None or isinstance(value, int | float) else set()


def make_evaluation(
    folder: Path, *, labels: tuple[str, ...] = ("NORMAL", "PNEUMONIA"), **options
) -> Evaluation:
    data = draw_folders(folder / "data", images=10, labels=labels)
    (data / labels[0] / "empty.jpg").write_bytes(b"")
    (data / "stray.txt").write_text("stray")
    run = write_run(folder / "run", {})
    sheet = np.random.default_rng(0).integers(0, 256, (60, 1500, 3), dtype=np.uint8)
    (run / "augmentation.png").write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    models = [Classifier(build_model(toy_spec(labels=labels), seed=seed), device="cpu") for seed in (0, 4)]
    wanted = EvaluateOptions(**{"data": str(data), "run": str(run), "resamples": 30, **options})
    return evaluate(models[0], wanted, other=models[1])


@pytest.fixture(scope="module", params=["two", "three"])
def evaluation(request, tmp_path_factory) -> Evaluation:
    labels = THREE if request.param == "three" else ("NORMAL", "PNEUMONIA")
    return make_evaluation(tmp_path_factory.mktemp(request.param), labels=labels)


def test_every_number_is_that_of_metrics_json(evaluation, tmp_path) -> None:
    write_outputs(evaluation, str(tmp_path))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    shown = Numbers((tmp_path / "report.html").read_text(encoding="utf-8")).found
    for key, value, text in shown:
        expected = look_up(metrics, key)
        assert json.loads(value) == expected, key
        if expected is None:
            assert text == "not defined"
        elif isinstance(expected, int):
            assert text == f"{expected:,}"
        elif key != "metrics.threshold":
            assert abs(float(text) - expected) <= 0.5e-4 + 1e-12, key
    known = leaves(metrics["metrics"], "metrics") - {"metrics.positive"}
    if evaluation.metrics.positive is None:  # not defined for three labels: see per_label
        known -= {f"metrics.{name}" for name in ("sensitivity", "specificity", "ppv", "npv", "threshold")}
    known |= leaves(metrics["comparison"]["differences"], "comparison.differences")
    assert known <= {key for key, _, _ in shown}


def test_a_value_that_is_not_defined_says_so(tmp_path) -> None:
    data = draw_folders(tmp_path / "data", images=4)
    for path in (data / "NORMAL").iterdir():
        path.unlink()
    model = Classifier(build_model(toy_spec()), device="cpu")
    page = render_report(evaluate(model, EvaluateOptions(data=str(data), resamples=10)))
    shown = {key: (value, text) for key, value, text in Numbers(page).found}
    assert shown["metrics.auc"] == shown["metrics.specificity"] == ("null", "not defined")
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page)


def test_the_page_is_whole_in_itself(evaluation) -> None:
    page = render_report(evaluation, thumbnails=True)
    assert page == render_report(evaluation, thumbnails=True)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:") for source in sources)
    for heading in (
        "Metrics",
        "Confusion",
        "Most confused pairs",
        "Ranking",
        "Probabilities",
        "Two models",
        "Worst mistakes",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "empty.jpg" in page and "The file is empty: it has 0 bytes." in page


def test_temperature_and_band_are_drawn(tmp_path) -> None:
    data = draw_folders(tmp_path / "data", images=10)
    band = Band(low=0.3, high=0.8, rule="images 0.5")
    spec = replace(toy_spec(), temperature=2.0, uncertain=band)
    evaluation = evaluate(
        Classifier(build_model(spec), device="cpu"), EvaluateOptions(data=str(data), resamples=10)
    )
    write_outputs(evaluation, str(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert page.count('class="before"') == 1 and page.count('class="band"') == 2
    shown = {key: json.loads(value) for key, value, _ in Numbers(page).found}
    keys = ("calibration.temperature", "calibration.at_temperature_1.ece", "uncertain.images")
    assert [shown[key] for key in keys] == [look_up(metrics, key) for key in keys]
    plain = evaluate(Classifier(build_model(toy_spec()), device="cpu"), EvaluateOptions(data=str(data)))
    page = render_report(plain)
    assert 'class="before"' not in page and 'class="band"' not in page


def test_pictures_only_when_asked_for(evaluation) -> None:
    page = render_report(evaluation)
    assert "<img" not in page and "data:image" not in page
    with_pictures = render_report(evaluation, thumbnails=True)
    judged = select_judged(evaluation.scores)
    examples = sum(len(pair.examples) for pair in find_confusions(judged, examples=3))
    worst = find_mistakes(judged, count=24)
    assert with_pictures.count("data:image/jpeg") == len(worst) + examples + 1
    assert str(evaluation.options.data) not in page.replace("empty.jpg", "")[: page.index("Class balance")]


def test_the_worst_mistake_comes_first(evaluation) -> None:
    worst = find_mistakes(select_judged(evaluation.scores), count=5)
    by_hand = []
    for image, found in zip(evaluation.scores.images, evaluation.scores.predictions, strict=True):
        if found.status == "ok" and found.label != image.label:
            column = evaluation.scores.spec.labels.index(image.label)
            by_hand.append((found.probabilities[column], image.name))
    assert [(m.truth_probability, m.name) for m in worst] == [
        (pytest.approx(p, abs=1e-7), name) for p, name in sorted(by_hand)[:5]
    ]


def test_a_thumbnail_of_a_file_that_went_away_is_left_out(tmp_path) -> None:
    found = make_evaluation(tmp_path)
    for path in (tmp_path / "data").rglob("*.jpg"):
        path.unlink()
    assert render_report(found, thumbnails=True).count("data:image/jpeg") == 1  # the run's samples


def test_odd_names_are_escaped(tmp_path) -> None:
    data = draw_folders(tmp_path / "data", images=3)
    for number in range(8):
        for label in ("NORMAL", "PNEUMONIA"):
            name = f"<img src=x onerror=alert({number})>&bad\udcff{number}.jpg"
            (data / label / name).write_bytes(draw_image(100 + number))
    model = Classifier(build_model(toy_spec()), device="cpu")
    page = render_report(evaluate(model, EvaluateOptions(data=str(data), resamples=0)))
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert" in page
    page.encode()  # no surrogate is left


def test_labels_that_are_no_unicode_do_not_stop_the_report() -> None:
    """Linux takes any bytes for a folder's name, Windows unpaired surrogates."""
    scores = draw_scores(("caf\udce9", "\ud83d<b>", "c"), images=6)
    page = render_report(draw_evaluation(scores))
    assert "caf\ufffd" in page.encode().decode() and "<b>\ufffd" not in page
    two = render_report(draw_evaluation(draw_scores(("caf\udce9", "\ud83d"), images=6)))
    assert "truth caf\ufffd: 6 images" in two.encode().decode()


def test_epochs_without_a_number_are_left_out_of_the_curves(tmp_path) -> None:
    evaluation = make_evaluation(tmp_path)
    history = tmp_path / "run" / "history.csv"
    history.write_text("epoch,loss,val_loss,val_auc\n1,0.5,nan,nan\n2,0.4,inf,nan\n")
    page = render_report(replace(evaluation, run=read_run(str(tmp_path / "run"))))
    assert "epoch 2: loss 0.4000" in page and "val_auc" not in page


@pytest.mark.parametrize(
    ("value", "interval", "ends"),
    [
        (0.4, (0.3, 0.5), ("0", "1")),
        (5.51, (4.38, 6.99), ("0", "7")),  # a log loss
        (1.9, None, ("0", "2")),  # a Brier score of many labels
        (-0.2, (-0.3, 0.1), ("−1", "1")),  # a correlation
        (math.nan, (math.nan, math.nan), ("0", "1")),
    ],
)
def test_a_whisker_hides_no_value_beyond_one(value, interval, ends) -> None:
    drawn = draw_whisker(value, interval)
    assert tuple(re.findall(r"<text[^>]*>([^<]*)<", drawn)) == ends
    low, high = (float(end.replace("−", "-")) for end in ends)
    axis = [float(x) for x in re.findall(r'class="grid" x1="([0-9.]+)" x2="([0-9.]+)"', drawn)[0]]
    dots = [float(x) for x in re.findall(r'cx="([0-9.]+)"', drawn)]
    assert len(dots) == (not math.isnan(value))
    for dot in dots:
        place = axis[0] + (value - low) / (high - low) * (axis[1] - axis[0])
        assert axis[0] <= dot <= axis[1] and dot == pytest.approx(place, abs=0.01)
    for span in re.findall(r'class="span c0" x1="([0-9.]+)" x2="([0-9.]+)"', drawn):
        assert axis[0] <= float(span[0]) < float(span[1]) <= axis[1]


@pytest.mark.parametrize("count", [13, 37, 121])
def test_many_labels_get_two_matrices_and_their_own_charts(count) -> None:
    labels = name_labels(count)
    found = draw_evaluation(draw_scores(labels, images=4), resamples=0)
    page = render_report(found)
    shown = {key: value for key, value, _ in Numbers(page).found}
    for index, label in enumerate(labels):
        assert f"metrics.per_label.{label}.f1" in shown
        if count <= 120:
            cell = found.metrics.confusion[index][index]
            assert not cell or shown[f"metrics.confusion.{index}.{index}"] == str(cell)
    assert page.count('<table class="matrix') == (2 if count <= 120 else 1)
    # ROC, precision-recall and probabilities, and the reliability diagram.
    assert page.count('class="chart') == 3 * min(24, count) + 1
    assert page.count("metrics.confusion.") < 12 * 12 + 5 * count


def test_ticks_are_round_and_span_the_values() -> None:
    assert choose_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert choose_ticks(1, 10) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    for low, high in ((0.613, 0.9), (3.2, 3.2), (-5, 700)):
        ticks = choose_ticks(low, high)
        assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 9
        assert all(math.isfinite(tick) for tick in ticks)


def test_a_browser_renders_it_without_an_error_or_a_request(evaluation, tmp_path) -> None:
    control = tmp_path / "control.html"
    control.write_text('<img src="http://192.0.2.1/x.png"><script>console.error("heard")</script>')
    (tmp_path / "one").mkdir()
    heard = visit(control, tmp_path / "one")
    assert "192.0.2.1" in heard.hosts and any("heard" in message for message in heard.console)
    page = tmp_path / "report.html"
    page.write_text(render_report(evaluation, thumbnails=True), encoding="utf-8")
    (tmp_path / "two").mkdir()
    seen = visit(page, tmp_path / "two")
    own = heard.hosts - {"192.0.2.1"}  # what the browser asks by itself, whatever the page
    assert (seen.console, seen.hosts - own) == ((), frozenset())
    # One chart of each kind and the curves of the run; a whisker for each metric.
    assert seen.document.count('class="chart') == 3 + len(evaluation.metrics.labels) + 1
    assert seen.document.count("<h2>") == 11
