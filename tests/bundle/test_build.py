from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.bundle.conftest import TAGS, make_wheel
from tests.keys import write_keys
from wetread.bundle import build
from wetread.bundle.build import BundleOptions, build_bundle
from wetread.bundle.selftest import draw_pictures
from wetread.bundle.signing import sign_sums
from wetread.bundle.target import Target
from wetread.bundle.wetread_wheel import build_own_wheel
from wetread.bundle.wheels import Wheel, check_closed
from wetread.errors import ConfigError, ModelError, SetupError, UsageError
from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.images.recipe import PixelRecipe
from wetread.runtime.model.signature import check_signature, sign_model


@pytest.fixture
def options(tmp_path, wheelhouse, proven_model) -> BundleOptions:
    return BundleOptions(
        model=str(proven_model),
        output=str(tmp_path / "bundle.zip"),
        platform="win_amd64",
        wheels=str(wheelhouse),
        extras=("dicom",),
    )


@pytest.fixture(scope="module")
def windows(tmp_path_factory, wheelhouse, proven_model) -> dict[str, bytes]:
    """The files of a bundle for Windows."""
    options = BundleOptions(
        model=str(proven_model),
        output=str(tmp_path_factory.mktemp("windows") / "bundle.zip"),
        platform="win_amd64",
        wheels=str(wheelhouse),
        extras=("dicom",),
    )
    return read(build_bundle(options).path)


