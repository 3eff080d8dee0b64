"""Sign models and verify their signatures: detached, Ed25519, in `MODEL.onnx.sig` beside the model.

The 64 bytes are a signature of the whole file, so that other tools can verify it too:
`openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in model.onnx -sigfile model.onnx.sig`.
Keys are PEM files: `openssl genpkey -algorithm ed25519 -out private.pem`, then
`openssl pkey -in private.pem -pubout -out public.pem`.

`only-signed.pem` beside an installation (beside the folder of its environment) is a public key by which every
model must be signed that wetread loads there, through a link to the environment, too. It binds wetread:
another program may load what it likes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wetread.errors import ConfigError, SourceError, TamperedModelError, list_installation_folders
from wetread.packages import importing
from wetread.runtime.entries import is_bucket_location

SUFFIX = ".sig"
ONLY_SIGNED = "only-signed.pem"


def signature_path(model: str | os.PathLike[str]) -> Path:
    """Return the name of a model's signature: the model's name with `.sig` appended."""
    return Path(f"{os.fspath(model)}{SUFFIX}")


def sign_model(model: bytes, *, key: str | os.PathLike[str]) -> bytes:
    """Sign a model's bytes with the Ed25519 private key in a PEM file.

    Returns the 64 bytes of the signature. Raises ConfigError for a file without such a key.
    """
    private = load_key(key, "private")
    return bytes(private.sign(model))


def check_signature(
    model: bytes, *, name: str, signature: bytes | None, public_key: str | os.PathLike[str]
) -> None:
    """Verify the signature of a model's bytes with the Ed25519 public key in a PEM file.

    Raises TamperedModelError if `signature` is None or not by that key over these bytes, ConfigError for a
    file without such a key, and MissingExtraError without the extra `sign`.
    """
    public = load_key(public_key, "public")
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise TamperedModelError(
            f"{name} has no signature, which {os.fspath(public_key)} demands. Get {Path(name).name}{SUFFIX} "
            "from whoever exported the model (for bytes in Python: signature=), or export again with --sign."
        )
    try:
        public.verify(signature, model)
    except InvalidSignature as error:
        raise TamperedModelError(
            f"The signature of {name} is not by the key {os.fspath(public_key)} over this file. Copy model "
            "and signature again from where they were made, and check the key."
        ) from error


def read_signature(model: str | os.PathLike[str]) -> bytes | None:
    """Return the bytes of a model's signature; None if there is none beside it.

    Raises TamperedModelError if the model is in a bucket and its signature cannot be read there.
    """
    if is_bucket_location(model):
        from wetread.runtime.gcs.bucket_folder import read_file

        try:
            return read_file(f"{os.fspath(model)}{SUFFIX}")
        except SourceError as error:
            raise TamperedModelError(f"{os.fspath(model)}: {error}") from error
    try:
        return signature_path(model).read_bytes()
    except OSError:
        return None


def list_required_keys(public_key: str | os.PathLike[str] | None) -> list[str]:
    """Return the keys by which a model must be signed: the one asked for, and the installation's own."""
    own = [str(folder / ONLY_SIGNED) for folder in list_installation_folders()]
    asked = [] if public_key is None else [os.fspath(public_key)]
    # Not `exists`: a key that cannot be read must refuse models, not let all pass.
    return [*asked, *filter(os.path.lexists, own)]


def check_signatures(
    model: bytes, *, name: str, signature: bytes | None, public_key: str | os.PathLike[str] | None
) -> None:
    """Verify that a model is signed by every key of `list_required_keys`; errors as in `check_signature`."""
    for key in list_required_keys(public_key):
        check_signature(model, name=name, signature=signature, public_key=key)


def load_key(path: str | os.PathLike[str], kind: str) -> Any:
    """Read an Ed25519 key, 'private' or 'public', of a PEM file. Raises ConfigError, MissingExtraError."""
    with importing("cryptography", extra="sign"):
        from cryptography.hazmat.primitives.asymmetric import ed25519
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    try:
        data = Path(path).read_bytes()
        key = load_pem_private_key(data, None) if kind == "private" else load_pem_public_key(data)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "it has no such PEM key, or one with a password"
        raise ConfigError(f"No Ed25519 {kind} key can be read from {os.fspath(path)}: {reason}.") from error
    wanted = ed25519.Ed25519PrivateKey if kind == "private" else ed25519.Ed25519PublicKey
    if not isinstance(key, wanted):
        raise ConfigError(
            f"No Ed25519 {kind} key can be read from {os.fspath(path)}: it has another kind of key."
        )
    return key
