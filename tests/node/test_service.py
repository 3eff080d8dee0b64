from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.node.conftest import associate, make_image, until
from wetread.errors import ImageError, OutputError, SetupError, Status
from wetread.node import service
from wetread.node.options import Peer
from wetread.node.results.source_image import derive_uid
from wetread.runtime.entries import Entry
from wetread.runtime.watch import faults, growing_output, status
from wetread.runtime.watch.faults import Faults


def test_an_object_gets_one_row_and_one_result_of_each_kind(start, archive, tmp_path):
    with start(archives=(archive.peer,), results=("sr", "sc")) as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: len(archive.objects) == 4)
        assert node.send(make_image(1)) == [0]  # the same again: nothing new
    rows = node.rows()
    assert [row.split(",")[:2] for row in rows] == [
        [str(tmp_path / "store" / f"1.2.3.{number}.dcm"), "ok"] for number in (1, 2)
    ]
    assert archive.kinds() == ["OT", "OT", "SR", "SR"]
    assert node.said == []
    with start(archives=(archive.peer,), results=("sr", "sc")) as node:
        assert node.send(make_image(2)) == [0]
        assert node.send(make_image(3)) == [0]
        until(lambda: len(archive.objects) == 6)
    assert len(node.rows()) == 3


def test_other_bytes_of_a_uid_have_a_row_that_says_so(start):
    with start() as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 1)
        assert node.send(make_image(1, seed=7)) == [0]
        until(lambda: len(node.rows()) == 2)
        assert node.send(make_image(1, seed=7), make_image(1)) == [0, 0]
    first, second = node.rows()
    assert ",ok," in first
    assert ",malformed," in second and "Another object came earlier under the same SOP Instance UID" in second


def test_only_who_is_allowed_may_send(start):
    with start() as node:
        assert node.send(make_image(1), title="OTHER") == []
        assert node.send(make_image(1), called="ELSE") == []
        assert node.send(make_image(1)) == [0]
        until(node.rows)
    assert node.said == [
        "refused an association of 'OTHER' at 127.0.0.1: --allow does not name it",
        "refused an association of 'MOD' at 127.0.0.1: it calls 'ELSE', and this is 'WETREAD' (--ae-title)",
    ]
    with start(allow=(Peer("MOD", "10.0.0.1"), Peer("X", "*"))) as node:
        assert node.send(make_image(2)) == []
        assert node.send(make_image(2), title="X") == [0]


def test_an_object_that_is_too_large_is_broken_off_and_the_next_is_taken(start):
    with start(most_bytes=20_000) as node:
        big = make_image(1, ImageComments="x" * 10_000, PatientComments="y" * 10_000)
        assert node.send(big) in ([None], [])
        assert node.send(make_image(2)) == [0]
        until(node.rows)
    assert len(node.rows()) == 1 and "1.2.3.2.dcm" in node.rows()[0]
    assert [text for text in node.said if "--max-object" in text]


def test_images_for_processing_and_other_classes_are_not_taken(start):
    processing = "1.2.840.10008.5.1.4.1.1.1.1.1"
    with start() as node:
        assert node.send(make_image(1, SOPClassUID=processing)) == []
        assert node.send(make_image(1)) == [0]


