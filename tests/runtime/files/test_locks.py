"""File systems that lack locks, syncing, links, modes or times: a share, an old NFS, some FUSE mounts."""

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
    #define REAL(type, name, types, ...) ((type (*) types)dlsym(RTLD_NEXT, name))(__VA_ARGS__)
    #define LACKS(kind) if (is(kind)) { errno = EPERM; return -1; }
    int fsync(int file) {
        struct stat found;
        int folder = !fstat(file, &found) && S_ISDIR(found.st_mode);
        if (is("fsync all") || (is("sync") && folder)) { errno = EINVAL; return -1; }
        return REAL(int, "fsync", (int), file);
    }
    int link(const char *a, const char *b) {
        LACKS("link")
        return REAL(int, "link", (const char *, const char *), a, b);
    }
    int linkat(int x, const char *a, int y, const char *b, int how) {
        LACKS("link")
        return REAL(int, "linkat", (int, const char *, int, const char *, int), x, a, y, b, how);
    }
    int chmod(const char *a, mode_t how) {
        LACKS("chmod")
        return REAL(int, "chmod", (const char *, mode_t), a, how);
    }
    int fchmod(int a, mode_t how) {
        LACKS("chmod")
        return REAL(int, "fchmod", (int, mode_t), a, how);
    }
    int fchmodat(int x, const char *a, mode_t how, int flags) {
        LACKS("chmod")
        return REAL(int, "fchmodat", (int, const char *, mode_t, int), x, a, how, flags);
    }
    int utimensat(int x, const char *a, const struct timespec times[2], int flags) {
        LACKS("utime")
        return REAL(int, "utimensat", (int, const char *, const struct timespec *, int), x, a, times, flags);
    }
    int futimens(int a, const struct timespec times[2]) {
        LACKS("utime")
        return REAL(int, "futimens", (int, const struct timespec *), a, times);
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


@pytest.mark.parametrize("kind", ["ENOLCK", "ENOTSUP", "ENOSYS", "sync", "fsync all"])
def test_a_share_that_lacks_something_scores_and_says_so_once(kind, shim, toy_model, image_folder, tmp_path):
    whole, shared = tmp_path / "whole.csv", tmp_path / "shared.csv"
    assert score(image_folder, whole, toy_model).returncode == 0
    done = score(image_folder, shared, toy_model, LD_PRELOAD=str(shim), WETREAD_TEST_SHARE=kind)
    assert (done.returncode, shared.exists()) == (0, True), done.stderr
    assert shared.read_bytes() == whole.read_bytes()
    (line,) = done.stderr.splitlines()
    assert ("cannot sync files" if "sync" in kind else "has no locks") in line


@pytest.mark.parametrize("kind", ["link", "chmod", "utime"])
def test_a_share_without_links_modes_or_times_scores_the_same_in_silence(
    kind, shim, toy_model, image_folder, tmp_path
):
    whole, shared = tmp_path / "whole.csv", tmp_path / "shared.csv"
    assert score(image_folder, whole, toy_model).returncode == 0
    done = score(image_folder, shared, toy_model, LD_PRELOAD=str(shim), WETREAD_TEST_SHARE=kind)
    assert (done.returncode, done.stderr) == (0, "")
    assert shared.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("kind", ["", "link", "chmod", "utime", "fsync all"])
def test_files_are_placed_and_moved_on_a_share_that_lacks_something(kind, shim, tmp_path):
    """What shards and `watch --done` do: a file that is placed once, and one that moves to another system."""
    code = """if True:
        import os, sys, warnings
        from pathlib import Path
        from wetread.runtime.files import atomic, moving
        warnings.simplefilter("ignore")
        for call, name in (("link", "link"), ("chmod", "chmod"), ("utime", "utime"), ("fsync all", "fsync")):
            if sys.argv[1] != call:
                continue
            Path("probe").write_text("")
            acts = {"link": lambda: os.link("probe", "p2"), "chmod": lambda: os.chmod("probe", 0o600)}
            acts["utime"] = lambda: os.utime("probe")
            acts["fsync"] = lambda: os.fsync(os.open("probe", os.O_RDWR))
            try:
                acts[name]()
            except OSError:
                continue
            sys.exit("the shim did not work")
        Path("source").write_text("first")
        assert atomic.copy_file(Path("source"), "placed", overwrite=False)
        assert not atomic.copy_file(Path("source"), "placed", overwrite=False)
        moving._copy_over("source", Path("moved"))
        assert Path("placed").read_text() == Path("moved").read_text() == "first"
        assert sorted(set(os.listdir()) - {"probe"}) == ["moved", "placed"]
    """
    environment = {**os.environ, "LD_PRELOAD": str(shim), "WETREAD_TEST_SHARE": kind}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, kind],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


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
    with pytest.warns(ShareWarning, match="cannot sync files"):
        atomic.sync_folder(str(tmp_path / "x"))


def test_a_lock_that_a_killed_process_leaves_to_another_for_a_moment_is_waited_for(tmp_path):
    """A process that is just being started has all that is open, until it runs its own program."""
    place = tmp_path / "lock"
    with place.open("ab") as held:
        assert lock_file(held)
        heir = subprocess.Popen(["sleep", "0.4"], pass_fds=[held.fileno()])
    with place.open("ab") as file:
        assert not lock_file(file, patient=False)
        assert lock_file(file)
        assert heir.wait() == 0
