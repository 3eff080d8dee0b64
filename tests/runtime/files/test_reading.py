from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.errors import ImageError
from wetread.runtime.files import reading as files
from wetread.runtime.files.reading import read_local, read_regular


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_001])
def test_a_file_is_read_whole(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert read_local(os.fspath(tmp_path / "file")) == data
    found, status = read_regular(os.fspath(tmp_path / "file"))
    assert (found, status.st_size) == (data, size)


@given(data=st.binary(max_size=200), said=st.integers(0, 250), piece=st.integers(1, 60))
def test_whatever_size_was_said_and_however_the_system_gives_it(data, said, piece):
    """A file that grows or shrinks while it is read, and a share that answers in pieces, lose nothing."""
    given_so_far = 0

    def read(_descriptor: int, most: int) -> bytes:
        nonlocal given_so_far
        part = data[given_so_far : given_so_far + min(most, piece)]
        given_so_far += len(part)
        return part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "read", read)
        found = files._read_whole(0, size=said)
    # A piece that ends just where the file was said to end is taken for its end.
    assert found == (data[:said] if said == min(piece, said + 1, len(data)) else data)


@pytest.mark.parametrize("listed", [1, 99, 100, 101, 5_000])
def test_a_file_that_is_no_longer_as_listed_is_read_whole(tmp_path, listed):
    data = os.urandom(100)
    (tmp_path / "file").write_bytes(data)
    assert read_local(os.fspath(tmp_path / "file"), size=listed) == data


@pytest.mark.parametrize("size", [None, 4096])
def test_a_folder_is_no_file(tmp_path, size):
    with pytest.raises(ImageError) as caught:
        read_local(os.fspath(tmp_path), size=size)
    assert caught.value.status == "unreadable"
    if os.name != "nt":
        assert str(caught.value) == "This is not a regular file."


def test_a_file_of_no_size_that_holds_something_is_read():
    """As those of /proc are."""
    assert read_local("/proc/self/cmdline").count(b"\0") > 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes in the file system here")
def test_a_pipe_is_never_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for size in (None, 10):
        with pytest.raises(ImageError, match="regular file") as caught:
            read_local(os.fspath(tmp_path / "pipe"), size=size)
        assert caught.value.status == "unreadable"


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    with pytest.raises(ImageError, match="No such file") as caught:
        read_local(os.fspath(tmp_path / "gone"))
    assert caught.value.status == "unreadable"
