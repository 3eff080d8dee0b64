"""Who may send to the node, and what becomes of what they send: a file, or an answer that says why not.

One association is one thread of pynetdicom's. Success is answered when the object is whole on the disk.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from wetread.errors import SetupError
from wetread.node.association_waiting import wait_for_events
from wetread.node.bounded_connection import BoundedConnection, LateHandshake
from wetread.node.fragments import Fragments
from wetread.node.options import ANY, NodeOptions, TlsFiles
from wetread.node.pynetdicom_entity import close_always, import_pynetdicom, make_entity
from wetread.node.results.source_image import is_own_result
from wetread.node.store import Received, Store
from wetread.runtime.images.dicom.frames import list_syntaxes
from wetread.runtime.watch.faults import Faults, Report

if TYPE_CHECKING:
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.transport import AssociationSocket

# Computed radiography, digital X-ray for presentation, and secondary captures. Digital X-ray for processing
# is not among them: its gray levels are the detector's.
CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
# An archive that routes a whole study sends our own reports back, and gives up all of it where they are
# refused (Orthanc does): this class is taken, and what is not ours of it is refused one by one.
REPORTS = "1.2.840.10008.5.1.4.1.1.88.33"
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
VERIFICATION = "1.2.840.10008.1.1"
SUCCESS, NO_ROOM, FAILED, NOT_UNDERSTOOD, NO_CLASS, NO_MATCH = 0x0000, 0xA700, 0x0110, 0xC000, 0x0122, 0xA900
_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_PDU = 1 << 17
_INSTANCE_UID, _BEGINNING, _DEFLATED = 0x00080018, 1 << 16, "1.2.840.10008.1.2.1.99"
_SECONDS = 60.0  # that a peer may be silent
# PS3.8, 9.3.4: rejected for good, by the service's user.
_REJECTED, _BY_USER, _UNKNOWN_CALLER, _UNKNOWN_CALLED = 0x01, 0x01, 0x03, 0x07

Arrived = Callable[[str], None]


class Receiver:
    """The listening side of a node. `arrived` is called with the name of every new file in the store."""

    def __init__(
        self, options: NodeOptions, store: Store, *, arrived: Arrived, report: Report, faults: Faults
    ) -> None:
        self._options, self._store, self._arrived, self._report = options, store, arrived, report
        self._faults = faults
        self._allowed = [(peer.title, _find_hosts(peer.host, peer.find_addresses)) for peer in options.allow]
        self._sizes: dict[int, int] = {}
        self._lock = threading.Lock()
        self._connections: WeakSet[BoundedConnection] = WeakSet()
        self._server: Any = None
        self.port = 0

    def start(self) -> None:
        """Listen. Raises SetupError where the port is taken or a certificate cannot be read."""
        server = self._make_entity()
        tls = LateHandshake(make_tls_context(self._options.tls, server=True)) if self._options.tls else None
        evt = import_pynetdicom().evt
        handlers = [
            (evt.EVT_CONN_OPEN, self._guard),
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_C_STORE, self._take),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_CONN_CLOSE, self._end),
        ]
        place = (self._options.host, self._options.port)
        try:
            self._server = server.start_server(place, block=False, evt_handlers=handlers, ssl_context=tls)
        except OSError as error:
            raise _lack_port(self._options.port, error) from error
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        """End all associations and stop listening."""
        if self._server is not None:
            with self._lock:
                connections = list(self._connections)
            for connection in connections:  # an association in the middle of a PDU would be waited for
                connection.break_off()
            self._server.ae.shutdown()

    def _make_entity(self) -> Any:
        entity = make_entity(self._options.ae_title)
        entity.require_called_aet = False  # `_check_caller` does it, and says so: it is the commonest mistake
        entity.maximum_associations = self._options.associations
        entity.maximum_pdu_size = _PDU
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _SECONDS
        for kind in CLASSES:
            entity.add_supported_context(kind, list(list_syntaxes()))
        entity.add_supported_context(REPORTS)
        entity.add_supported_context(VERIFICATION)
        return entity

    def _guard(self, event: Event) -> None:
        """Let an association wait; break it off where its peer breaks the protocol, or states a long PDU.

        pynetdicom would end its thread by an exception, or believe the length and set memory aside.
        """
        link: Any = event.assoc.dul
        connection, machine = link.socket, link.state_machine
        close_always(connection)
        act = machine.do_action

        is_over = False

        def act_or_end(name: str) -> None:
            nonlocal is_over
            if is_over:
                return  # what follows from the end, such as the connection's own
            try:
                act(name)
            except Exception:  # noqa: BLE001 - an event that is out of turn, or a PDU whose values make no sense
                is_over = True
                self._report(
                    f"broke off an association of {event.assoc.requestor.address}: it broke the protocol"
                )
                connection.close()
                machine.current_state = "Sta1"
                link.to_user_queue.put(_make_abort() if event.assoc.is_established else None)

        machine.do_action = act_or_end
        messages: Any = event.assoc.dimse
        messages.receive_primitive = Fragments(messages.receive_primitive).receive
        with self._lock:
            self._connections.add(BoundedConnection(connection, seconds=_SECONDS))
        # At last: pynetdicom swallows what a handler raises, and goes on without what would follow.
        wait_for_events(event.assoc)

    def _check_caller(self, event: Event) -> None:
        caller = event.assoc.requestor
        asked = cast("A_ASSOCIATE", caller.primitive)
        title, address = str(asked.calling_ae_title).strip(), str(caller.address)
        called, own = str(asked.called_ae_title).strip(), self._options.ae_title
        if called != own:
            reason, why = _UNKNOWN_CALLED, f"it calls {called!r}, and this is {own!r} (--ae-title)"
        elif any(
            wanted in (ANY, title) and (not hosts or address in hosts) for wanted, hosts in self._allowed
        ):
            return
        else:
            reason, why = _UNKNOWN_CALLER, "--allow does not name it"
        self._report(f"refused an association of {title!r} at {address}: {why}")
        event.assoc.acse.send_reject(_REJECTED, _BY_USER, reason)
        event.assoc.kill()

    def _count(self, event: Event) -> None:
        """Count the bytes of the object on its way, which pynetdicom holds in memory until it is whole."""
        values = getattr(event.pdu, "presentation_data_value_items", None)
        if values is None:
            return
        key = id(event.assoc)
        with self._lock:
            size = self._sizes.get(key, 0) + sum(
                len(value.presentation_data_value or b"") for value in values
            )
            self._sizes[key] = size
        if size > self._options.most_bytes:
            self._report(
                f"broke off an association of {event.assoc.requestor.ae_title!r}: an object of more than "
                f"{self._options.most_bytes >> 20:,} MiB (--max-object)"
            )
            cast("AssociationSocket", event.assoc.dul.socket).close()

    def _end(self, event: Event) -> None:
        """Let go of an association whose connection is closed: pynetdicom would wait for its request."""
        self._forget(event)
        if not event.assoc.is_established:
            event.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type,unused-ignore]

    def _forget(self, event: Event) -> None:
        with self._lock:
            self._sizes.pop(id(event.assoc), None)

    def _take(self, event: Event) -> int:
        """See one object on the disk; the status of the answer (PS3.4, B.2.3)."""
        self._forget(event)
        uid = str(cast("C_STORE", event.request).AffectedSOPInstanceUID)
        kind = cast("C_STORE", event.request).AffectedSOPClassUID
        if kind in (REPORTS, CAPTURES) and is_own_result(event.encoded_dataset()):
            return SUCCESS  # an archive that routes a study back: a result is never scored
        if kind == REPORTS:
            return NO_CLASS
        try:
            # As `encoded_dataset` would put them together, without a copy of what may be many megabytes.
            header = bytes(128) + b"DICM" + import_pynetdicom().dsutils.encode_file_meta(event.file_meta)
            with cast(BytesIO, cast("C_STORE", event.request).DataSet).getbuffer() as data:
                if (found := _find_uid(header, data, event.context.transfer_syntax)) not in ("", uid):
                    self._report(
                        f"refused an object of {event.assoc.requestor.ae_title!r}: it was announced as "
                        f"{uid}, and its data set is {found!r}"
                    )
                    return NO_MATCH
                received, name = self._store.keep(uid, data, header=header)
        except ValueError:
            self._report(f"refused an object of {event.assoc.requestor.ae_title!r}: its UID is none")
            return NOT_UNDERSTOOD
        except OSError as error:
            reason = error.strerror or str(error)
            self._faults.say("store", f"the store cannot be written: {reason}; what comes is answered so")
            return NO_ROOM if error.errno in _FULL else FAILED
        if received is not Received.SAME:  # for the same again nothing is written
            self._faults.say("store", "")
            self._arrived(name)
        return SUCCESS


def check_port(options: NodeOptions) -> None:
    """Before anything is made: can the node listen there? Raises SetupError."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # there it would share the port with who has it
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise _lack_port(options.port, error) from error


