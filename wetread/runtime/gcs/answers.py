"""What Cloud Storage answers, field by field: used only as far as it is what the API's reference says.

Servers of the same API differ. A field that is missing or null has its default, as protobuf's JSON has it;
one of another type, or a listing out of order, is a wrong answer: rows made of it would be wrong as well.
"""

from __future__ import annotations

from typing import Any

from wetread.runtime.entries import Entry

# The crc32c of no bytes. A size of 0 is left out by servers that leave out defaults.
_OF_NOTHING = "AAAAAA=="


class AnswerError(ValueError):
    """An answer that is not one of Cloud Storage's."""


def parse_page(answer: object, *, start: str, prefix: str) -> tuple[list[Entry], str | None]:
    """Read one page of a listing: its entries, named `start` + name, and the next page's token.

    Raises AnswerError unless every name begins with `prefix` and follows the one before.
    """
    fields = _expect(answer, dict, "a listing")
    entries = [parse_entry(item, start=start) for item in _take(fields, "items", list) or ()]
    check_order(entries)
    for entry in entries:
        if not entry.name.startswith(start + prefix):
            raise AnswerError(f"a listing of {prefix!r} with the object {entry.name!r}")
    return entries, _take(fields, "nextPageToken", str) or None


def check_order(entries: list[Entry], *, after: str = "") -> None:
    """Check that names follow one another, behind `after`. Raises AnswerError."""
    for entry in entries:
        if entry.name <= after:
            raise AnswerError(f"a listing with {entry.name!r} behind {after!r}")
        after = entry.name


def parse_entry(item: object, *, start: str) -> Entry:
    """Read one object of a listing. Raises AnswerError."""
    fields = _expect(item, dict, "an object in a listing")
    name = _take(fields, "name", str)
    if not name or not _is_text(name):
        raise AnswerError("an object in a listing without a name")
    return describe_entry(fields, location=start + name)


def describe_entry(fields: object, *, location: str) -> Entry:
    """Read the size, generation and crc32c of the object at a location, as far as they are told.

    A size that is not told is 0 only where the crc32c is that of nothing. Raises AnswerError.
    """
    found = _expect(fields, dict, f"a description of {location!r}")
    size, generation = _take_number(found, "size"), _take_number(found, "generation")
    checksum = _take(found, "crc32c", str) or ""
    if size is None and checksum == _OF_NOTHING:
        size = 0
    return Entry(location, size, "" if generation is None else str(generation), checksum)


def parse_notes(fields: dict[str, Any]) -> dict[str, str]:
    """Read an object's own metadata, text by name. Raises AnswerError."""
    found: dict[str, str] = _take(fields, "metadata", dict) or {}
    for value in found.values():
        _expect(value, str, "metadata")
    return found


def _take(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    return None if value is None else _expect(value, kind, name)


def _take_number(fields: dict[str, Any], name: str) -> int | None:
    """A whole number, which JSON has as text where it may be of 64 bits."""
    value = fields.get(name)
    if value is None:
        return None
    text = str(value) if type(value) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise AnswerError(f"{name} {value!r:.40} where a whole number belongs")
    return int(text)


def _expect(value: object, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise AnswerError(f"{what} that is of the type {type(value).__name__}, not {kind.__name__}")
    return value


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
