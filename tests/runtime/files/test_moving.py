from __future__ import annotations

import errno
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
    return Path(move_aside(name, root=f"{root}/", target=str(root.parent / "done")))


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
