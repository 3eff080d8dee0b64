from __future__ import annotations

import threading
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from tests.conftest import draw_image
from tests.models import toy_spec
from wetread.errors import ImageError, SlowImageWarning, SourceError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.model.spec import ModelSpec
from wetread.runtime.scoring.batches import score_chunks, score_entries
from wetread.runtime.sources.chunks import group_entries


@dataclass
class Mean:
    """A model whose probability is the mean gray, and that remembers the batches it saw."""

    spec: ModelSpec = field(default_factory=toy_spec)
    device: str = "cpu"
    batches: list[int] = field(default_factory=list)

    def classify(self, images):
        self.batches.append(len(images))
        gray = images.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        return np.stack([1 - gray, gray], axis=1).astype(np.float32)


def flat_png(gray: int) -> bytes:
    """A picture of one level but for a dot: without it, it would be blank."""
    picture = np.full((64, 64), gray, np.uint8)
    picture[0, 0] = 255 - gray
    return cv2.imencode(".png", picture)[1].tobytes()


def read_flat(entry: Entry) -> bytes:
    """`bright3` is light gray, `dark3` dark; `broken3` is text and `gone3` cannot be read."""
    if entry.name.startswith("gone"):
        raise ImageError("unreadable", "gone")
    if entry.name.startswith("broken"):
        return b"text"
    return flat_png(200 if entry.name.startswith("bright") else 10)


def entries(count: int) -> list[Entry]:
    kinds = ("bright", "dark", "broken", "dark", "gone", "bright", "dark")
    return [Entry(f"{kinds[i % len(kinds)]}{i}") for i in range(count)]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("count", [0, 1, 33, 100])
def test_one_row_each_in_order_beside_its_own_score(workers, batch_size, count):
    listing = entries(count)
    rows = list(score_entries(Mean(), listing, read=read_flat, workers=workers, batch_size=batch_size))
    assert [row.path for row in rows] == [entry.name for entry in listing]
    expected = {
        "bright": ("ok", "PNEUMONIA"),
        "dark": ("ok", "NORMAL"),
        "broken": ("not_an_image", None),
        "gone": ("unreadable", None),
    }
    for row in rows:
        assert (row.status, row.label) == expected[row.path.rstrip("0123456789")]
        assert bool(row.probabilities) == (row.status == "ok") == (not row.error)


def test_rows_do_not_depend_on_workers_or_batches():
    listing = entries(70)
    runs = [
        list(score_entries(Mean(), listing, read=read_flat, workers=workers, batch_size=size))
        for workers, size in ((1, 1), (2, 7), (5, 32))
    ]
    assert runs[0] == runs[1] == runs[2]


def test_listing_is_pulled_only_a_bounded_way_ahead():
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield Entry(f"dark{pulled}")

    rows = score_entries(Mean(), endless(), read=read_flat, workers=2, batch_size=8)
    for _ in range(20):
        next(rows)
    assert pulled <= 20 + 8 * 2 * 3
    rows.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wetread")]


def test_chunks_end_at_a_number_of_files_or_of_bytes():
    small = [Entry("s", 1000)] * 70
    assert [len(chunk) for chunk in group_entries(small, batch_size=32)] == [32, 32, 6]
    large = [Entry("l", 3 << 20)] * 5
    assert [len(chunk) for chunk in group_entries(large, batch_size=32)] == [2, 2, 1]
    assert list(group_entries([], batch_size=32)) == []


def test_a_gpu_sees_one_batch_shape():
    model = Mean(device="cuda")
    rows = list(score_entries(model, entries(70), read=read_flat, workers=1, batch_size=32))
    assert set(model.batches) == {32}
    assert rows == list(score_entries(Mean(), entries(70), read=read_flat, workers=1, batch_size=32))


def test_a_chunk_without_a_good_image_never_reaches_the_model():
    model = Mean()
    rows = list(score_entries(model, [Entry("gone1"), Entry("broken2")], read=read_flat))
    assert [row.status for row in rows] == ["unreadable", "not_an_image"]
    assert model.batches == []


