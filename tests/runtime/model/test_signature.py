"""Detached signatures: ours, and as openssl reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric import ec

from tests.keys import write_keys
from wetread.errors import ConfigError, MissingExtraError, TamperedModelError
from wetread.runtime.model import providers
from wetread.runtime.model.session import ModelSession
from wetread.runtime.model.signature import (
    ONLY_SIGNED,
    check_signature,
    list_required_keys,
    read_signature,
    sign_model,
    signature_path,
)
from wetread.runtime.model.verify import verify_model
from wetread.runtime.scoring.classifier import Classifier


@pytest.fixture
def signed(tmp_path, toy_model):
    private, public = write_keys(tmp_path)
    model = tmp_path / "model.onnx"
    model.write_bytes(toy_model.read_bytes())
    signature_path(model).write_bytes(sign_model(model.read_bytes(), key=private))
    return model, public


def test_a_signed_model_loads_where_the_signature_is_demanded(signed):
    model, public = signed
    assert Classifier(model, device="cpu", public_key=public).spec.labels == ("NORMAL", "PNEUMONIA")
    checks = {check.name: check.passed for check in verify_model(model, public_key=public).checks}
    assert checks["signature"] is True


def test_an_unsigned_or_otherwise_signed_model_does_not(signed, tmp_path):
    model, public = signed
    _, other = write_keys(tmp_path, name="other")
    with pytest.raises(TamperedModelError, match="is not by the key"):
        Classifier(model, device="cpu", public_key=other)
    checks = {check.name: check.passed for check in verify_model(model, public_key=other).checks}
    assert checks["signature"] is False
    signature_path(model).unlink()
    with pytest.raises(TamperedModelError, match=r"has no signature, which .* Get model\.onnx\.sig"):
        Classifier(model, device="cpu", public_key=public)
    with pytest.raises(TamperedModelError):
        Classifier(model.read_bytes(), device="cpu", public_key=public)


def test_every_bit_is_signed(signed):
    model, public = signed
    data, signature = model.read_bytes(), read_signature(model)
    check_signature(data, name="model", signature=signature, public_key=public)
    for at in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(TamperedModelError):
            check_signature(bytes(changed), name="model", signature=signature, public_key=public)


def test_keys_of_another_kind_are_refused(tmp_path):
    private, public = write_keys(tmp_path, ec.generate_private_key(ec.SECP256R1()), name="ec")
    with pytest.raises(ConfigError, match="another kind of key"):
        sign_model(b"x", key=private)
    with pytest.raises(ConfigError, match="another kind of key"):
        check_signature(b"x", name="x", signature=b"", public_key=public)
    for name in ("nowhere.pem", "text.pem"):
        (tmp_path / "text.pem").write_text("hello")
        with pytest.raises(ConfigError, match="No Ed25519 private key can be read"):
            sign_model(b"x", key=tmp_path / name)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl on this machine")
def test_openssl_agrees(signed):
    model, public = signed
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", model]
    done = subprocess.run([*command, "-sigfile", signature_path(model)], capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout, done.stderr


def test_without_the_extra_it_is_named(signed, monkeypatch):
    _, public = signed
    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="'cryptography'"):
        check_signature(b"", name="model.onnx", signature=b"", public_key=public)


@pytest.fixture
def installation(tmp_path, monkeypatch) -> Path:
    """The folder of an installation, whose environment is a folder in it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "installed" / "env"))
    (tmp_path / "installed" / "env").mkdir(parents=True)
    return tmp_path / "installed"


def test_a_link_to_the_environment_does_not_evade_the_demand(installation, tmp_path, toy_model, monkeypatch):
    _, public = write_keys(tmp_path)
    (installation / ONLY_SIGNED).write_bytes(public.read_bytes())
    (tmp_path / "link").symlink_to(installation / "env")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link"))
    assert list_required_keys(None) == [str(installation / ONLY_SIGNED)]
    with pytest.raises(TamperedModelError, match="has no signature"):
        ModelSession(toy_model.read_bytes())
    (tmp_path / ONLY_SIGNED).write_bytes(b"")  # what lies beside the link is demanded, too
    assert list_required_keys(None) == [str(installation / ONLY_SIGNED), str(tmp_path / ONLY_SIGNED)]


