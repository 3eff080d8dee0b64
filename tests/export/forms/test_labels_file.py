"""labels.txt beside a network."""

from __future__ import annotations

import pytest

from wetread.export.forms.labels_file import read_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("0 NORMAL\n1 PNEUMONIA\n", ("NORMAL", "PNEUMONIA")),
        ("0 Class 1\r\n1 Class 2\r\n2 3 things\r\n", ("Class 1", "Class 2", "3 things")),
        ("cat\ndog\n\n", ("cat", "dog")),
        ("1 cat\n0 dog\n", ("1 cat", "0 dog")),  # numbers that are no order are not taken for one
        ("\ufeff0 Äpfel\n1 Birnen", ("Äpfel", "Birnen")),
    ],
)
def test_lines(text, labels, tmp_path):
    (tmp_path / "labels.txt").write_bytes(text.encode("utf-8"))
    for network in (tmp_path, tmp_path / "net.h5"):
        assert read_labels(network).labels == labels


def test_none(tmp_path):
    assert read_labels(tmp_path / "net.h5") is None
    (tmp_path / "labels.txt").write_bytes(b"\n")
    assert read_labels(tmp_path) is None
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    assert read_labels(tmp_path) is None
