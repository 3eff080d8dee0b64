from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import draw_image
from tests.models import build_model, toy_spec
from wetread.errors import OutputError, SourceError, UsageError
from wetread.runtime.entries import Entry
from wetread.runtime.model.spec import Band
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, Tally, score_to_file
from wetread.runtime.shards.merge import MergeOptions, merge_shards
from wetread.runtime.shards.shard import Shard, ShardScorer, cut_shard, parse_name, parse_shard
from wetread.runtime.sources.manifest import Manifest, write_manifest
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest
from wetread.runtime.sources.opening import open_source

COUNT = 300


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Three hundred small inputs, every kind of broken one among them."""
    folder = tmp_path_factory.mktemp("images")
    whole = draw_image(1)
    broken = [b"", b"text", whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9"]
    for index in range(COUNT):
        place = folder / f"{index % 7}"
        place.mkdir(exist_ok=True)
        data = draw_image(index % 20) if index % 10 else broken[index // 10 % 4]
        (place / f"é,{index:03d}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.fixture(scope="module")
def manifest(images, tmp_path_factory) -> str:
    output = str(tmp_path_factory.mktemp("manifest") / "m")
    make_manifest(ManifestOptions(sources=(str(images),), output=output))
    return output


def options(manifest: str, folder: object, **changed) -> ScoreOptions:
    return ScoreOptions(from_manifest=manifest, output=str(folder), workers=2, **changed)


def score_all(classifier: Classifier, chosen: ScoreOptions, count: int) -> list[Tally]:
    scorer = ShardScorer(classifier, chosen)
    return [scorer.score(Shard(index, count)) for index in range(count)]


def merge(folder: object, output: object, **changed) -> Tally:
    return merge_shards(MergeOptions(folder=str(folder), output=str(output), **changed))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file's bytes, modification time and inode."""
    found = {}
    for path in folder.iterdir():
        status = path.stat()
        found[path.name] = (path.read_bytes(), status.st_mtime_ns, status.st_ino)
    return found


@pytest.fixture
def scored(classifier, manifest, tmp_path) -> Path:
    """A folder with the seven shards of the manifest."""
    folder = tmp_path / "shards"
    score_all(classifier, options(manifest, folder), 7)
    return folder


def test_shards_are_named_and_read_back():
    assert parse_shard("3/7") == Shard(3, 7)
    assert str(Shard(3, 7)) == "3/7"
    assert Shard(3, 7).name == "00003-of-00007.jsonl.shard"
    assert parse_name("00003-of-00007.jsonl.shard") == Shard(3, 7)
    assert parse_name("00003-of-00007 (1).jsonl.shard") is None
    assert parse_name(Shard(123_456, 200_000).name) == Shard(123_456, 200_000)


@pytest.mark.parametrize("text", ["", "3", "7/7", "-1/7", "0/0", "a/b", "1/2/3", " 1/2"])
def test_what_is_no_shard(text):
    with pytest.raises(UsageError, match="--shard (must be I/N|I/N needs I)"):
        parse_shard(text)


@given(st.integers(0, 300), st.integers(1, 40), st.sampled_from([5, 32]))
def test_slices_follow_one_another_and_are_all(tmp_path_factory, names, count, batch):
    path = tmp_path_factory.mktemp("m") / "m"
    with path.open("wb") as file:
        write_manifest((Entry(str(index), 1) for index in range(names)), file, origin={})
    manifest = Manifest(str(path))
    cuts = [cut_shard(manifest, Shard(index, count), batch_size=batch) for index in range(count)]
    assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])]
    assert cuts[-1][1] == names
    assert max(last - first for first, last in cuts) <= names // count + batch + 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_seven_shards_are_one_run(classifier, images, scored, tmp_path, kind):
    direct, merged = tmp_path / f"direct.{kind}", tmp_path / f"merged.{kind}"
    one = score_to_file(classifier, ScoreOptions(sources=(str(images),), output=str(direct)))
    tally = merge(scored, merged)
    assert merged.read_bytes() == direct.read_bytes()
    assert tally.counts == one.counts
    assert tally.rows == COUNT
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []


@pytest.mark.parametrize(("count", "batch"), [(1, 32), (3, 5), (40, 32), (7, 64)])
def test_any_number_of_shards_and_batch_size(classifier, images, manifest, tmp_path, count, batch):
    direct, merged = tmp_path / "direct.csv", tmp_path / "merged.csv"
    chosen = ScoreOptions(sources=(str(images),), output=str(direct), batch_size=batch)
    score_to_file(classifier, chosen)
    score_all(classifier, options(manifest, tmp_path / "shards", batch_size=batch), count)
    merge(tmp_path / "shards", merged)
    assert merged.read_bytes() == direct.read_bytes()


