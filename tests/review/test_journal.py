"""The journal of decisions: what was confirmed is there after every way to die, and once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wetread.errors import OutputError
from wetread.evaluate.reviews import Review, Verdict, read_reviews
from wetread.review.journal import Journal, Study, open_journal

KIM = Study(reader="Kim")


def review(path: str, label: str = "NORMAL", **more: object) -> Review:
    values = {"verdict": Verdict.AGREE, "reader": "Kim", "time": "2026-11-29T10:00:00Z"}
    values |= {"seconds": 1.5, "blind": False}
    return Review(path=path, label=label, **{**values, **more})


def test_what_was_said_is_in_reviews_csv(tmp_path):
    output = str(tmp_path / "reviews.csv")
    said = [
        review("a/x.png", note='a "note", with\nlines'),
        review("b\udcff.png", "PNEUMONIA", verdict=Verdict.DISAGREE, model="6f", blind=True),
        review("c.png", "", verdict=Verdict.UNSURE),
    ]
    with open_journal(output, KIM) as journal:
        for number, one in enumerate(said):
            assert journal.say(f"identity{number}", one) == one
    assert read_reviews(output) == said
    with open_journal(output, KIM) as journal:
        assert list(journal.reviews.values()) == said


def test_what_is_sent_twice_is_written_once(tmp_path):
    with open_journal(str(tmp_path / "r.csv"), KIM) as journal:
        journal.say("one-and-only", review("a"))
        size = os.path.getsize(journal.path)
        journal.say("one-and-only", review("a"))
        assert os.path.getsize(journal.path) == size
    with open_journal(str(tmp_path / "r.csv"), KIM) as journal:
        journal.say("one-and-only", review("a"))
        assert os.path.getsize(journal.path) == size


def test_undo_brings_back_what_stood_before(tmp_path):
    output = str(tmp_path / "r.csv")
    with open_journal(output, KIM) as journal:
        journal.say("identity1", review("a"))
        journal.say("identity2", review("a", "PNEUMONIA"))
        journal.say("identity3", review("b"))
        assert journal.last == "b"
        assert journal.take_back("identity4") == review("b")
        assert journal.take_back("identity5") == review("a", "PNEUMONIA")
        assert journal.reviews == {"a": review("a")}
    with open_journal(output, KIM) as journal:
        assert journal.reviews == {"a": review("a")}
        assert journal.take_back("identity6") == review("a")
        assert journal.take_back("identity7") is None
    assert read_reviews(output) == []


@settings(max_examples=25)
@given(st.data())
def test_a_file_cut_anywhere_holds_every_line_that_is_whole(data):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "r.csv")
        with open_journal(output, KIM) as journal:
            ends = []
            for number in range(4):
                journal.say(f"identity{number}", review(f"p{number}"))
                ends.append(os.path.getsize(journal.path))
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(journal.path, cut)
        os.remove(output)
        with open_journal(output, KIM) as again:
            whole = sum(end <= cut for end in ends)
            assert list(again.reviews) == [f"p{number}" for number in range(whole)]
            again.say("identity9", review("new"))
        with open_journal(output, KIM) as third:
            assert list(third.reviews) == [*(f"p{number}" for number in range(whole)), "new"]


def test_another_reader_another_kind_and_a_second_server_are_refused(tmp_path):
    output = str(tmp_path / "r.csv")
    with open_journal(output, KIM) as journal:
        journal.say("identity1", review("a"))
        with pytest.raises(OutputError, match="Another `wetread review` writes"):
            Journal(output, KIM)
    for study, words in (
        (Study(reader="Lee"), "--reader Kim"),
        (Study(reader="Kim", blind=True), "no --blind"),
        (Study(reader="Kim", seed=3), "--seed 0"),
    ):
        with pytest.raises(OutputError, match=f"was begun with {words}, not"):
            Journal(output, study)
    os.remove(journal.path)
    with pytest.raises(OutputError, match="has no journal"):
        Journal(output, KIM)
    assert not os.path.exists(journal.path)


def test_damage_within_is_refused_and_stays(tmp_path):
    output = str(tmp_path / "r.csv")
    with open_journal(output, KIM) as journal:
        for number in range(3):
            journal.say(f"identity{number}", review(f"p{number}"))
    data = Path(journal.path).read_bytes()
    broken = data.replace(b'"said":"identity1"', b'"said" "identity1"')
    Path(journal.path).write_bytes(broken)
    with pytest.raises(OutputError, match="Line 3 of .* is damaged"):
        Journal(output, KIM)
    assert Path(journal.path).read_bytes() == broken


def test_a_full_disk_takes_nothing_and_is_said(tmp_path, monkeypatch):
    output = str(tmp_path / "r.csv")
    with open_journal(output, KIM) as journal:
        journal.say("identity1", review("a"))

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("wetread.runtime.files.line_log.sync_file", fail)
            with pytest.raises(OutputError, match="No space left"):
                journal.say("identity2", review("b"))
        assert list(journal.reviews) == ["a"]
        journal.say("identity2", review("b"))
    with open_journal(output, KIM) as journal:
        assert list(journal.reviews) == ["a", "b"]


class JournalMachine(RuleBasedStateMachine):
    """Any order of saying, taking back and starting again, beside a plain list of states."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.output = str(Path(self.folder.name) / "r.csv")
        self.journal = Journal(self.output, KIM)
        self.states: list[dict[str, str]] = [{}]
        self.count = 0

    @rule(path=st.sampled_from("abc"), label=st.sampled_from(["NORMAL", "PNEUMONIA"]))
    def say(self, path: str, label: str) -> None:
        self.count += 1
        self.journal.say(f"identity{self.count}", review(path, label))
        self.states.append({**self.states[-1], path: label})

    @rule()
    def take_back(self) -> None:
        self.count += 1
        self.journal.take_back(f"identity{self.count}")
        self.states = self.states[:-1] or [{}]

    @rule()
    def start_again(self) -> None:
        self.journal.close()
        self.journal = Journal(self.output, KIM)

    @invariant()
    def holds_the_state(self) -> None:
        assert {path: one.label for path, one in self.journal.reviews.items()} == self.states[-1]

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=8, stateful_step_count=20)