def test_reports_of_others_are_refused_one_by_one(start):
    with start() as node:
        assert node.send(make_image(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"), make_image(2)) == [
            0x0122,
            0,
        ]
        until(node.rows)
    assert len(node.rows()) == 1


@pytest.mark.parametrize("number", [0, 2])
def test_what_makes_no_sense_is_broken_off_in_one_line(start, number):
    """The number of a presentation context is odd."""
    request = bytearray(associate())
    at = request.index(b"\x20\x00", 74)  # the item of the presentation context (PS3.8, 9.3.2.2)
    request[at + 4] = number
    with start(allow=(Peer("*", "*"),)) as node:
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as peer:
            peer.sendall(bytes(request))
            until(lambda: node.said)
            time.sleep(0.3)
        assert node.send(make_image(1)) == [0]
        until(node.rows)
    assert [text.split(" of ")[0] for text in node.said] == ["broke off an association"]


def test_a_full_disk_is_answered_and_the_object_taken_later(start, monkeypatch):
    import wetread.node.store as module

    full: list[bool] = []
    whole = module.write_file

    def write(path: Path, *parts: bytes, **more: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, *parts, **more)

    monkeypatch.setattr(module, "write_file", write)
    with start() as node:
        assert node.send(make_image(5)) == [0]
        until(node.rows)
        full.append(True)
        assert node.send(make_image(1)) == [0xA700]
        assert node.send(make_image(5)) == [0]  # the same again is not written: the disk is as full as before
        assert len(node.said) == 1
        full.clear()
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 2)
    full_disk, over = node.said
    assert full_disk == "the store cannot be written: No space left on device; what comes is answered so"
    assert over.startswith("over at ")
    assert over.endswith(f"s after it began: {full_disk}")


def test_an_archive_that_is_away_gets_everything_later(start, archive):
    port = archive.port
    archive.stop()
    with start(archives=(Peer("ARCH", "127.0.0.1", port),), results=("sr",)) as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: node.said)
    with start(archives=(Peer("ARCH", "127.0.0.1", port),), results=("sr",)) as node:  # and over a new start
        archive.start(port)
        until(lambda: len(archive.objects) == 2)
        until(lambda: len(node.said) == 2 or archive.kinds() == ["SR", "SR"])
    assert len(node.rows()) == 2


def test_one_result_that_an_archive_refuses_holds_no_other(start, archive, model):
    def name(number: int) -> str:
        return derive_uid("sr", f"1.2.3.{number}", model.digest)

    archive.answers = {name(1): 0xC000, name(2): 0xA700}
    with start(archives=(archive.peer,), results=("sr",)) as node:
        assert node.send(*(make_image(number) for number in range(1, 5))) == [0] * 4
        until(lambda: len(archive.objects) == 2)
        archive.answers.pop(name(2))
        until(lambda: len(archive.objects) == 3)
    assert {str(found.SOPInstanceUID) for found in archive.objects} == {name(2), name(3), name(4)}
    assert any("for good (0xC000)" in text for text in node.said)


def test_an_object_without_a_result_is_named_and_holds_no_other(start, archive, model, monkeypatch):
    import wetread.node.results.making as module

    whole = module.make_report

    def make(origin, *arguments, **options):
        if origin.uid == "1.2.3.2":
            raise KeyError("a bug")
        return whole(origin, *arguments, **options)

    monkeypatch.setattr(module, "make_report", make)
    with start(archives=(archive.peer,), results=("sr",)) as node:
        images = make_image(1, StudyInstanceUID=""), make_image(2), make_image(3)
        assert node.send(*images) == [0, 0, 0]
        until(lambda: archive.objects)
        until(lambda: len(node.said) == 2)
    assert [str(found.SOPInstanceUID) for found in archive.objects] == [
        derive_uid("sr", "1.2.3.3", model.digest)
    ]
    first, second = sorted(node.said)
    assert first.startswith("no 'sr' is sent of 1.2.3.1.dcm: ") and "no StudyInstanceUID" in first
    assert second.startswith("no 'sr' is sent of 1.2.3.2.dcm: ") and "KeyError" in second


def test_results_that_come_back_are_taken_and_not_scored(start, archive):
    import io

    with start(archives=(archive.peer,), results=("sc",)) as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: archive.objects)
        found = archive.objects[0]
        from pydicom.dataset import FileMetaDataset

        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data = io.BytesIO()
        found.save_as(data, enforce_file_format=True)
        assert node.send(data.getvalue(), make_image(2)) == [0, 0]
        until(lambda: len(archive.objects) == 2)
    assert len(node.rows()) == 2


