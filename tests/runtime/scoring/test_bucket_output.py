"""Outputs in a bucket: whole or not there, resumed without this machine's disk, never over another's."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import draw_image
from tests.runtime.gcs_server import Faults, Server
from wetread.errors import OutputError, SourceError
from wetread.runtime.scoring import bucket_output as gcs_output
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, Tally, score_to_file

IN, OUT = "gs://b/images", "gs://out/runs/scores.csv"


@pytest.fixture
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.fixture
def images(cloud, tmp_path) -> Path:
    """Forty inputs, some of them broken, in a folder and in a bucket; and an empty bucket."""
    folder = tmp_path / "images"
    for index in range(40):
        data = draw_image(index) if index % 9 else b"not an image"
        place = folder / f"{index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:02d}.jpg").write_bytes(data)
    cloud.buckets.fill("b", str(folder), prefix="images/")
    cloud.buckets.create("out")
    return folder


def run(classifier: Classifier, output: str = OUT, **options) -> Tally:
    chosen = ScoreOptions(sources=(IN,), output=output, batch_size=4, workers=2, **options)
    return score_to_file(classifier, chosen)


def stored(cloud: Server, location: str = OUT) -> bytes:
    bucket, _, name = location.removeprefix("gs://").partition("/")
    return cloud.buckets.get(bucket, name).data


def expected_csv(classifier: Classifier, images: Path, folder: Path) -> bytes:
    """What a run on the disk's copy writes to a local file, with the bucket's names."""
    output = folder / "expected.csv"
    score_to_file(classifier, ScoreOptions(sources=(str(images),), output=str(output)))
    return output.read_bytes().replace(str(images).encode(), IN.encode())


def test_the_rows_are_those_of_a_local_run(cloud, classifier, images, tmp_path):
    tally = run(classifier)
    assert tally.counts == {"ok": 35, "not_an_image": 5}
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)
    assert cloud.buckets.names("out") == ["runs/scores.csv", "runs/scores.csv.run.json"]
    assert cloud.buckets.get("out", "runs/scores.csv").content_type == "text/csv; charset=utf-8"


def test_the_record_tells_how_the_reading_went(cloud, classifier, images):
    run(classifier)
    record = json.loads(stored(cloud, OUT + ".run.json"))
    assert record["counts"] == {"not_an_image": 5, "ok": 35}
    assert record["storage"]["reader"] == "direct"
    assert record["storage"]["objects"] == 40
    assert set(record["seconds"]) == {"list", "read", "decode", "infer", "write"}
    assert "identity" in record


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_formats(cloud, classifier, images, tmp_path, kind):
    run(classifier, f"gs://out/s.{kind}")
    local = tmp_path / f"s.{kind}"
    score_to_file(classifier, ScoreOptions(sources=(IN,), output=str(local), batch_size=4))
    assert stored(cloud, f"gs://out/s.{kind}") == local.read_bytes()
    assert cloud.buckets.names("out") == [f"s.{kind}", f"s.{kind}.run.json"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_nothing_to_score_is_an_output_too(cloud, classifier, kind):
    cloud.buckets.create("b")
    cloud.buckets.create("out")
    cloud.buckets.put("b", "images/", b"")
    with pytest.raises(SourceError, match="no file in 'gs://b/images/' is an input"):
        run(classifier, f"gs://out/s.{kind}")
    assert cloud.buckets.names("out") == []
    assert run(classifier, f"gs://out/s.{kind}", allow_empty=True).rows == 0
    header = b"path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n"
    assert stored(cloud, f"gs://out/s.{kind}")[:58] == {"csv": header, "jsonl": b""}.get(
        kind, stored(cloud, f"gs://out/s.{kind}")[:58]
    )


def test_many_parts_are_joined_in_steps(cloud, classifier, images, tmp_path, monkeypatch):
    monkeypatch.setattr(gcs_output, "_PART_BYTES", 1)
    big = tmp_path / "many"
    big.mkdir()
    for index in range(150):
        (big / f"{index:03d}.jpg").write_bytes(b"not an image" if index else draw_image(0))
    cloud.buckets.drop("b")
    cloud.buckets.fill("b", str(big), prefix="images/")
    run(classifier)
    assert cloud.buckets.get("out", "runs/scores.csv").components == 38
    assert stored(cloud) == expected_csv(classifier, big, tmp_path)
    assert cloud.buckets.names("out") == ["runs/scores.csv", "runs/scores.csv.run.json"]


def test_an_existing_output_is_left_alone(cloud, classifier, images):
    run(classifier)
    before = cloud.buckets.get("out", "runs/scores.csv")
    with pytest.raises(OutputError, match="is already there, a finished output"):
        run(classifier)
    assert run(classifier, resume=True).resumed == 40
    assert cloud.buckets.get("out", "runs/scores.csv") == before
    run(classifier, overwrite=True)
    after = cloud.buckets.get("out", "runs/scores.csv")
    assert after.data == before.data
    assert after.generation > before.generation


def test_a_users_own_object_is_not_taken_for_an_output(cloud, classifier, images):
    cloud.buckets.put("out", "runs/scores.csv", b"mine")
    with pytest.raises(OutputError, match="has no record of a run"):
        run(classifier, resume=True)
    assert stored(cloud) == b"mine"


class Stop:
    """Says stop after so many chunks."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def begin(classifier: Classifier, *, chunks: int = 4) -> None:
    """A run that was told to stop after some chunks."""
    options = ScoreOptions(sources=(IN,), output=OUT, batch_size=4, workers=2)
    assert score_to_file(classifier, options, stop=Stop(chunks)).interrupted


