"""Check the certificate of parity in a bundle: it must be about this model, and must not report a failure."""

from __future__ import annotations

import re
from pathlib import Path

from wetread.errors import UsageError

_FAILED = re.compile(r'passed"?:?\s+false')


def check_certificate(path: str, *, digest: str) -> None:
    """Check that a certificate (.json, .txt, .html) is about the model with this digest; raise UsageError."""
    text = re.sub("<[^>]*>", " ", Path(path).read_text(encoding="utf-8", errors="replace"))
    if digest not in text:
        raise UsageError(
            f"The certificate {path!r} is not about this model: it does not name the digest {digest}. "
            "Make it with `wetread parity --certificate`."
        )
    if _FAILED.search(text):
        raise UsageError(
            f"The certificate {path!r} says that the model failed the comparison with Keras. Export the "
            "model again, and compare again."
        )
