"""A folder in a bucket as a folder on this disk, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.keys import write_keys
from tests.runtime.gcs_server import Faults
from wetread.errors import ModelError, OutputError, SourceError, TamperedModelError
from wetread.runtime.gcs.bucket_folder import read_file, stage_file, stage_folder
from wetread.runtime.model.signature import sign_model
from wetread.runtime.scoring.classifier import Classifier

PLACE = "gs://b/run"
NAMES = ("a.txt", "deep/b.txt", "new/c.txt", "new.txt", "done.json", "absent.txt")


@pytest.fixture
def bucket(cloud):
    cloud.buckets.create("b")
    for name in (
        "run/a.txt",
        "run/deep/b.txt",
        "run/cache/x.npy",
        "run/.lock",
        "run/",
        "runaway.txt",
        "run/../up",
    ):
        cloud.buckets.put("b", name, f"the bytes of {name}".encode())
    return cloud


def list_files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_a_local_folder_is_itself(tmp_path):
    with stage_folder(tmp_path, names=NAMES) as staged:
        assert staged.folder == str(tmp_path)
        staged.publish()
    with stage_file(tmp_path / "x") as file:
        assert file.path == str(tmp_path / "x")
        assert file.name_of(file.path) == file.path


def test_what_belongs_is_fetched(bucket):
    with stage_folder(PLACE, names=NAMES) as staged:
        assert list_files(staged.folder) == ["a.txt", "deep/b.txt"]
        assert (Path(staged.folder) / "deep" / "b.txt").read_bytes() == b"the bytes of run/deep/b.txt"
        place = Path(staged.folder)
    assert not place.exists()


def test_what_changed_is_published_and_the_last_one_last(bucket):
    with stage_folder(PLACE, names=NAMES, last="done.json") as staged:
        folder = Path(staged.folder)
        (folder / "done.json").write_text("done")
        (folder / "new").mkdir()
        (folder / "new" / "c.txt").write_text("new")
        (folder / "a.txt").write_text("changed")
        (folder / "deep" / "b.txt").unlink()
        (folder / ".passing").write_text("not yet")
        (folder / "cache").mkdir()
        (folder / "cache" / "y.npy").write_text("large")
        bucket.keep_log = True
        staged.publish()
        written = [line for line in bucket.log if line.startswith("POST")]
        staged.publish()  # and nothing twice
        assert [line for line in bucket.log if line.startswith("POST")] == written
    assert len(written) == 3
    left = [
        "run/",
        "run/../up",
        "run/.lock",
        "run/a.txt",
        "run/cache/x.npy",
        "run/done.json",
        "run/new/c.txt",
    ]
    assert bucket.buckets.names("b") == [*left, "runaway.txt"]
    assert bucket.buckets.get("b", "run/a.txt").data == b"changed"
    assert (
        bucket.buckets.get("b", "run/done.json").generation
        > bucket.buckets.get("b", "run/new/c.txt").generation
    )


@pytest.mark.parametrize("name", ["a.txt", "new.txt"])
def test_what_somebody_else_wrote_stays(bucket, name):
    with stage_folder(PLACE, names=NAMES) as staged:
        (Path(staged.folder) / name).write_text("ours")
        bucket.buckets.put("b", f"run/{name}", b"theirs")
        with pytest.raises(OutputError, match="Another program writes into 'gs://b/run/'"):
            staged.publish()
    assert bucket.buckets.get("b", f"run/{name}").data == b"theirs"


def test_faults_on_the_way(bucket):
    bucket.faults = Faults(throttle=5, lose_answers=3, truncate=7)
    with stage_folder(PLACE, names=[f"{index}.txt" for index in range(20)]) as staged:
        for index in range(20):
            (Path(staged.folder) / f"{index}.txt").write_text(str(index))
        staged.publish()
    bucket.faults = Faults()
    for index in range(20):
        assert bucket.buckets.get("b", f"run/{index}.txt").data == str(index).encode()


def test_a_staged_file_appears_with_what_lies_beside_it(bucket):
    with stage_file("gs://b/models/m.onnx") as file:
        Path(file.path).write_bytes(b"model")
        Path(file.path).with_suffix(".onnx.sig").write_bytes(b"signature")
        assert file.name_of(file.path) == "gs://b/models/m.onnx"
        assert "models/m.onnx" not in bucket.buckets.names("b")
    assert bucket.buckets.get("b", "models/m.onnx").data == b"model"
    assert bucket.buckets.get("b", "models/m.onnx.sig").data == b"signature"
    with stage_file("gs://b/models/m.onnx") as file:  # as on disk, a second one takes its place
        Path(file.path).write_bytes(b"another")
    assert read_file("gs://b/models/m.onnx") == b"another"


def test_a_companion_that_is_not_written_again_goes(bucket):
    for name in ("models/m.onnx.sig", "models/m.json", "models/other.json"):
        bucket.buckets.put("b", name, b"of the model before")
    with stage_file("gs://b/models/m.onnx", companions=("m.onnx.sig", "m.json", "m.none")) as file:
        Path(file.path).write_bytes(b"model")
        Path(file.path).with_name("m.json").write_bytes(b"new")
        assert "models/m.onnx.sig" in bucket.buckets.names("b")
    assert [name for name in bucket.buckets.names("b") if name.startswith("models/")] == [
        "models/m.json",
        "models/m.onnx",
        "models/other.json",
    ]
    assert bucket.buckets.get("b", "models/m.json").data == b"new"


def test_nothing_appears_of_what_failed(bucket):
    with pytest.raises(RuntimeError), stage_file("gs://b/models/m.onnx") as file:
        Path(file.path).write_bytes(b"half")
        raise RuntimeError
    assert "models/m.onnx" not in bucket.buckets.names("b")


def test_setup_errors(bucket):
    with pytest.raises(SourceError, match="The bucket 'nowhere'"):  # noqa: SIM117
        with stage_folder("gs://nowhere/run", names=NAMES):
            pass
    with pytest.raises(SourceError, match="'gs://b/none' cannot be read: 404"):
        read_file("gs://b/none")
    bucket.faults = Faults(denied=("get",))
    with pytest.raises(SourceError, match=r"storage.objects.get on 'gs://b/run/'"):  # noqa: SIM117
        with stage_folder(PLACE, names=NAMES):
            pass
    bucket.faults = Faults(denied=("create",))
    with pytest.raises(OutputError, match="storage.objects.create"), stage_file("gs://b/x") as file:
        Path(file.path).write_bytes(b"x")


def test_a_model_in_a_bucket(bucket, toy_model, tmp_path):
    bucket.buckets.put("b", "models/toy.onnx", toy_model.read_bytes())
    assert (
        Classifier("gs://b/models/toy.onnx", device="cpu").digest
        == Classifier(toy_model, device="cpu").digest
    )
    private, public = write_keys(tmp_path)
    with pytest.raises(TamperedModelError, match=r"'gs://b/models/toy\.onnx\.sig' cannot be read"):
        Classifier("gs://b/models/toy.onnx", device="cpu", public_key=public)
    bucket.buckets.put("b", "models/toy.onnx.sig", sign_model(toy_model.read_bytes(), key=private))
    assert Classifier("gs://b/models/toy.onnx", device="cpu", public_key=public).size
    with pytest.raises(ModelError, match="'gs://b/models/none.onnx' cannot be read"):
        Classifier("gs://b/models/none.onnx")