def test_columns_after_error_are_those_of_one_run(classifier, images, manifest, tmp_path):
    direct, merged = tmp_path / "direct.csv", tmp_path / "merged.csv"
    tags = ("StudyDate", "SOPInstanceUID")
    score_to_file(classifier, ScoreOptions(sources=(str(images),), output=str(direct), dicom_tags=tags))
    score_all(classifier, options(manifest, tmp_path / "shards", dicom_tags=tags), 3)
    merge(tmp_path / "shards", merged)
    assert merged.read_bytes() == direct.read_bytes()
    assert merged.read_text().splitlines()[0].endswith("error,StudyDate,SOPInstanceUID")
    with pytest.raises(OutputError, match="is of another run, with dicom_tags"):
        ShardScorer(classifier, options(manifest, tmp_path / "shards")).score(Shard(0, 3))


def test_uncertain_needs_a_band(classifier, manifest, tmp_path):
    with pytest.raises(UsageError, match="band around its threshold"):
        ShardScorer(classifier, options(manifest, tmp_path, uncertain=True))


def test_uncertain_is_that_of_one_run(images, manifest, tmp_path):
    banded = Classifier(
        build_model(replace(toy_spec(), uncertain=Band(low=0.3, high=0.7, rule="test"))), device="cpu"
    )
    direct, merged = tmp_path / "direct.csv", tmp_path / "merged.csv"
    score_to_file(banded, ScoreOptions(sources=(str(images),), output=str(direct), uncertain=True))
    score_all(banded, options(manifest, tmp_path / "shards", uncertain=True), 3)
    merge(tmp_path / "shards", merged)
    assert merged.read_bytes() == direct.read_bytes()
    assert b",true\n" in merged.read_bytes()


def test_without_a_shard_it_is_one_ordinary_output(classifier, images, manifest, tmp_path):
    direct, listed = tmp_path / "direct.csv", tmp_path / "listed.csv"
    score_to_file(classifier, ScoreOptions(sources=(str(images),), output=str(direct)))
    score_to_file(classifier, options(manifest, listed))
    assert listed.read_bytes() == direct.read_bytes()
    record = json.loads((tmp_path / "listed.csv.run.json").read_text())
    assert record["identity"]["manifest"] == Manifest(manifest).digest


def test_the_record_of_a_merge(classifier, manifest, scored, tmp_path):
    merge(scored, tmp_path / "merged.csv")
    record = json.loads((tmp_path / "merged.csv.run.json").read_text())
    assert record["shards"] == 7
    assert record["rows"] == sum(record["counts"].values()) == COUNT
    assert record["identity"]["manifest"] == Manifest(manifest).digest
    assert record["model"]["sha256"] == classifier.digest
    resumed = score_to_file(classifier, options(manifest, tmp_path / "merged.csv", resume=True))
    assert resumed.resumed == COUNT


def test_a_shard_run_twice_changes_nothing(classifier, manifest, scored, monkeypatch):
    before = snapshot(scored)
    monkeypatch.setattr(classifier, "classify", None)
    tallies = score_all(classifier, options(manifest, scored), 7)
    assert snapshot(scored) == before
    assert sum(tally.resumed for tally in tallies) == COUNT
    assert sum(tally.failed for tally in tallies) == 30


def test_two_tasks_at_once_leave_one_shard(classifier, manifest, tmp_path):
    chosen, shard = options(manifest, tmp_path / "shards"), Shard(0, 2)
    other: list[Tally] = []

    def run_the_other(_: Tally) -> None:
        if not other:
            other.append(ShardScorer(classifier, chosen).score(shard))
            states.append(snapshot(tmp_path / "shards"))

    states: list[dict] = []
    tally = ShardScorer(classifier, chosen).score(shard, watch=run_the_other)
    assert tally.rows == other[0].rows == 160
    assert [snapshot(tmp_path / "shards")] == states


def test_another_tasks_other_rows_are_refused(classifier, manifest, tmp_path, monkeypatch):
    chosen, shard = options(manifest, tmp_path / "shards"), Shard(0, 2)
    right, done = classifier.classify, []

    def run_a_wrong_one(_: Tally) -> None:
        if not done:
            done.append(True)
            monkeypatch.setattr(classifier, "classify", lambda images: right(images)[:, ::-1])
            ShardScorer(classifier, chosen).score(shard)
            monkeypatch.setattr(classifier, "classify", right)

    with pytest.raises(OutputError, match="was written meanwhile, with other rows"):
        ShardScorer(classifier, chosen).score(shard, watch=run_a_wrong_one)


