from __future__ import annotations

from types import SimpleNamespace

import pytest

from wetread.bundle.certificate import check_certificate
from wetread.errors import UsageError
from wetread.export import parity_certificate
from wetread.export.report import ParityReport

DIGEST = "ab" * 32


def write(path, monkeypatch, *, passed: bool) -> str:
    """A certificate as `wetread parity` writes it, of a comparison that is made up."""
    statement = {"passed": passed, "models": [{"digest": DIGEST, "passed": passed, "flips": 0}]}
    made = {"statement": statement, "statement_sha256": "0" * 64}
    monkeypatch.setattr(parity_certificate, "make_certificate", lambda report: made)
    report: ParityReport = SimpleNamespace()  # type: ignore[assignment]
    parity_certificate.write_certificate(report, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".json", ".txt", ".html"])
def test_one_about_this_model_that_holds_comes_along_and_no_other(tmp_path, monkeypatch, suffix):
    good = write(tmp_path / f"good{suffix}", monkeypatch, passed=True)
    check_certificate(good, digest=DIGEST)
    with pytest.raises(UsageError, match="does not name the digest"):
        check_certificate(good, digest="cd" * 32)
    bad = write(tmp_path / f"bad{suffix}", monkeypatch, passed=False)
    with pytest.raises(UsageError, match="says that the model failed"):
        check_certificate(bad, digest=DIGEST)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.json", '{"statement":{"passed":false,"models":[{"digest":"%s"}]}}', "says that the model failed"),
        (
            "c.json",
            '{"statement":{"passed":true,"models":[{"digest":"%s","passed":false}]}}',
            "says that the model failed",
        ),
        ("c.json", '{"statement":{"passed":true,"models":[],"doubts":["%s"]}}', "does not name the digest"),
        ("c.json", '"%s"', "does not name the digest"),
        ("c.json", "%s", "does not name the digest"),
        ("c.json", '{"statement":{"passed":"yes","models":[{"digest":"%s"}]}}', "says that the model failed"),
        ("c.txt", "sha256 %s", "does not say that the model passed"),
        ("c.txt", "statement.passed  trueish\n%s", "does not say that the model passed"),
        ("c.html", "<p>%s</p>", "does not say that the model passed"),
        ("c.pdf", "%s", "must end in"),
    ],
)
def test_a_digest_alone_or_a_failure_written_otherwise_is_no_certificate(tmp_path, name, text, words):
    (tmp_path / name).write_text(text % DIGEST)
    with pytest.raises(UsageError, match=words):
        check_certificate(str(tmp_path / name), digest=DIGEST)


def test_a_bundle_is_not_made_with_another_models_certificate(tmp_path, proven_model, wheelhouse):
    from wetread.bundle.build import BundleOptions, build_bundle

    (tmp_path / "c.txt").write_text("statement.passed  true")
    options = BundleOptions(
        model=str(proven_model),
        output=str(tmp_path / "bundle.zip"),
        platform="win_amd64",
        wheels=str(wheelhouse),
        certificate=str(tmp_path / "c.txt"),
    )
    with pytest.raises(UsageError, match="does not name the digest"):
        build_bundle(options)
    assert not (tmp_path / "bundle.zip").exists()
