from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from wetread.runtime.allocator import share_one_arena
assert sys.argv[1] == "own" or share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
ready = threading.Barrier(9)
def work():
    libc.malloc(ctypes.c_size_t(5000))
    ready.wait()
    ready.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
ready.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
@pytest.mark.parametrize(("way", "is_one"), [("own", False), ("shared", True)])
def test_threads_share_one_arena(tmp_path, way, is_one):
    """As glibc itself counts them (malloc_info)."""
    subprocess.run([sys.executable, "-c", COUNT, way, str(tmp_path / "info.xml")], check=True)
    assert ((tmp_path / "info.xml").read_text().count("<heap nr=") == 1) is is_one