def test_an_interrupted_run_resumes_where_it_was(cloud, classifier, images, tmp_path):
    begin(classifier)
    assert "runs/scores.csv" not in cloud.buckets.names("out")
    with pytest.raises(OutputError, match="is already there, an unfinished output"):
        run(classifier)
    asked = cloud.counts["requests"]
    tally = run(classifier, resume=True)
    assert tally.resumed == 16
    assert tally.rows == 40
    assert cloud.counts["requests"] - asked < 24 + 35  # what was scored is not read again
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)
    assert cloud.buckets.names("out") == ["runs/scores.csv", "runs/scores.csv.run.json"]


def test_a_changed_object_cannot_be_resumed_over(cloud, classifier, images):
    begin(classifier)
    cloud.buckets.put("b", "images/0/00.jpg", cloud.buckets.get("b", "images/0/00.jpg").data)
    with pytest.raises(OutputError, match="Input 1 changed since"):
        run(classifier, resume=True)
    run(classifier, overwrite=True)
    assert len(stored(cloud).splitlines()) == 41


def test_another_model_cannot_resume(cloud, classifier, images):
    begin(classifier)
    classifier.digest = "0" * 64
    with pytest.raises(OutputError, match="begun with another model"):
        run(classifier, resume=True)


def test_overwriting_an_unfinished_output_clears_it_away(cloud, classifier, images, tmp_path):
    begin(classifier)
    run(classifier, overwrite=True)
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)
    assert cloud.buckets.names("out") == ["runs/scores.csv", "runs/scores.csv.run.json"]


def test_outputs_in_the_source_are_no_inputs(cloud, classifier, images):
    inside = IN + "/scores.csv"
    options = ScoreOptions(sources=(IN,), output=inside, batch_size=4)
    assert score_to_file(classifier, options, stop=Stop(3)).interrupted
    assert run(classifier, inside, resume=True).rows == 40
    assert run(classifier, inside, overwrite=True).rows == 40


def test_two_runs_that_begin_at_once(cloud, classifier, images):
    first, second = (make_output(classifier) for _ in range(2))
    assert first.look() == second.look() == (False, False)
    first.start()
    with pytest.raises(OutputError, match="Another run has written to 'gs://out/runs/scores.csv'"):
        second.start()


def test_a_run_that_was_resumed_elsewhere_is_told(cloud, classifier, images, monkeypatch, tmp_path):
    """The first run was only slow, not dead: the one that resumed it goes on, and it is told."""
    monkeypatch.setattr(gcs_output, "_PART_BYTES", 1)

    def resume_elsewhere(tally: Tally) -> None:
        if tally.rows == 12:
            other = make_output(classifier)
            other.look()
            other.resume()

    options = ScoreOptions(sources=(IN,), output=OUT, batch_size=4, workers=2)
    with pytest.raises(OutputError, match="Another run has written to"):
        score_to_file(classifier, options, watch=resume_elsewhere)
    assert run(classifier, resume=True).resumed == 12
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)


