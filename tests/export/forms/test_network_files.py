"""What belongs to a network, measured and named by its bytes."""

from __future__ import annotations

import hashlib
import os

from wetread.export.forms.network_files import NetworkSource, make_source


def test_a_file_alone_has_its_own_digest(tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(b"abc")
    source = make_source(path)
    assert os.fspath(source) == str(path)
    assert (source.digest(), source.measure()) == (hashlib.sha256(b"abc").hexdigest(), 3)
    assert make_source(source) is source


def test_every_file_counts_and_its_name(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/data"):
        (folder / name).write_bytes(name.encode())
    source = NetworkSource(path=folder)
    digests = {source.digest()}
    assert source.measure() == len("saved_model.pb") + len("variables/data")
    (folder / "variables" / "data").rename(folder / "variables" / "other")
    digests.add(source.digest())
    (folder / "saved_model.pb").write_bytes(b"changed")
    digests.add(source.digest())
    (tmp_path / "w.h5").write_bytes(b"w")
    digests.add(NetworkSource(path=folder, weights=tmp_path / "w.h5").digest())
    assert len(digests) == 4


def test_the_files_of_a_checkpoint_are_its_weights(tmp_path):
    (tmp_path / "net.json").write_bytes(b"{}")
    for name in ("ckpt.index", "ckpt.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b"12")
    assert NetworkSource(path=tmp_path / "net.json", weights=tmp_path / "ckpt").measure() == 6