@pytest.mark.parametrize("retain", ["delete", "away"])
def test_what_is_done_leaves_the_store_and_is_still_known(start, tmp_path, retain):
    folder = retain if retain == "delete" else str(tmp_path / retain)
    with start(retain=folder) as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: not list((tmp_path / "store").glob("*.dcm")))
        assert node.send(make_image(1)) == [0]
    with start(retain=folder) as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: len(node.rows()) == 2)
    if retain == "away":
        assert (tmp_path / retain / "1.2.3.1.dcm").exists()


def test_an_object_that_cannot_be_read_now_stays_and_is_read_later(start, tmp_path, monkeypatch):
    whole, is_short = os.open, [True]

    def open_file(path: str, *more: Any, **others: Any) -> int:
        if is_short and str(path).endswith("/1.2.3.1.dcm"):
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(path, *more, **others)

    monkeypatch.setattr(os, "open", open_file)
    with start(retain="delete") as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: len(node.rows()) == 1 and node.said)
        until(lambda: [path.name for path in (tmp_path / "store").glob("1.*")] == ["1.2.3.1.dcm"])
        is_short.clear()
        until(lambda: not list((tmp_path / "store").glob("*.dcm")))
        until(lambda: len(node.said) == 2)
    assert [",ok," in row for row in node.rows()] == [True, True]
    said, over = node.said
    assert said == (
        "objects in the store cannot be read, 1.2.3.1.dcm first: Too many open files; they stay, and are "
        "tried again"
    )
    assert over.startswith("over at ")


def test_an_object_for_which_there_is_no_memory_stays_and_is_read_later(start, tmp_path, monkeypatch):
    whole, is_short = cv2.resize, [True]

    def resize(*given: Any, **more: Any) -> Any:
        return whole(np.zeros((2, 2), np.uint8), (1 << 22, 1 << 22)) if is_short else whole(*given, **more)

    monkeypatch.setattr(cv2, "resize", resize)
    with start(retain="delete") as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: node.said)
        assert node.rows() == [] and (tmp_path / "store" / "1.2.3.1.dcm").exists()
        is_short.clear()
        until(lambda: len(node.said) == 2)
    assert ",ok," in node.rows()[0]
    assert node.said[0].startswith("objects in the store cannot be read, 1.2.3.1.dcm first: Cannot alloc")


def test_an_object_whose_row_is_a_fault_of_ours_is_not_deleted(start, tmp_path, monkeypatch):
    def fail(_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(service, "read_stored", fail)
    for _ in range(2):  # nor at the next start
        with start(retain="delete") as node:
            assert node.send(make_image(1)) == [0]
            until(node.rows)
            time.sleep(0.2)
    (row,) = node.rows()
    assert ",unreadable," in row
    assert (tmp_path / "store" / "1.2.3.1.dcm").exists()


def test_an_object_that_was_not_there_for_a_moment_is_read_later(start, monkeypatch):
    whole, is_away = service.read_stored, [True]

    def read(entry: Entry) -> bytes:
        if is_away and entry.name.endswith("/1.2.3.1.dcm"):
            is_away.clear()
            raise ImageError(Status.UNREADABLE, "It is gone.", errno=errno.ENOENT)
        return whole(entry)

    monkeypatch.setattr(service, "read_stored", read)
    with start() as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 1)
        until(lambda: len(node.said) == 2)
    assert node.said[0].startswith("objects in the store cannot be read, 1.2.3.1.dcm first: No such file")


def test_an_object_that_ends_its_process_is_its_row_and_stays_and_the_others_go_on(
    start, tmp_path, monkeypatch
):
    monkeypatch.setattr(service, "read_stored", end_or_read)
    for _ in range(2):  # nor does it hold the next start
        with start(retain="delete", isolated=True) as node:
            assert set(node.send(make_image(666), make_image(1), make_image(2))) == {0}
            until(lambda: len(node.rows()) == 3)
            until(lambda: len(list((tmp_path / "store").glob("*.dcm"))) == 1)
    ended, *others = sorted(node.rows(), key=lambda row: "/1.2.3.666.dcm," not in row)
    assert ",unreadable," in ended and "It ended the process that read it" in ended
    assert [",ok," in row for row in others] == [True, True]
    assert (tmp_path / "store" / "1.2.3.666.dcm").exists()


