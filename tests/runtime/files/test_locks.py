"""Locks and folder sync on file systems that have neither: a share, an old NFS, some FUSE mounts."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from wetread.errors import ShareWarning
from wetread.runtime.files import atomic
from wetread.runtime.files.locks import lock_file

fcntl = pytest.importorskip("fcntl", reason="Windows locks by another call")

# Fails as WETREAD_TEST_SHARE says, as the system's own library would on such a share.
SHIM = textwrap.dedent("""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    static int is(const char *kind) {
        const char *set = getenv("WETREAD_TEST_SHARE");
        return set && !strcmp(set, kind);
    }
    int flock(int file, int how) {
        if (is("ENOLCK")) { errno = ENOLCK; return -1; }
        if (is("ENOTSUP")) { errno = ENOTSUP; return -1; }
        if (is("ENOSYS")) { errno = ENOSYS; return -1; }
        int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
        return real(file, how);
    }
    int fsync(int file) {
        struct stat found;
        if (is("sync") && !fstat(file, &found) && S_ISDIR(found.st_mode)) { errno = EINVAL; return -1; }
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
        return real(file);
    }
""")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("no gcc on Linux: a share without locks cannot be imitated")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "shim.c", "-ldl"], check=True)
    return library


def score(folder, output, model, **environment):
    command = [
        sys.executable,
        "-m",
        "wetread",
        "score",
        folder,
        "--model",
        model,
        "--output",
        output,
        "--quiet",
    ]
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kind", ["ENOLCK", "ENOTSUP", "ENOSYS", "sync"])
def test_a_share_that_lacks_something_scores_and_says_so_once(kind, shim, toy_model, image_folder, tmp_path):
    whole, shared = tmp_path / "whole.csv", tmp_path / "shared.csv"
    assert score(image_folder, whole, toy_model).returncode == 0
    done = score(image_folder, shared, toy_model, LD_PRELOAD=str(shim), WETREAD_TEST_SHARE=kind)
    assert done.returncode == 0
    assert shared.read_bytes() == whole.read_bytes()
    (line,) = done.stderr.splitlines()
    assert ("does not sync folders" if kind == "sync" else "has no locks") in line


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_counts_as_free(number, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (tmp_path / "state").open("wb") as file, pytest.warns(ShareWarning, match="no locks"):
        assert lock_file(file)


def test_other_failures_of_a_lock_are_failures(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with (tmp_path / "state").open("wb") as file, pytest.raises(OSError, match="error"):
        lock_file(file)


def test_a_second_lock_is_refused(tmp_path):
    with (tmp_path / "state").open("wb") as one, (tmp_path / "state").open("wb") as two:
        assert lock_file(one)
        assert not lock_file(two)


def test_a_folder_that_cannot_be_synced_is_said(monkeypatch, tmp_path):
    def fail(_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.warns(ShareWarning, match="does not sync folders"):
        atomic.sync_folder(str(tmp_path / "x"))