def _lack_port(port: int, error: OSError) -> SetupError:
    return SetupError(
        f"The node cannot listen on port {port}: {error.strerror or error}. Choose another --port."
    )


def _find_uid(header: bytes, data: memoryview, syntax: str) -> str:
    """Find the SOP Instance UID of a data set; '' where there is none, or the data cannot be read."""
    from pydicom.filereader import read_partial

    beginning = data if syntax == _DEFLATED else data[:_BEGINNING]
    try:
        found = read_partial(
            BytesIO(header + beginning),
            stop_when=lambda tag, *_: tag > _INSTANCE_UID,
            specific_tags=[_INSTANCE_UID],
        )
        return str(found.get(_INSTANCE_UID, "") and found[_INSTANCE_UID].value)
    except Exception:  # noqa: BLE001 - what cannot be read is stored, and its row says why
        return ""


def _make_abort() -> Any:
    from pynetdicom.pdu_primitives import A_P_ABORT

    made = A_P_ABORT()
    made.provider_reason = 0x02  # an unexpected PDU
    return made


def _find_hosts(host: str, find: Callable[[], frozenset[str]]) -> frozenset[str]:
    return frozenset() if host == ANY else find()


def make_tls_context(files: TlsFiles, *, server: bool) -> ssl.SSLContext:
    """A TLS context that shows our certificate and asks the other side for one. Raises SetupError."""
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=files.authority)
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"The TLS files cannot be used: {error}. --tls-cert, --tls-key and --tls-ca name PEM files."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    return context