def end_or_read(entry: Entry) -> bytes:
    """Read as the node does; one object ends the process, as a decoder's crash would."""
    if entry.name.endswith("/1.2.3.666.dcm"):
        os._exit(9)
    return service.read_stored(entry)


def test_an_object_that_somebody_removed_gets_its_row_when_it_is_sent_again(start, tmp_path, monkeypatch):
    whole, removed = service.read_stored, []

    def read(entry: Entry) -> bytes:
        if entry.name.endswith("/1.2.3.1.dcm") and not removed:
            removed.append(entry)
            Path(entry.name).unlink()
        return whole(entry)

    monkeypatch.setattr(service, "read_stored", read)
    with start() as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: len(node.rows()) == 1 and node.said)
        assert node.said == [
            "1.2.3.1.dcm left the store before it had a row: it gets one when it is sent again"
        ]
        assert node.send(make_image(1)) == [0]
        until(lambda: len(node.rows()) == 2)
    assert [",ok," in row for row in node.rows()] == [True, True]
    assert len(node.said) == 1


def test_a_start_names_what_left_the_store_and_goes_on_with_it_when_it_is_sent_again(
    start, archive, tmp_path
):
    archive.stop()
    options = {"archives": (archive.peer,), "results": ("sr",)}
    with start(**options) as node:
        assert node.send(make_image(1), make_image(2)) == [0, 0]
        until(lambda: len(node.rows()) == 2)
    (tmp_path / "store" / "1.2.3.1.dcm").unlink()
    archive.start(archive.port)
    with start(**options) as node:
        until(lambda: len(archive.objects) == 1)
        assert node.said == [
            "1 objects left the store before they were done, the first is 1.2.3.1.dcm: each is taken up when "
            "it is sent again"
        ]
        assert node.send(make_image(1)) == [0]
        until(lambda: len(archive.objects) == 2)
    assert len(node.rows()) == 2


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_object_that_is_removed_while_its_result_waits_has_it_sent_once(start, archive, tmp_path, is_gone):
    """It is sent again before the archive is back, or after the node found that it was gone."""
    port = archive.port
    archive.stop()
    place = tmp_path / "store" / "1.2.3.1.dcm"
    with start(archives=(Peer("ARCH", "127.0.0.1", port),), results=("sr",)) as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: node.rows() and node.said)
        place.unlink()
        if not is_gone:
            assert node.send(make_image(1)) == [0]
        archive.start(port)
        if is_gone:
            until(lambda: any("left the store before its 'sr' was out" in text for text in node.said))
            assert (node.send(make_image(1)), len(archive.objects)) == ([0], 0)
        until(lambda: archive.objects)
        assert node.send(make_image(2)) == [0]
        until(lambda: len(archive.objects) > 1)
    assert len({str(found.SOPInstanceUID) for found in archive.objects}) == len(archive.objects) == 2
    assert len(node.rows()) == 2


def test_results_wait_while_the_disk_of_the_store_is_not_there(start, archive, tmp_path):
    """And what is sent then is refused, and not written into the folder that is left."""
    folder, disk = tmp_path / "store", tmp_path / "disk"
    archive.stop()
    with start(archives=(archive.peer,), results=("sr",)) as node:
        assert node.send(make_image(1)) == [0]
        until(lambda: node.rows() and node.said)  # it waits for the archive
        folder.rename(disk)
        folder.mkdir()
        archive.start(archive.port)
        until(lambda: [text for text in node.said if "the store is not there" in text])
        assert node.send(make_image(2)) == [0x0110]
        assert list(folder.iterdir()) == [] and archive.objects == []
        folder.rmdir()
        disk.rename(folder)
        until(lambda: archive.objects)
        assert node.send(make_image(2)) == [0]
        until(lambda: len(archive.objects) == 2)
    assert len(node.rows()) == 2
    assert [text for text in node.said if "no 'sr' is sent" in text] == []