def test_verify_does_not_run_a_model_without_the_demanded_signature(
    installation, tmp_path, toy_model, monkeypatch
):
    opened: list[bytes] = []
    monkeypatch.setattr(providers, "open_session", lambda data, device: opened.append(data))
    _, public = write_keys(tmp_path)
    asked = verify_model(toy_model, public_key=public)
    (installation / ONLY_SIGNED).write_bytes(public.read_bytes())
    for report in (asked, verify_model(toy_model)):
        assert (report.passed, report.provider, report.self_test, opened) == (False, None, None, [])
        assert report.checks[-1].name == "answers"
        assert report.checks[-1].received.startswith("not computed")


def test_an_installation_can_demand_signed_models(installation, tmp_path, toy_model):
    """A file beside it says so; then nothing that is not signed by its key is loaded, by any way."""
    model = tmp_path / "model.onnx"
    model.write_bytes(toy_model.read_bytes())
    assert list_required_keys(None) == []
    ModelSession(model)
    private, public = write_keys(tmp_path)
    other, _ = write_keys(tmp_path, name="other")
    (installation / ONLY_SIGNED).write_bytes(public.read_bytes())
    with pytest.raises(TamperedModelError, match="has no signature"):
        ModelSession(model)
    with pytest.raises(TamperedModelError, match="has no signature"):
        ModelSession(model.read_bytes())
    assert not verify_model(model).passed
    signature_path(model).write_bytes(sign_model(model.read_bytes(), key=other))
    with pytest.raises(TamperedModelError, match="is not by the key"):
        ModelSession(model)
    signature_path(model).write_bytes(sign_model(model.read_bytes(), key=private))
    ModelSession(model)
    assert "signature" in [check.name for check in verify_model(model).checks if check.passed]


def test_another_key_that_is_asked_for_does_not_replace_the_installations(installation, tmp_path, toy_model):
    model = tmp_path / "model.onnx"
    model.write_bytes(toy_model.read_bytes())
    private, public = write_keys(tmp_path)
    _, wanted = write_keys(tmp_path, name="wanted")
    (installation / ONLY_SIGNED).write_bytes(wanted.read_bytes())
    signature_path(model).write_bytes(sign_model(model.read_bytes(), key=private))
    with pytest.raises(TamperedModelError, match="only-signed.pem"):
        ModelSession(model, public_key=public)


@pytest.mark.parametrize("kind", ["empty", "folder", "dangling"])
def test_a_key_that_cannot_be_read_lets_no_model_pass(installation, toy_model, kind):
    place = installation / ONLY_SIGNED
    if kind == "empty":
        place.touch()
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="No Ed25519 public key"):
        ModelSession(toy_model)


def test_bytes_have_nothing_beside_them(signed, tmp_path, monkeypatch):
    """A file called 'the model.sig' in the current folder is not theirs; what is given is."""
    model, public = signed
    data, signature = model.read_bytes(), read_signature(model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "the model.sig").write_bytes(signature)
    with pytest.raises(TamperedModelError, match="has no signature"):
        Classifier(data, device="cpu", public_key=public)
    assert Classifier(data, device="cpu", public_key=public, signature=signature).size == len(data)
    for wrong in (b"", bytes(64), signature[::-1]):
        with pytest.raises(TamperedModelError, match="is not by the key"):
            Classifier(data, device="cpu", public_key=public, signature=wrong)
        with pytest.raises(TamperedModelError, match="is not by the key"):
            Classifier(model, device="cpu", public_key=public, signature=wrong)
