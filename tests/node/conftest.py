"""A node at work in this process, and what sends to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from tests.runtime.images.dicom.drawing import draw_xray, write_dicom
from wetread import Classifier
from wetread.node.options import NodeOptions, Peer
from wetread.node.service import run_node

CR = "1.2.840.10008.5.1.4.1.1.1"
HERE = "127.0.0.1"


def make_image(number: int = 1, *, seed: int | None = None, **extra: Any) -> bytes:
    """A drawn X-ray as a CR object of its own UID."""
    attributes = {
        "SOPClassUID": CR,
        "SOPInstanceUID": f"1.2.3.{number}",
        "SeriesInstanceUID": "1.2.3.0.1",
        "StudyInstanceUID": "1.2.3.0",
        "StudyTime": "101010",
        "AccessionNumber": "SECRET-ACC",
        "InstanceNumber": number,
    }
    pixels = draw_xray(8, shape=(80, 72), seed=number if seed is None else seed)
    return write_dicom(pixels, bits=8, extra=attributes | extra)


def until(found: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return value


def associate() -> bytes:
    """The bytes of a real A-ASSOCIATE-RQ of pynetdicom's."""
    from pynetdicom import build_context
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import (
        A_ASSOCIATE,
        ImplementationClassUIDNotification,
        MaximumLengthNotification,
    )

    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MOD", "WETREAD"
    length, name = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, name.implementation_class_uid = 16_382, "1.2.3"
    asked.user_information = [length, name]
    context = build_context("1.2.840.10008.5.1.4.1.1.1")
    context.context_id = 1
    asked.presentation_context_definition_list = [context]
    made = A_ASSOCIATE_RQ()
    made.from_primitive(asked)
    return bytes(made.encode())


@dataclass
class Running:
    """A node that runs: its port, what it said, and its output."""

    port: int
    output: Path
    said: list[str] = field(default_factory=list)

    def rows(self) -> list[str]:
        """The whole rows that are written."""
        return self.output.read_text().splitlines()[1:] if self.output.exists() else []

    def send(self, *objects: bytes, title: str = "MOD", called: str = "WETREAD") -> list[int | None]:
        """Send objects in one association; return the statuses, none where it is refused."""
        import io

        import pydicom
        from pynetdicom import AE

        entity = AE(ae_title=title)
        read = [pydicom.dcmread(io.BytesIO(data)) for data in objects]
        for each in read:
            syntax = each.file_meta.TransferSyntaxUID
            if not any(context.abstract_syntax == each.SOPClassUID for context in entity.requested_contexts):
                entity.add_requested_context(each.SOPClassUID, syntax)
        association = entity.associate(HERE, self.port, ae_title=called)
        if not association.is_established:
            return []
        statuses = []
        for each in read:
            answer = association.send_c_store(each) if association.is_established else None
            statuses.append(answer.get("Status") if answer else None)
        association.release()
        return statuses


@pytest.fixture(scope="session")
def model(toy_model: Path) -> Classifier:
    return Classifier(toy_model)


@pytest.fixture
def start(tmp_path: Path, model: Classifier) -> Callable[..., Any]:
    """Start a node on a free port for a while: `with start(...) as node`."""

    @contextmanager
    def run(**more: Any) -> Iterator[Running]:
        output, stopped, node = (
            tmp_path / "scores.csv",
            threading.Event(),
            Running(0, tmp_path / "scores.csv"),
        )
        # In this process, where tests can put something in the place of what reads.
        own = {"allow": (Peer("MOD", HERE),), "retry_seconds": (0.05, 0.2), "isolated": False}
        values = own | more
        options = NodeOptions(
            ae_title="WETREAD", output=str(output), store=str(tmp_path / "store"), port=0, host=HERE, **values
        )
        errors: list[BaseException] = []

        def work() -> None:
            try:
                run_node(
                    model,
                    options,
                    stop=stopped.is_set,
                    report=node.said.append,
                    started=lambda port: setattr(node, "port", port),
                )
            except BaseException as error:  # noqa: BLE001 - raised again by the test
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            until(lambda: node.port or errors)
            if not errors:
                yield node
        finally:
            stopped.set()
            thread.join(60)
        if errors:
            raise errors[0]

    return run


class Archive:
    """An archive that is not pynetdicom's own answer: what it takes and refuses is the test's."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.answers: dict[str, int] = {}
        self.port = 0
        self._server: Any = None

    def start(self, port: int = 0) -> Archive:
        from pynetdicom import AE, evt

        entity = AE(ae_title="ARCH")
        for kind in ("1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"):
            entity.add_supported_context(kind)
        self._server = entity.start_server(
            (HERE, port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)]
        )
        self.port = self._server.server_address[1]
        return self

    def _take(self, event: Any) -> int:
        found = event.dataset
        status = self.answers.get(str(found.SOPInstanceUID), 0)
        if status == 0:
            self.objects.append(found)
        return status

    def stop(self) -> None:
        self._server.ae.shutdown()

    @property
    def peer(self) -> Peer:
        return Peer("ARCH", HERE, self.port)

    def kinds(self) -> list[str]:
        return sorted(str(found.Modality) for found in self.objects)


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive().start()
    yield made
    made.stop()