def test_a_clock_that_is_set_back_or_ahead_loses_nothing(start, archive, tmp_path, monkeypatch):
    """A day back, then two ahead, for all that ask for the time of day, pynetdicom too."""
    moved, whole = [0], (time.time, faults.format_now)
    monkeypatch.setattr(time, "time", lambda: whole[0]() + 86_400 * moved[0])

    def format_now() -> str:
        return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    for module in (faults, status, growing_output):
        monkeypatch.setattr(module, "format_now", format_now)
    more = {"archives": (archive.peer,), "results": ("sr",), "columns": ("scored_at",)}
    with start(status=str(tmp_path / "status.json"), **more) as node:
        for number, days in enumerate((0, -1, 1)):
            moved[0] = days
            objects = [make_image(3 * number + each) for each in range(1, 4)]
            assert node.send(*objects) == [0, 0, 0]
            assert node.send(objects[0]) == [0]  # the same again
            until(lambda: len(archive.objects) == 3 * number + 3)  # noqa: B023
    rows = node.rows()
    days_of_rows = [row.rsplit(",", 1)[1][:10] for row in rows]
    assert len(rows) == 9 and days_of_rows[3] < days_of_rows[0] < days_of_rows[6]
    assert node.said == []
    assert json.loads((tmp_path / "status.json").read_text())["errors_now"] == []


def test_no_name_or_number_of_a_patient_is_written(start, tmp_path):
    with start() as node:
        assert node.send(make_image(1), make_image(1, seed=3), title="MOD") == [0, 0]
        until(lambda: len(node.rows()) == 2)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert "SECRET" not in path.read_text() and "Doe" not in path.read_text()
        assert "SECRET" not in path.name
    assert "SECRET" not in " ".join(node.said)


def test_status_columns_and_permissions(start, archive, tmp_path, model, monkeypatch):
    monkeypatch.setattr(status, "EVERY", 0.05)
    place = tmp_path / "status.json"
    port = archive.port
    archive.stop()
    archives = (Peer("ARCH", "127.0.0.1", port),)
    with start(status=str(place), columns=("scored_at", "model"), archives=archives, results=("sr",)) as node:
        node.send(make_image(1))
        until(node.rows)
        found = until(
            lambda: (read := json.loads(place.read_text()))["errors_now"] and read["waiting"] == 0 and read
        )
        assert found["results_waiting"] == 1
        assert (found["rows_since_start"], found["last_error"]["ended"]) == ({"ok": 1}, None)
        assert "cannot be reached" in found["last_error"]["what"]
        archive.start(port)
        until(
            lambda: (read := json.loads(place.read_text()))["last_error"]["ended"] and not read["errors_now"]
        )
        until(lambda: json.loads(place.read_text())["results_waiting"] == 0)
    assert json.loads(place.read_text())["state"] == "stopped"
    assert "SECRET" not in place.read_text()
    assert node.rows()[0].endswith(f"Z,{model.digest}")
    for name in ("scores.csv", "scores.csv.watch", "scores.csv.node"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_second_node_and_a_taken_port_are_refused(start, tmp_path):
    with start() as node:
        with pytest.raises(OutputError, match="Another node writes"), start():
            pass
        from wetread.node.options import NodeOptions
        from wetread.node.receiver import Receiver
        from wetread.node.service import run_node

        options = NodeOptions(
            ae_title="W",
            output=str(tmp_path / "other.csv"),
            store=str(tmp_path / "other"),
            port=node.port,
            host="127.0.0.1",
            allow=(Peer("*", "*"),),
        )
        with pytest.raises(SetupError, match="cannot listen on port"):
            Receiver(options, None, arrived=print, report=print, faults=Faults(print)).start()  # type: ignore[arg-type]
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SetupError, match="cannot listen on port"):
            run_node(None, options, stop=lambda: True)  # type: ignore[arg-type]
        assert sorted(tmp_path.rglob("*")) == before  # nothing was made for what cannot be
