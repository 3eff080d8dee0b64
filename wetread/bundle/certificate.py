"""Check the certificate of parity in a bundle: it must be about this model, and state that it passed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from wetread.errors import UsageError

CERTIFICATES = (".json", ".txt", ".html")
# As `wetread parity --certificate` writes it into a text or a page: a name, and its value.
_PASSED = re.compile(r"^\s*statement\.passed\s+true\s*$", re.MULTILINE)
_FAILED = re.compile(r"passed\s+false")


def check_certificate(path: str, *, digest: str) -> None:
    """Check that a certificate (.json, .txt, .html) says that the model with this digest passed.

    Raises UsageError if it names another model, reports a failure, or does not say that the model passed.
    """
    if Path(path).suffix not in CERTIFICATES:
        raise UsageError(f"A certificate's name must end in .json, .txt or .html, unlike {path!r}.")
    text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    digests, passed, failed = (_read_json if path.endswith(".json") else _read_words)(text)
    if digest not in digests:
        raise UsageError(
            f"The certificate {path!r} is not about this model: it does not name the digest {digest}. "
            "Make it with `wetread parity --certificate`."
        )
    if failed:
        raise UsageError(
            f"The certificate {path!r} says that the model failed the comparison with Keras. Export the "
            "model again, and compare again."
        )
    if not passed:
        raise UsageError(
            f"The certificate {path!r} does not say that the model passed the comparison with Keras. Make it "
            "with `wetread parity --certificate`."
        )


def _read_words(text: str) -> tuple[str, bool, bool]:
    """Return the words of a text or a page, and whether they say that it passed, that something failed."""
    words = re.sub("<[^>]*>", " ", text)
    return words, _PASSED.search(words) is not None, _FAILED.search(words) is not None


def _read_json(text: str) -> tuple[list[str], bool, bool]:
    """Return the digests of the models of a statement, whether it passed, and whether something failed."""
    try:
        statement = json.loads(text)["statement"]
        digests = [model["digest"] for model in statement["models"]]
        return digests, statement["passed"] is True, _has_failed(statement)
    except (ValueError, LookupError, TypeError):
        return [], False, False


def _has_failed(value: Any) -> bool:
    """Whether a `passed` of nested JSON is anything but true."""
    if isinstance(value, list):
        return any(map(_has_failed, value))
    if not isinstance(value, dict):
        return False
    return value.get("passed", True) is not True or any(map(_has_failed, value.values()))