def test_an_interrupted_shard_leaves_nothing(classifier, manifest, tmp_path):
    tally = ShardScorer(classifier, options(manifest, tmp_path / "shards")).score(
        Shard(0, 1), stop=lambda: True
    )
    assert tally.interrupted
    assert 0 < tally.rows < COUNT
    assert not (tmp_path / "shards").exists()


def test_a_missing_shard_is_named(scored, tmp_path):
    (scored / Shard(3, 7).name).unlink()
    (scored / Shard(5, 7).name).unlink()
    with pytest.raises(OutputError, match=r"has 5 of 7 shards: 3/7, 5/7 missing"):
        merge(scored, tmp_path / "merged.csv")
    assert not list(tmp_path.glob("merged*"))


def test_many_missing_shards_are_counted(classifier, manifest, tmp_path):
    ShardScorer(classifier, options(manifest, tmp_path / "shards")).score(Shard(0, 30))
    with pytest.raises(OutputError, match=r"1/30, 2/30, .*, 10/30 and 19 more missing"):
        merge(tmp_path / "shards", tmp_path / "merged.csv")


@pytest.mark.parametrize(
    "name", ["00003-of-00007 (1).jsonl.shard", "copy.shard", "000003-of-00007.jsonl.shard"]
)
def test_a_copied_shard_is_named(scored, tmp_path, name):
    (scored / name).write_bytes((scored / Shard(3, 7).name).read_bytes())
    with pytest.raises(OutputError, match="its own name") as caught:
        merge(scored, tmp_path / "merged.csv")
    assert repr(name) in str(caught.value)


def test_a_shard_under_anothers_name_is_named(scored, tmp_path):
    (scored / Shard(4, 7).name).write_bytes((scored / Shard(3, 7).name).read_bytes())
    with pytest.raises(OutputError, match=r"has the name of shard 4/7, but is a copy of shard 3/7"):
        merge(scored, tmp_path / "merged.csv")
    assert not (tmp_path / "merged.csv").exists()


def test_shards_of_another_division_are_named(classifier, manifest, scored, tmp_path):
    ShardScorer(classifier, options(manifest, scored)).score(Shard(0, 8))
    with pytest.raises(OutputError, match="different numbers of shards") as caught:
        merge(scored, tmp_path / "merged.csv")
    assert Shard(0, 7).name in str(caught.value)
    assert Shard(0, 8).name in str(caught.value)


def test_a_shard_of_another_model_is_named(manifest, scored, tmp_path):
    (scored / Shard(2, 7).name).unlink()
    other = Classifier(build_model(toy_spec(), seed=1), device="cpu")
    ShardScorer(other, options(manifest, scored)).score(Shard(2, 7))
    with pytest.raises(OutputError, match="is of another run, with model") as caught:
        merge(scored, tmp_path / "merged.csv")
    assert Shard(2, 7).name in str(caught.value)
    with pytest.raises(OutputError, match="is of another run, with model"):
        ShardScorer(other, options(manifest, scored)).score(Shard(0, 7))


def test_a_shard_of_another_manifest_is_named(classifier, images, scored, tmp_path):
    (scored / Shard(2, 7).name).unlink()
    make_manifest(ManifestOptions(sources=(str(images / "1"),), output=str(tmp_path / "other")))
    ShardScorer(classifier, options(str(tmp_path / "other"), scored)).score(Shard(2, 7))
    with pytest.raises(OutputError, match="is of another run, with manifest") as caught:
        merge(scored, tmp_path / "merged.csv")
    assert Shard(2, 7).name in str(caught.value)


def test_every_byte_of_a_shard_is_held_to_its_digest(classifier, tmp_path, manifest):
    folder = tmp_path / "shards"
    scorer = ShardScorer(classifier, options(manifest, folder))
    scorer.score(Shard(59, 60))
    path = folder / Shard(59, 60).name
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(OutputError, match="shard"):
            scorer.score(Shard(59, 60))
    for data in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"\n", whole + whole):
        path.write_bytes(data)
        with pytest.raises(OutputError, match="is damaged or incomplete"):
            scorer.score(Shard(59, 60))


def test_a_damaged_shard_is_not_merged(scored, tmp_path):
    path = scored / Shard(6, 7).name
    path.write_bytes(path.read_bytes().replace(b'"ok"', b'"OK"', 1))
    with pytest.raises(OutputError, match="is damaged or incomplete") as caught:
        merge(scored, tmp_path / "merged.csv")
    assert path.name in str(caught.value)
    assert not (tmp_path / "merged.csv").exists()
    path.unlink()


