"""Errors: what another process sends is the error that it raised."""

from __future__ import annotations

import pickle

import pytest

from wetread import errors
from wetread.errors import ImageError, Status, WetreadError


def list_kinds(kind: type[WetreadError]) -> list[type[WetreadError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in list_kinds(below))]


def make(kind: type[WetreadError]) -> WetreadError:
    if kind is ImageError:
        return ImageError(Status.EMPTY, "The file is empty.")
    if kind is errors.MissingExtraError:
        return errors.MissingExtraError("pydicom", extra="dicom")
    if kind is errors.BrokenPackageError:
        return errors.BrokenPackageError("cv2", reason="libGL.so.1 is missing", advice="Install libgl1")
    return kind("words")


@pytest.mark.parametrize(
    "kind", [each for each in list_kinds(WetreadError) if each.__module__ == errors.__name__]
)
def test_an_error_is_the_same_after_a_pickle(kind):
    error = make(kind)
    error.add_note("from a worker")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is kind
    assert (str(found), vars(found)) == (str(error), vars(error))
    assert found.args == error.args


def test_an_error_with_fields_is_the_same_after_a_pickle():
    pytest.importorskip("onnx")
    from wetread.export.judging import GateError

    error = GateError("no form holds", candidates=())
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.candidates) == (GateError, "no form holds", ())
