"""Sign a bundle: one signature over SHA256SUMS, which names every file with its digest.

The form is OpenSSH's (PROTOCOL.sshsig), because `ssh-keygen` verifies it on Windows and Linux. install.sh and
install.ps1 ask it before anything else of the bundle runs; that those two are unchanged, only a check by hand
shows. The key is the same Ed25519 PEM file that signs models.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import Any

from wetread.packages import importing
from wetread.runtime.model.signature import load_key

# Who signs, and for what, in the words of `ssh-keygen -Y verify -I SIGNER -n NAMESPACE`.
SIGNER = NAMESPACE = "wetread-bundle"
_KIND = b"ssh-ed25519"
_HASH = b"sha512"
_COLUMNS = 70


def sign_sums(sums: bytes, *, key: str | os.PathLike[str]) -> bytes:
    """Sign the bytes of SHA256SUMS with an Ed25519 private key (PEM); the same inputs give the same bytes.

    Raises ConfigError for a file without such a key, and MissingExtraError without the extra `sign`.
    """
    private = load_key(key, "private")
    public = _find_public(private)
    asked = _join(NAMESPACE.encode(), b"", _HASH)
    signed = private.sign(b"SSHSIG" + asked + _join(hashlib.sha512(sums).digest()))
    body = b"SSHSIG" + struct.pack(">I", 1) + _join(public) + asked
    text = base64.b64encode(body + _join(_join(_KIND, signed))).decode()
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode()


def describe_signer(key: str | os.PathLike[str]) -> str:
    """Return the line by which `ssh-keygen` knows who signs with a key. Raises as `sign_sums` does."""
    public = base64.b64encode(_find_public(load_key(key, "private"))).decode()
    return f"{SIGNER} {_KIND.decode()} {public}"


def _find_public(private: Any) -> bytes:
    """Return the public key of a private one, as OpenSSH writes it."""
    with importing("cryptography", extra="sign"):
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    return _join(_KIND, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def _join(*parts: bytes) -> bytes:
    """Write strings of SSH: each after its length in four bytes."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