def read(bundle: str) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        names = {name.partition("/")[0] for name in archive.namelist()}
        assert len(names) == 1
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def wheels_in(files: dict[str, bytes], folder: Path) -> list[Wheel]:
    folder.mkdir()
    for name, data in files.items():
        if name.startswith("wheels/"):
            (folder / name.removeprefix("wheels/")).write_bytes(data)
    return [Wheel(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("platform", TAGS)
def test_a_bundle_is_closed_for_its_own_platform(options, tmp_path, platform):
    made = build_bundle(replace(options, platform=platform))
    files = read(made.path)
    wheels = wheels_in(files, tmp_path / "out")
    check_closed(wheels, roots=["wetread[cpu,dicom]", "pip>=24"], target=Target(platform, "3.12"))
    names = {wheel.name for wheel in wheels}
    assert ("colorama" in names) is (platform == "win_amd64")
    assert {"wetread", "numpy", "onnxruntime", "opencv-python-headless", "imagecodecs", "pydicom"} <= names
    assert not names & {"tensorflow", "keras", "onnx", "matplotlib"}
    scripts = {"install.cmd", "install.ps1"} if platform == "win_amd64" else {"install.sh"}
    assert scripts | {"install.py", "README.txt"} == {n for n in files if "install" in n or n == "README.txt"}


def test_the_same_inputs_make_the_same_bytes(options, tmp_path):
    first = build_bundle(options)
    second = build_bundle(replace(options, output=str(tmp_path / "again.zip")))
    assert first.sha256 == second.sha256 == hashlib.sha256(Path(second.path).read_bytes()).hexdigest()


def test_every_file_is_summed_and_the_sums_too(windows):
    files = windows
    *lines, last = files["SHA256SUMS"].decode().splitlines(keepends=True)
    assert {line[66:-1]: line[:64] for line in lines} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "SHA256SUMS"
    }
    assert last == f"{hashlib.sha256(''.join(lines).encode()).hexdigest()}  SHA256SUMS\n"


def test_the_lock_leaves_pip_nothing_to_choose(windows):
    files = windows
    lines = files["requirements.txt"].decode().splitlines()
    locked = {line.partition("==")[0]: line.rpartition("sha256:")[2] for line in lines}
    assert set(locked) >= {"wetread[cpu,dicom]", "numpy", "colorama"}
    assert "pip" not in locked
    digests = {hashlib.sha256(data).hexdigest() for name, data in files.items() if name.startswith("wheels/")}
    assert set(locked.values()) < digests


def test_the_bill_of_materials_names_every_part(windows, proven_model):
    files = windows
    bill = json.loads(files["sbom.cdx.json"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert parts["numpy"]["licenses"] == [{"expression": "MIT"}]
    assert parts["model.onnx"]["type"] == "machine-learning-model"
    model = hashlib.sha256(proven_model.read_bytes()).hexdigest()
    assert parts["model.onnx"]["hashes"] == [{"alg": "SHA-256", "content": model}]
    for name, data in files.items():
        if name.startswith("wheels/"):
            digest = {"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}
            assert any(part["hashes"] == [digest] for part in bill["components"]), name
    graph = {node["ref"]: node["dependsOn"] for node in bill["dependencies"]}
    assert graph["bundle"] == [
        "pkg:pypi/pip@26.3",
        f"pkg:pypi/wetread@{metadata.version('wetread')}",
        "file:model.onnx",
    ]
    assert "pkg:pypi/colorama@99.0" in graph["pkg:pypi/typer@0.28.0"]
    assert "pkg:pypi/numpy@2.4.6" in graph["pkg:pypi/onnxruntime@1.32.0"]
    assert bill["serialNumber"].startswith("urn:uuid:")
    assert "timestamp" not in bill["metadata"]


def test_the_bill_of_materials_holds_to_its_schema(windows):
    validators = pytest.importorskip(
        "cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed"
    )
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validators.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(windows["sbom.cdx.json"].decode()) is None


def test_every_wheel_brings_its_licence(windows):
    files = windows
    assert files["licenses/numpy-2.4.6/LICENSE.txt"] == b"the licence of numpy"
    assert b"Apache License" in files[f"licenses/wetread-{metadata.version('wetread')}/LICENSE"]
    folders = {name.split("/")[1] for name in files if name.startswith("licenses/")}
    assert len(folders) == sum(name.startswith("wheels/") for name in files)


def test_what_comes_along_on_request(options, tmp_path):
    from wetread import Classifier

    (tmp_path / "python.tar.gz").write_bytes(b"python.tar.gz")
    statement = {"passed": True, "models": [{"digest": Classifier(options.model).digest, "passed": True}]}
    certificate = json.dumps({"statement": statement})
    (tmp_path / "certificate.json").write_text(certificate)
    more = replace(
        options,
        python_archive=str(tmp_path / "python.tar.gz"),
        certificate=str(tmp_path / "certificate.json"),
    )
    files = read(build_bundle(more).path)
    assert "model.onnx.sig" not in files
    assert files["python/python.tar.gz"] == b"python.tar.gz"
    assert files["certificate/certificate.json"] == certificate.encode()
    kinds = {part["name"]: part["type"] for part in json.loads(files["sbom.cdx.json"])["components"]}
    assert kinds["python/python.tar.gz"] == "platform"


def test_scripts_have_the_line_ends_of_their_system(windows, options):
    assert windows["install.cmd"].count(b"\r\n") == windows["install.cmd"].count(b"\n") > 2
    assert b"\r" not in windows["install.py"]
    linux = read(build_bundle(replace(options, platform="manylinux_x86_64")).path)
    assert b"\r" not in linux["install.sh"]


def test_names_are_short_and_plain_enough_for_windows(windows):
    for name in windows:
        assert name.isascii()
        assert len(name) < 130
        assert not set(name) & set('\\:*?"<>|')


def test_the_self_test_knows_what_was_seen_here(windows):
    files = windows
    rows = list(csv.DictReader(io.StringIO(files["selftest/expected.csv"].decode())))
    assert [(row["path"], row["status"]) for row in rows] == [
        ("1.jpg", "ok"),
        ("2.png", "ok"),
        ("3.dcm", "ok"),
    ]
    assert all(float(row["p_NORMAL"]) + float(row["p_PNEUMONIA"]) == pytest.approx(1) for row in rows)
    assert {f"selftest/pictures/{row['path']}" for row in rows} <= set(files)


def test_a_signature_beside_the_model_comes_along(options, tmp_path, proven_model):
    (tmp_path / "model.onnx").write_bytes(proven_model.read_bytes())
    (tmp_path / "model.onnx.sig").write_bytes(bytes(range(64)))
    files = read(build_bundle(replace(options, model=str(tmp_path / "model.onnx"))).path)
    assert files["model.onnx.sig"] == bytes(range(64))
    assert b"  model.onnx.sig\n" in files["SHA256SUMS"]


def test_a_signed_bundle_signs_its_sums_and_an_unsigned_model(options, tmp_path, proven_model):
    private, public = write_keys(tmp_path)
    files = read(build_bundle(replace(options, sign=str(private))).path)
    assert files["SHA256SUMS.sig"] == sign_sums(files["SHA256SUMS"], key=private)
    assert b"SHA256SUMS.sig" not in files["SHA256SUMS"]
    check_signature(
        files["model.onnx"], name="model.onnx", signature=files["model.onnx.sig"], public_key=public
    )


def test_a_signature_of_an_older_file_is_said(options, tmp_path, proven_model):
    private, _ = write_keys(tmp_path)
    model = tmp_path / "model.onnx"
    model.write_bytes(proven_model.read_bytes())
    for signed, stale in ((model.read_bytes(), False), (b"an older file", True)):
        (tmp_path / "model.onnx.sig").write_bytes(sign_model(signed, key=private))
        said: list[str] = []
        build._say_signature(
            replace(options, model=str(model), sign=str(private)), model.read_bytes(), said.append
        )
        assert bool([line for line in said if "another key, or of an older file" in line]) is stale


def test_a_key_that_is_none_is_said_before_the_work(options, tmp_path):
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(ConfigError, match="No Ed25519 private key"):
        build_bundle(replace(options, sign=str(tmp_path / "key.pem")))


def test_the_pictures_are_drawn_alike_every_time():
    assert draw_pictures(with_dicom=True) == draw_pictures(with_dicom=True)
    for pictures in (draw_pictures(with_dicom=True), draw_pictures(with_dicom=False)):
        for picture in pictures.values():
            assert read_pixels(picture, PixelRecipe()).std() > 20


def test_a_model_that_does_not_vouch_for_itself_is_refused(options, toy_model):
    with pytest.raises(ModelError, match="fails `wetread verify` here: self-test"):
        build_bundle(replace(options, model=str(toy_model)))


def test_a_wheel_without_the_extra_is_refused(options, tmp_path):
    other = make_wheel(tmp_path, "wetread", "0.0.1", headers="Provides-Extra: cpu\n")
    with pytest.raises(SetupError, match="has no extra dicom"):
        build_bundle(replace(options, wheel=str(other)))
    with pytest.raises(UsageError, match="must be a wheel of wetread, and is one of a"):
        build_bundle(replace(options, wheel=str(make_wheel(tmp_path, "a"))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"output": "bundle.tar"},
        {"output": "no-such/bundle.zip"},
        {"extras": ("train",)},
        {"wheel": "none.whl"},
        {"python_archive": "none"},
    ],
)
def test_options_that_cannot_be_meant(options, wrong):
    with pytest.raises(UsageError, match="must |does not exist|is not a file"):
        replace(options, **wrong)


def test_wetreads_own_wheel_holds_what_is_installed(tmp_path):
    path = build_own_wheel(tmp_path)
    assert path.name == f"wetread-{metadata.version('wetread')}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        record = archive.read(next(n for n in names if n.endswith("RECORD"))).decode().splitlines()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    package = Path(__file__).parents[2] / "wetread"
    shipped = {
        f"wetread/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("wetread/")} == shipped
    assert {line.partition(",")[0] for line in record} == set(names)
    assert "wetread = wetread.cli:main" in entry_points
    again = build_own_wheel(tmp_path / "again") if (tmp_path / "again").mkdir() is None else None
    assert again.read_bytes() == path.read_bytes()
