from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wetread.runtime.files import moving
from wetread.runtime.files.moving import move_aside


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "in" / "röntgen").mkdir(parents=True)
    (tmp_path / "in" / "röntgen" / "a.dcm").write_bytes(b"one")
    return tmp_path / "in"


def move(root: Path) -> Path:
    name = f"{root}/röntgen/a.dcm"
    return Path(move_aside(name, root=f"{root}/", target=str(root.parent / "done")).place)


def test_a_file_keeps_its_place(root):
    assert move(root) == root.parent / "done" / "röntgen" / "a.dcm"
    assert move_target(root).read_bytes() == b"one"
    assert not (root / "röntgen" / "a.dcm").exists()


def move_target(root: Path) -> Path:
    return root.parent / "done" / "röntgen" / "a.dcm"


def test_nothing_is_replaced(root):
    move(root)
    for number, data in ((2, b"two"), (3, b"three")):
        (root / "röntgen" / "a.dcm").write_bytes(data)
        assert move(root).name == f"a ({number}).dcm"
    found = {path.name: path.read_bytes() for path in move_target(root).parent.iterdir()}
    assert found == {"a.dcm": b"one", "a (2).dcm": b"two", "a (3).dcm": b"three"}


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("1.2.840.113.dcm", "1.2.840.113 (2).dcm"),
        ("1.2.840.113", "1.2.840.113 (2)"),  # the number must not stand inside the UID
        ("scan.2026-11-29", "scan.2026-11-29 (2)"),
        ("no dot", "no dot (2)"),
        ("x.jp2", "x (2).jp2"),
        (".hidden", ".hidden (2)"),
    ],
)
def test_a_second_file_keeps_its_suffix(tmp_path, name, second):
    for data in (b"one", b"two"):
        (tmp_path / name).write_bytes(data)
        place = move_aside(str(tmp_path / name), root=str(tmp_path), target=str(tmp_path / "done")).place
    assert Path(place).name == second


def test_the_same_bytes_stand_for_both(root):
    move(root)
    (root / "röntgen" / "a.dcm").write_bytes(b"one")
    assert move(root) == move_target(root)
    assert [path.name for path in move_target(root).parent.iterdir()] == ["a.dcm"]
    assert not (root / "röntgen" / "a.dcm").exists()


def test_another_file_system_is_copied_to(root, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(moving.Path, "rename", refuse)
    assert move(root).read_bytes() == b"one"
    assert [path.name for path in move_target(root).parent.iterdir()] == ["a.dcm"]
    assert not (root / "röntgen" / "a.dcm").exists()


def test_other_errors_leave_the_file(root, monkeypatch):
    def refuse(self, target):
        raise PermissionError(errno.EACCES, "held by another program")

    monkeypatch.setattr(moving.Path, "rename", refuse)
    with pytest.raises(PermissionError):
        move(root)
    assert (root / "röntgen" / "a.dcm").read_bytes() == b"one"


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
def test_the_place_is_named_as_the_target_was(root, monkeypatch):
    """`reach` may open a long name under another one, which no other name can be compared with."""
    other = root.parent / "other"
    other.symlink_to(root.parent)
    monkeypatch.setattr(moving, "reach", lambda name: name.replace(str(root.parent), str(other)))
    assert move(root) == move_target(root)


def test_it_says_whether_it_is_the_same_file(root, monkeypatch):
    def aside() -> bool:
        (root / "a.dcm").write_bytes(b"one")
        return move_aside(f"{root}/a.dcm", root=f"{root}/", target=str(root.parent / "done")).is_renamed

    assert aside()
    assert not aside()  # the older file with the same bytes stays
    (root.parent / "done" / "a.dcm").unlink()

    def refuse(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(moving.Path, "rename", refuse)
    assert not aside()