def test_an_interrupted_merge_is_begun_anew(scored, tmp_path):
    chosen = MergeOptions(folder=str(scored), output=str(tmp_path / "merged.csv"))
    assert merge_shards(chosen, stop=lambda: True).interrupted
    assert not (tmp_path / "merged.csv").exists()
    assert merge_shards(chosen).rows == COUNT
    with pytest.raises(OutputError, match="finished output"):
        merge_shards(chosen)
    assert merge(scored, tmp_path / "merged.csv", overwrite=True).rows == COUNT


def test_nothing_to_merge(tmp_path):
    with pytest.raises(SourceError, match="There are no shards"):
        merge(tmp_path / "absent", tmp_path / "merged.csv")
    with pytest.raises(UsageError, match="ends in"):
        merge(tmp_path, tmp_path / "merged.txt")


def test_an_empty_manifest_is_an_empty_output(classifier, tmp_path):
    (tmp_path / "none").mkdir()
    none = (str(tmp_path / "none"),)
    make_manifest(ManifestOptions(sources=none, output=str(tmp_path / "m"), allow_empty=True))
    asked = options(str(tmp_path / "m"), tmp_path / "shards")
    with pytest.raises(SourceError, match="lists no input"):
        score_all(classifier, asked, 2)
    score_all(classifier, replace(asked, allow_empty=True), 2)
    assert merge(tmp_path / "shards", tmp_path / "merged.csv").rows == 0
    score_to_file(classifier, ScoreOptions(sources=none, output=str(tmp_path / "one.csv"), allow_empty=True))
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_shards_are_no_inputs(scored):
    (scored / "image.jpg").write_bytes(draw_image(1))
    assert [os.path.basename(entry.name) for entry in open_source(scored).entries()] == ["image.jpg"]


def test_options_that_shards_do_not_have(classifier, manifest, tmp_path):
    with pytest.raises(UsageError, match="--overwrite"):
        ShardScorer(classifier, options(manifest, tmp_path, overwrite=True))
    with pytest.raises(UsageError, match="--from-manifest"):
        ShardScorer(classifier, ScoreOptions(sources=("x",), output="y"))
    with pytest.raises(UsageError, match="--include"):
        options(manifest, tmp_path, include="*")
    with pytest.raises(UsageError, match="SOURCE and --from-manifest cannot be used together"):
        options(manifest, tmp_path, sources=("x",))


def test_a_bucket(cloud, classifier, images, tmp_path):
    cloud.buckets.fill("b", str(images), prefix="x/")
    cloud.buckets.create("out")
    make_manifest(ManifestOptions(sources=("gs://b/x",), output="gs://out/m"))
    chosen = options("gs://out/m", "gs://out/shards/")
    score_all(classifier, chosen, 7)
    names = cloud.buckets.names("out")
    assert [name for name in names if "shard" in name] == [f"shards/{Shard(i, 7).name}" for i in range(7)]
    generations = [cloud.buckets.get("out", name).generation for name in names]
    tallies = score_all(classifier, chosen, 7)
    assert sum(tally.resumed for tally in tallies) == COUNT
    assert [cloud.buckets.get("out", name).generation for name in names] == generations
    direct = tmp_path / "direct.csv"
    score_to_file(classifier, ScoreOptions(sources=("gs://b/x",), output=str(direct)))
    merge("gs://out/shards", tmp_path / "merged.csv")
    merge("gs://out/shards/", "gs://out/merged.csv")
    assert (tmp_path / "merged.csv").read_bytes() == direct.read_bytes()
    assert cloud.buckets.get("out", "merged.csv").data == direct.read_bytes()
    cloud.buckets.delete("out", f"shards/{Shard(3, 7).name}", conditions={})
    with pytest.raises(OutputError, match="3/7 missing"):
        merge("gs://out/shards", tmp_path / "again.csv")
    assert ShardScorer(classifier, chosen).score(Shard(3, 7)).resumed == 0


def test_two_tasks_at_once_in_a_bucket(cloud, classifier, manifest):
    cloud.buckets.create("out")
    chosen, shard = options(manifest, "gs://out/shards"), Shard(0, 2)
    other: list[int] = []

    def run_the_other(_: Tally) -> None:
        if not other:
            ShardScorer(classifier, chosen).score(shard)
            other.append(cloud.buckets.get("out", f"shards/{shard.name}").generation)

    ShardScorer(classifier, chosen).score(shard, watch=run_the_other)
    assert other == [cloud.buckets.get("out", f"shards/{shard.name}").generation]


def test_a_bucket_that_is_not_there(cloud, classifier, manifest):
    with pytest.raises(OutputError, match="bucket 'absent'"):
        ShardScorer(classifier, options(manifest, "gs://absent/shards")).score(Shard(0, 2))
