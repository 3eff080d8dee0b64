from __future__ import annotations

import os
import stat

import pytest

from wetread.runtime.files.permissions import make_opener

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize("umask", [0, 0o22, 0o77])
def test_a_new_file_has_the_mode_whatever_the_umask_is(tmp_path, mode, umask):
    before = os.umask(umask)
    try:
        with open(tmp_path / "a", "ab", opener=make_opener(mode)) as file:
            file.write(b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_an_old_file_keeps_its_own(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open(tmp_path / "link", "a+b", opener=make_opener(0o600)) as file:
        file.write(b"2")
    assert (tmp_path / "a").read_bytes() == b"12"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