def test_an_image_over_the_limit_is_too_large():
    (row,) = score_entries(Mean(), [Entry("a")], read=lambda _: draw_image(0), max_memory=1 << 20)
    assert (row.status, row.probability) == ("too_large", None)
    assert row.error.endswith("and 1 MiB are allowed. Raise --max-memory to read it.")
    assert row.error.startswith("Decoding 80 x 96 pixels needs ")


def test_counts_below_one_are_refused():
    for arguments in ({"workers": 0}, {"batch_size": 0}):
        with pytest.raises(UsageError, match="1 or more"):
            list(score_chunks(Mean(), [], read=read_flat, **arguments))


def test_an_error_of_the_model_ends_the_run():
    class Broken(Mean):
        def classify(self, images):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(score_entries(Broken(), entries(10), read=read_flat))


def test_seconds_by_stage_add_up():
    chunks = list(score_chunks(Mean(), entries(33), read=read_flat, workers=1))
    assert all(chunk.seconds.decode > 0 and chunk.seconds.infer > 0 for chunk in chunks)


def break_decoding(monkeypatch, error: Exception) -> None:
    """Let the decoder raise for every dark picture."""
    from wetread.runtime.images import pixels

    whole, dark = pixels._decode, flat_png(10)

    def decode(data, *rest):
        if data == dark:
            raise error
        return whole(data, *rest)

    monkeypatch.setattr(pixels, "_decode", decode)


@pytest.mark.parametrize("error", [KeyError("Doe^Jane"), RecursionError(), AssertionError(), ValueError("x")])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_fault_in_one_image_is_that_images_row(monkeypatch, error, workers):
    listing = entries(20)
    before = {row.path: row for row in score_entries(Mean(), listing, read=read_flat, workers=workers)}
    break_decoding(monkeypatch, error)
    rows = list(score_entries(Mean(), listing, read=read_flat, workers=workers))
    assert [row.path for row in rows] == [entry.name for entry in listing]
    for row in rows:
        if not row.path.startswith("dark"):
            assert row == before[row.path]
            continue
        assert (row.status, row.label) == ("unreadable", None)
        assert row.error.startswith(
            f"A fault of wetread, not of the file: {type(error).__name__} in pixels.py, line "
        )
        assert "Doe" not in row.error


def test_a_fault_in_reading_is_that_inputs_row():
    def read(entry: Entry) -> bytes:
        if entry.name.startswith("dark"):
            raise KeyError("Doe^Jane")
        return read_flat(entry)

    rows = list(score_entries(Mean(), entries(20), read=read, workers=2))
    assert {row.status for row in rows if row.path.startswith("dark")} == {"unreadable"}
    assert {row.status for row in rows if row.path.startswith("bright")} == {"ok"}


@pytest.mark.parametrize("error", [SourceError("no network"), OSError("too many open files")])
def test_what_no_row_could_help_ends_the_run(error):
    def read(entry: Entry) -> bytes:
        raise error

    with pytest.raises(type(error)):
        list(score_entries(Mean(), entries(20), read=read, workers=2))


@pytest.mark.parametrize("error", [SourceError("a setup"), KeyboardInterrupt()])
def test_errors_of_the_setup_in_decoding_keep_their_meaning(monkeypatch, error):
    break_decoding(monkeypatch, error)
    with pytest.raises(type(error)):
        list(score_entries(Mean(), entries(20), read=read_flat, workers=1))


def test_an_image_that_takes_too_long_is_named_once(monkeypatch):
    monkeypatch.setattr("wetread.runtime.scoring.batches._SLOW_SECONDS", -1.0)
    with pytest.warns(SlowImageWarning) as caught:
        rows = list(score_entries(Mean(), [Entry("bright0"), Entry("gone1")], read=read_flat, workers=1))
    assert [row.status for row in rows] == ["ok", "unreadable"]
    assert [str(warning.message).partition(" took ")[0] for warning in caught] == ["bright0", "gone1"]
