"""Who pays where a bucket's requesters pay: the project of a command, for all that it opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PROJECT: ContextVar[str | None] = ContextVar("project", default=None)


@contextmanager
def bill_project(project: str | None) -> Iterator[None]:
    """Within the block, what is opened in Cloud Storage without a project of its own bills this one.

    It is named to the service only where a bucket asks for it. None leaves all as it is.
    """
    if project is None:
        yield
        return
    before = _PROJECT.set(project)
    try:
        yield
    finally:
        _PROJECT.reset(before)


def find_project() -> str | None:
    """The project of the innermost `bill_project` block around the caller."""
    return _PROJECT.get()
