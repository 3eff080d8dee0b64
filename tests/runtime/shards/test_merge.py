"""What a merge may take the place of; what it writes is in test_shards.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import draw_image
from wetread.errors import OutputError
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.scoring.run import ScoreOptions, Tally, score_to_file
from wetread.runtime.shards.merge import MergeOptions, merge_shards
from wetread.runtime.shards.shard import Shard, ShardScorer
from wetread.runtime.sources.manifest_writing import ManifestOptions, make_manifest

COUNT = 40


@pytest.fixture(scope="module")
def classifier(toy_model) -> Classifier:
    return Classifier(toy_model, device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index in range(COUNT):
        (folder / f"{index:02d}.jpg").write_bytes(draw_image(index))
    return folder


@pytest.fixture(scope="module")
def manifest(images, tmp_path_factory) -> str:
    output = str(tmp_path_factory.mktemp("manifest") / "m")
    make_manifest(ManifestOptions(sources=(str(images),), output=output))
    return output


@pytest.fixture(scope="module")
def scored(classifier, manifest, tmp_path_factory) -> Path:
    """A folder with the two shards of the manifest."""
    folder = tmp_path_factory.mktemp("shards")
    scorer = ShardScorer(classifier, ScoreOptions(from_manifest=manifest, output=str(folder), batch_size=8))
    for index in range(2):
        scorer.score(Shard(index, 2))
    return folder


def merge(folder: Path, output: object, **changed) -> Tally:
    return merge_shards(MergeOptions(folder=str(folder), output=str(output), **changed))


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["folder", "manifest"])
def test_an_interrupted_score_is_not_begun_anew(classifier, images, manifest, scored, tmp_path, kind, source):
    """Not even one of the same inputs, model and options."""
    path = tmp_path / f"s.{kind}"
    named = {"sources": (str(images),)} if source == "folder" else {"from_manifest": manifest}
    chosen = ScoreOptions(**named, output=str(path), batch_size=8, workers=1)
    assert score_to_file(classifier, chosen, stop=lambda: True).interrupted
    before = read_all(tmp_path)
    with pytest.raises(OutputError, match="an unfinished output. Use --overwrite"):
        merge(scored, path)
    assert read_all(tmp_path) == before
    resumed = ScoreOptions(**named, output=str(path), batch_size=8, workers=1, resume=True)
    assert score_to_file(classifier, resumed).resumed == 8
    path.unlink()
    assert merge(scored, path, overwrite=True).rows == COUNT


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_interrupted_merge_is_begun_anew_and_not_resumed_by_a_score(
    classifier, manifest, scored, tmp_path, kind
):
    path = tmp_path / f"s.{kind}"
    chosen = MergeOptions(folder=str(scored), output=str(path))
    assert merge_shards(chosen, stop=lambda: True).interrupted
    with pytest.raises(OutputError, match="begun with another merged"):
        score_to_file(
            classifier, ScoreOptions(from_manifest=manifest, output=str(path), batch_size=8, resume=True)
        )
    assert merge_shards(chosen).rows == COUNT


@pytest.mark.parametrize("state", [b"", b'{"version":1,"ident', None])
def test_one_that_was_killed_before_its_first_row_is_begun_anew(scored, tmp_path, state):
    """And one with rows that nothing vouches for is left as it is."""
    path, part = tmp_path / "s.csv", tmp_path / "s.csv.part"
    header = b"path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n"
    for rows, taken in ((b"in/0.jpg,ok,NORMAL,1.0,1.0,0.0,\n", False), (b"", True)):
        part.write_bytes(header + rows)
        if state is not None:
            Path(f"{part}.state").write_bytes(state)
        if taken:
            assert merge(scored, path).rows == COUNT
        else:
            before = read_all(tmp_path)
            with pytest.raises(OutputError, match="an unfinished output"):
                merge(scored, path)
            assert read_all(tmp_path) == before


def test_a_merged_output_that_was_cut_is_no_finished_run(classifier, manifest, scored, tmp_path):
    path = tmp_path / "s.csv"
    merge(scored, path)
    resumed = ScoreOptions(from_manifest=manifest, output=str(path), batch_size=8, resume=True)
    assert score_to_file(classifier, resumed).resumed == COUNT
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(OutputError, match="cut or changed since"):
        score_to_file(classifier, resumed)


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_output_of_a_watch_is_never_taken(scored, tmp_path, overwrite):
    (tmp_path / "s.csv").write_text("rows\n")
    (tmp_path / "s.csv.watch").write_text("journal\n")
    before = read_all(tmp_path)
    with pytest.raises(OutputError, match="belongs to `wetread watch`"):
        merge(scored, tmp_path / "s.csv", overwrite=overwrite)
    assert read_all(tmp_path) == before
    os.remove(tmp_path / "s.csv")
    with pytest.raises(OutputError, match="belongs to `wetread watch`"):
        merge(scored, tmp_path / "s.csv", overwrite=overwrite)


def test_in_a_bucket_too(cloud, classifier, images, manifest, scored):
    cloud.buckets.create("out")
    output = "gs://out/s.csv"
    chosen = ScoreOptions(from_manifest=manifest, output=output, batch_size=8, workers=1)
    assert score_to_file(classifier, chosen, stop=lambda: True).interrupted
    before = cloud.buckets.names("out")
    with pytest.raises(OutputError, match="an unfinished output. Use --overwrite"):
        merge(scored, output)
    assert cloud.buckets.names("out") == before
    interrupted = MergeOptions(folder=str(scored), output=output, overwrite=True)
    assert merge_shards(interrupted, stop=lambda: True).interrupted
    assert merge(scored, output).rows == COUNT