def test_what_appeared_meanwhile_is_not_replaced_unseen(cloud, classifier, images):
    begin(classifier)
    cloud.buckets.put("out", "runs/scores.csv", b"somebody else's")
    with pytest.raises(OutputError, match="Another run has written to"):
        run(classifier, resume=True)
    assert stored(cloud) == b"somebody else's"


def make_output(classifier: Classifier) -> gcs_output.BucketOutput:
    from wetread.runtime.scoring.output_opening import make_output
    from wetread.runtime.scoring.run import run_identity

    options = ScoreOptions(sources=(IN,), output=OUT, batch_size=4, workers=2)
    identity = run_identity(classifier, options)
    return make_output(OUT, labels=classifier.spec.labels, kind="csv", identity=identity)  # type: ignore[return-value]


def test_answers_that_are_lost_do_not_make_strangers_of_us(cloud, classifier, images, monkeypatch, tmp_path):
    """Every write succeeds, and every third time nobody hears of it."""
    monkeypatch.setattr(gcs_output, "_PART_BYTES", 1)
    cloud.faults = Faults(lose_answers=3)
    run(classifier)
    assert cloud.counts["reset"] >= 5
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)
    assert cloud.buckets.names("out") == ["runs/scores.csv", "runs/scores.csv.run.json"]


def test_faults_while_writing(cloud, classifier, images, monkeypatch, tmp_path):
    monkeypatch.setattr(gcs_output, "_PART_BYTES", 1)
    cloud.faults = Faults(throttle=7, truncate=31, reset=37, corrupt=23, lose_answers=11)
    run(classifier)
    cloud.faults = Faults()
    assert stored(cloud) == expected_csv(classifier, images, tmp_path)


def test_no_permission_to_write_says_what_to_grant(cloud, classifier, images):
    cloud.faults = Faults(denied=("create",))
    with pytest.raises(OutputError, match=r"lacks storage.objects.create on 'gs://out/runs/scores.csv'"):
        run(classifier)


def test_an_unknown_bucket_is_one_error(cloud, classifier, images):
    with pytest.raises(OutputError, match=r"The bucket 'nowhere' of 'gs://nowhere/s.csv'"):
        run(classifier, "gs://nowhere/s.csv")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("chunks", [None, 4])
def test_a_finished_output_is_held_to_its_record(cloud, classifier, images, kind, chunks):
    """Written at once, or by a run that was resumed; without reading an object."""
    output = f"gs://out/s.{kind}"
    if chunks:
        options = ScoreOptions(sources=(IN,), output=output, batch_size=4, workers=2)
        assert score_to_file(classifier, options, stop=Stop(chunks)).interrupted
    assert run(classifier, output, resume=True).rows == 40
    asked = cloud.counts["requests"]
    assert run(classifier, output, resume=True).resumed == 40
    assert cloud.counts["requests"] - asked < 12
    written = cloud.buckets.get("out", f"s.{kind}").data
    cloud.buckets.put("out", f"s.{kind}", written[:-9])
    with pytest.raises(
        OutputError, match=f"written: {len(written):,} bytes, crc32c .* then, {len(written) - 9:,} bytes"
    ):
        run(classifier, output, resume=True)
    cloud.buckets.put("out", f"s.{kind}", written)
    assert run(classifier, output, resume=True).resumed == 40
    cloud.buckets.put("b", "images/0/03.jpg", cloud.buckets.get("b", "images/0/03.jpg").data)
    with pytest.raises(OutputError, match="Input 2 changed since .* was written"):
        run(classifier, output, resume=True)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("begun", [False, True])
