"""The certificate of parity that comes along: about this very model, and saying that it holds."""

from __future__ import annotations

import re
from pathlib import Path

from wetread.errors import UsageError

_FAILED = re.compile(r'passed"?:?\s+false')


def check_certificate(path: str, *, digest: str) -> None:
    """Hold a certificate, as .json, .txt or .html, to the model whose digest this is. Raises UsageError."""
    text = re.sub("<[^>]*>", " ", Path(path).read_text(encoding="utf-8", errors="replace"))
    if digest not in text:
        raise UsageError(
            f"Expected --certificate to be about the model with the digest {digest}. "
            f"Received {path!r}, which does not name it. Make it with `wetread parity --certificate`."
        )
    if _FAILED.search(text):
        raise UsageError(
            f"Expected --certificate to say that the model holds. Received {path!r}, which says that it does "
            "not. Export the model again, and compare again."
        )
