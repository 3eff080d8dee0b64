"""Read the licences of a bundle's wheels: their names and their texts."""

from __future__ import annotations

import re
import zipfile
from email.message import Message

from wetread.bundle.wheels import Wheel

_TEXT = re.compile(r"(licen[sc]e|copying|notice|thirdpartynotices|authors)[^/]*$", re.IGNORECASE)
_PROGRAM = re.compile(r"\.(py|pyi|pyc|so|pyd|dll|h|json)$", re.IGNORECASE)
_LONGEST_NAME = 100


def name_licence(metadata: Message) -> tuple[str, bool] | None:
    """Return a wheel's licence, and whether it is an SPDX expression; None if its metadata name none."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression), True
    stated = " ".join(str(metadata.get("License", "")).split())
    if stated and len(stated) <= _LONGEST_NAME and stated.upper() != "UNKNOWN":
        return stated, False
    classifiers = [str(text).split(" :: ") for text in metadata.get_all("Classifier", [])]
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and parts[-1] != "OSI Approved"]
    return (" and ".join(named), False) if named else None


def read_licences(wheel: Wheel) -> dict[str, bytes]:
    """Read the licence texts in a wheel, by their names in a bundle."""
    place = f"licenses/{wheel.name}-{wheel.version}"
    found = {}
    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            in_folder = ".dist-info/licenses/" in name
            if (in_folder or _TEXT.search(name)) and not name.endswith("/") and not _PROGRAM.search(name):
                found[f"{place}/{_shorten(name)}"] = archive.read(name)
    if not found:
        named = name_licence(wheel.metadata)
        text = f"This wheel has no licence text. Its metadata say: {named[0] if named else 'nothing'}.\n"
        found[f"{place}/NO-TEXT.txt"] = text.encode()
    return found


def _shorten(name: str) -> str:
    """Remove the prefix that every wheel has, so that paths stay short on Windows."""
    return re.sub(r"^[^/]+\.dist-info/(licenses/)?", "", name).replace("/", "-")