def test_no_rows_stand_beside_another_runs_record(cloud, classifier, images, monkeypatch, kind, begun):
    """Killed before any of the requests by which an output takes its name."""
    names = ("write_object", "join_objects", "delete_object")
    for number in range(100):
        output, name = f"gs://out/{number}/s.{kind}", f"{number}/s.{kind}"
        if begun:
            run(classifier, output)
        old = stored(cloud, output + ".run.json") if begun else None
        finished = False
        with monkeypatch.context() as patched:
            left, real = [number], gcs_output.BucketOutput.finish

            def finish(self, record, left=left, real=real, patched=patched):
                def call(*args, send, **options):
                    if not left[0]:
                        raise Killed
                    left[0] -= 1
                    return send(*args, **options)

                self._flush()
                for one in names:
                    patched.setattr(gcs_output, one, partial(call, send=getattr(gcs_output, one)))
                real(self, record)

            patched.setattr(gcs_output.BucketOutput, "finish", finish)
            patched.setattr(gcs_output.BucketOutput, "close", lambda self: None)
            try:
                run(classifier, output, overwrite=begun)
                finished = True
            except Killed:
                pass
        found = cloud.buckets.names("out")
        if name in found and f"{name}.run.json" in found:
            notes = cloud.buckets.get("out", name).metadata
            assert notes["wetread-run"] == json.loads(stored(cloud, output + ".run.json"))["run"]
        assert run(classifier, output, resume=True).rows == 40
        assert stored(cloud, output + ".run.json") != old
        left_over = [one for one in cloud.buckets.names("out") if one.startswith(f"{number}/")]
        assert left_over == [name, f"{name}.run.json"]
        if finished:
            break
    assert number >= 4


# A kill loses at most what grew since the last part: small parts make every kill worth something.
SCORE = (
    "import wetread.runtime.scoring.bucket_output as module\n"
    "module._PART_SECONDS = 0.02; module._PART_SHARE = 0.0\n"
    "from wetread.cli import main; main()"
)


def wait_for_progress(cloud: Server, process: subprocess.Popen, output: str, *, parts: int | None) -> None:
    """Wait until a run began and wrote so many parts more; None: until its output has its name."""
    name = output.removeprefix("gs://out/")

    def look() -> tuple[bool, int]:
        found = [other for other in cloud.buckets.names("out") if other.startswith(name)]
        begun = f"{name}.part/head" in found if parts is not None else name in found
        return begun, sum(other.endswith(".state") for other in found)

    before = look()[1]
    while process.poll() is None:
        begun, states = look()
        if begun and states - before >= (parts or 0):
            return
        time.sleep(0.002)


def kill_and_resume(cloud: Server, model: Path, *, times: int, seed: int) -> None:
    """Kill gs:// to gs:// runs at random moments, resume each, and hold them to an uninterrupted one."""
    command = [sys.executable, "-c", SCORE, "score", IN, "--model", str(model), "--batch-size", "4", "-o"]
    assert subprocess.run([*command, "gs://out/whole.csv"], timeout=120, check=False).returncode == 3
    cloud.faults = Faults(latency=0.005)
    chance, killed = random.Random(seed), 0
    for index in range(times):
        output = f"gs://out/{index}.csv"
        for _ in range(chance.randint(1, 3)):
            process = subprocess.Popen([*command, output, "--resume"], stderr=subprocess.DEVNULL)
            wait_for_progress(cloud, process, output, parts=chance.choice((0, 1, 2, 4, 8, None)))
            time.sleep(chance.uniform(0, 0.03))
            killed += process.poll() is None
            process.kill()
            process.wait()
        assert subprocess.run([*command, output, "--resume"], timeout=120, check=False).returncode == 3
        assert stored(cloud, output) == stored(cloud, "gs://out/whole.csv")
        left = [name for name in cloud.buckets.names("out") if name.startswith(f"{index}.")]
        assert left == [f"{index}.csv", f"{index}.csv.run.json"]
    assert killed


def test_killed_runs_resume_to_the_same_bytes(cloud, toy_model, images):
    cloud.buckets.fill("b", str(images), count=600, prefix="images/")
    kill_and_resume(cloud, toy_model, times=2, seed=0)


@pytest.mark.long
def test_thirty_killed_runs_resume_to_the_same_bytes(cloud, toy_model, images):
    cloud.buckets.fill("b", str(images), count=600, prefix="images/")
    kill_and_resume(cloud, toy_model, times=30, seed=int(os.environ.get("WETREAD_SEED", "1")))
