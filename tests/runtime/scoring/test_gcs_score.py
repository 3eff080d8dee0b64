"""Scoring from a bucket, whole: the same rows as from the folder, under faults, by every way in."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import draw_image
from tests.runtime.gcs_server import Faults
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.scoring.classifier import Classifier
from wetread.runtime.sources.opening import open_source

# Hides Google's packages from a process, as an installation without the extra would.
WITHOUT_EXTRA = (
    "import sys\n"
    "for name in ('google', 'google.cloud', 'google_crc32c'): sys.modules[name] = None\n"
    "from wetread.cli import main; main()"
)


def wetread(
    *arguments: object, code: str = "from wetread.cli import main; main()"
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def images(cloud, tmp_path) -> Path:
    """Three hundred small inputs, every kind of broken one among them, in a folder and in a bucket."""
    folder = tmp_path / "images"
    whole = draw_image(1)
    broken = [b"", b"text", whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\xff\xd9"]
    for index in range(300):
        place = folder / f"{index % 7}" / "deep"
        place.mkdir(parents=True, exist_ok=True)
        data = draw_image(index % 20) if index % 10 else broken[index // 10 % 4]
        (place / f"é {index:03d}.jpg").write_bytes(data)
    cloud.buckets.fill("b", str(folder), prefix="x/")
    return folder


def rows_by_path(text: str, start: str) -> dict[str, dict[str, str]]:
    return {row["path"].removeprefix(start): row for row in csv.DictReader(io.StringIO(text))}


def test_the_same_rows_but_for_the_path(cloud, images, toy_model):
    local = wetread("score", images, "--model", toy_model, "-q")
    remote = wetread("score", "gs://b/x", "--model", toy_model, "-q")
    assert (local.returncode, remote.returncode) == (3, 3)
    assert remote.stdout == local.stdout.replace(str(images), "gs://b/x")
    assert len(remote.stdout.splitlines()) == 301
    assert remote.stderr == ""


def test_faults_lose_nothing_and_double_nothing(cloud, images, toy_model):
    local = wetread("score", images, "--model", toy_model, "-q")
    cloud.faults = Faults(throttle=20, truncate=100, reset=100, corrupt=200, latency=0.002)
    remote = wetread("score", "gs://b/x", "--model", toy_model, "-q")
    assert remote.stdout == local.stdout.replace(str(images), "gs://b/x")
    assert min(cloud.counts[name] for name in ("throttled", "truncate", "reset", "corrupt")) >= 1


def test_what_stays_unreadable_is_a_row(cloud, images, toy_model):
    name = "x/3/deep/é 003.jpg"
    before = wetread("score", "gs://b/x", "--model", toy_model, "-q").stdout
    cloud.faults = Faults(objects={name: "403"})
    after = wetread("score", "gs://b/x", "--model", toy_model, "-q").stdout
    old, new = rows_by_path(before, "gs://b/"), rows_by_path(after, "gs://b/")
    assert list(old) == list(new)
    assert {path for path in old if old[path] != new[path]} == {name}
    assert new[name]["status"] == "unreadable"
    assert "403 Forbidden" in new[name]["error"]


def test_a_list_of_uris_and_files(cloud, images, toy_model, tmp_path):
    file = images / "1" / "deep" / "é 001.jpg"
    names = ["gs://b/x/3/deep/é 003.jpg", str(file), "gs://b/x/absent.jpg", "gs://b/x/1/deep/é 001.jpg"]
    names += ["gs://", "gs://nowhere/x.jpg"]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(names))
    done = wetread("score", "--from-file", listing, "--model", toy_model, "-q")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows] == names
    assert [row["status"] for row in rows] == ["ok", "ok", "unreadable", "ok", "unreadable", "unreadable"]
    assert rows[1]["p_NORMAL"] == rows[3]["p_NORMAL"]
    assert [row["error"] for row in rows if row["error"]] == [
        "The object cannot be read: 404 Not Found: No such object: b/x/absent.jpg.",
        "The object cannot be read: 'gs://' is not a Cloud Storage location. Write gs://BUCKET or gs://BUCKET/NAME.",
        "The object cannot be read: 404 Not Found: The specified bucket does not exist.",
    ]


def test_several_sources_and_include(cloud, images, toy_model):
    done = wetread(
        "score", "gs://b/x/1", images / "2", "gs://b/x/[34]/**", "--include", "*0.jpg", "--model", toy_model
    )
    paths = [row["path"] for row in csv.DictReader(io.StringIO(done.stdout))]
    starts = ["gs://b/x/1/", f"{images / '2'}/", "gs://b/x/3/", "gs://b/x/4/"]
    assert sorted({path[: path.index("deep")] for path in paths}, key=starts.index) == starts
    assert all(path.endswith("0.jpg") for path in paths)


def test_one_image_by_path_by_bytes_and_by_uri(cloud, images, toy_model):
    classifier = Classifier(toy_model, device="cpu")
    file = images / "1" / "deep" / "é 001.jpg"
    (by_path,) = classifier.score(file)
    (by_uri,) = classifier.score("gs://b/x/1/deep/é 001.jpg")
    pixels = read_pixels(file.read_bytes(), classifier.spec.pixels)
    by_bytes = tuple(float(str(value)) for value in classifier.classify(pixels[np.newaxis])[0])
    assert by_path.probabilities == by_uri.probabilities == by_bytes
    assert (by_path.label, by_path.probability) == (by_uri.label, by_uri.probability)
    assert by_uri.path == "gs://b/x/1/deep/é 001.jpg"


def test_without_the_extra_one_line_names_the_pip_command(cloud, toy_model, tmp_path):
    for arguments in (["gs://b/x"], [tmp_path, "--output", "gs://b/s.csv"]):
        done = wetread("score", *arguments, "--model", toy_model, "-q", code=WITHOUT_EXTRA)
        assert done.returncode == 1
        assert done.stderr == (
            "wetread: The package 'google-cloud-storage' is not installed. "
            "Install it: pip install 'wetread[gcs]'\n"
        )


def test_setup_errors_are_one_line_before_any_output(cloud, toy_model, tmp_path):
    cloud.buckets.create("b")
    output = tmp_path / "s.csv"
    for location, said in (("gs://nowhere", "The bucket"), ("gs://b/nothing", "'gs://b/nothing' holds")):
        done = wetread("score", location, "--model", toy_model, "-q", "--output", output)
        assert done.returncode == 1
        assert done.stderr.startswith(f"wetread: {said}")
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_bucket(cloud, images):
    """Reading ahead holds a bounded number of bytes and names, however many objects there are."""
    count = 6000
    body = b"x" * 20_000
    (images / "one.bin").write_bytes(body)
    cloud.buckets.drop("many")
    only = images.parent / "only"
    only.mkdir()
    (images / "one.bin").rename(only / "one.bin")
    cloud.buckets.fill("many", str(only), count=count)
    source = open_source("gs://many")
    held = most = 0
    fetch = source.reads.fetch  # type: ignore[attr-defined]
    import threading

    lock = threading.Lock()

    def counting(entry):
        nonlocal held, most
        data = fetch(entry)
        with lock:
            held += len(data)
            most = max(most, held)
        return data

    source.reads.fetch = counting  # type: ignore[attr-defined]
    read = 0
    for entry in source.read_ahead(source.entries()):
        read += len(source.read(entry))
        with lock:
            held -= len(body)
    assert read == count * len(body)
    assert most <= (64 << 20) + 128 * len(body)


@pytest.fixture
def emulator(monkeypatch):
    """PyPI's gcp-storage-emulator: the same service by other hands."""
    create_server = pytest.importorskip("gcp_storage_emulator.server").create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="b")
    server.start()
    host, port = server._api._httpd.server_address
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    yield server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server.stop()


@pytest.mark.parametrize("output", ["gs://b/out/s.csv", "gs://b/out/s.jsonl"])
def test_an_emulator_that_others_wrote(emulator, toy_model, image_folder, tmp_path, output):
    from wetread.runtime.gcs.client import Storage
    from wetread.runtime.gcs.writing import read_object, write_object

    storage = Storage()
    for file in sorted(image_folder.rglob("*.*")):
        name = file.relative_to(image_folder).as_posix()
        write_object(storage, f"gs://b/in/{name}", file.read_bytes(), match=0)
    done = wetread("score", "gs://b/in", "--model", toy_model, "-q", "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    local = tmp_path / f"s{Path(output).suffix}"
    wetread("score", image_folder, "--model", toy_model, "-q", "--output", local)
    assert read_object(storage, output) == local.read_bytes().replace(bytes(image_folder), b"gs://b/in")
