"""Fragments of messages: what follows one another passes, and two messages never become one."""

from __future__ import annotations

import io
import socket
import struct
from types import SimpleNamespace

import pydicom
import pytest
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from tests.node.conftest import HERE, associate, make_image, until
from wetread.node.fragments import Fragments

# Of a command or of a data set, whole or not.
COMMAND, COMMAND_PART, DATA, DATA_PART = 3, 1, 2, 0


@pytest.mark.parametrize(
    ("fragments", "passes"),
    [
        ([(1, COMMAND)], True),
        ([(1, COMMAND), (1, DATA_PART), (1, DATA_PART), (1, DATA), (1, COMMAND)], True),
        ([(1, COMMAND_PART), (1, COMMAND), (3, COMMAND), (3, DATA)], True),
        ([(1, COMMAND), (1, DATA_PART), (1, COMMAND)], False),
        ([(1, COMMAND), (1, DATA_PART), (3, DATA)], False),
        ([(1, COMMAND_PART), (1, DATA)], False),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_message_is_whole_before_the_next_one_begins(fragments, passes, together):
    passed = []
    receive = Fragments(passed.append).receive
    listed = [[(context, bytes([kind]) + b"x") for context, kind in fragments]]
    primitives = [
        SimpleNamespace(presentation_data_value_list=some)
        for some in (listed if together else [[one] for one in listed[0]])
    ]
    if passes:
        for primitive in primitives:
            receive(primitive)
        assert passed == primitives
        return
    with pytest.raises(ValueError, match="before another one is whole"):
        for primitive in primitives:
            receive(primitive)
    assert passed == primitives[:-1]


def encode(image: bytes) -> tuple[bytes, bytes]:
    """Return the command and the data set of a C-STORE of an image, as pynetdicom encodes them."""
    read = pydicom.dcmread(io.BytesIO(image))
    asked, message = C_STORE(), C_STORE_RQ()
    asked.MessageID, asked.Priority = 1, 2
    asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID = read.SOPClassUID, read.SOPInstanceUID
    asked.DataSet = io.BytesIO(b"")
    message.primitive_to_message(asked)
    parts = [data for part in message.encode_msg(1, 0) for _, data in part.presentation_data_value_list]
    (command,) = [data[1:] for data in parts if data[0] & 1]
    return command, image[image.index(b"\x08\x00\x16\x00UI") :]


def send(peer: socket.socket, kind: int, data: bytes) -> None:
    """Send one fragment in a P-DATA-TF PDU of its own."""
    item = struct.pack(">IBB", len(data) + 2, 1, kind) + data
    peer.sendall(struct.pack(">BBI", 4, 0, len(item)) + item)


@pytest.mark.parametrize("second", [1, 2])
def test_a_message_in_the_middle_of_another_breaks_the_association_off(start, second):
    """Of the same object again as well, whose UID would be the one that was announced."""
    command, whole = encode(make_image(1))
    other, rest = encode(make_image(second))
    with start() as node:
        with socket.create_connection((HERE, node.port), timeout=10) as peer:
            peer.sendall(associate())
            assert peer.recv(1 << 16)[:1] == b"\x02"
            send(peer, COMMAND, command)
            send(peer, DATA_PART, whole[:-3000])
            send(peer, COMMAND, other)
            send(peer, DATA, rest[-3000:])
            answers = b""
            while more := peer.recv(1 << 16):
                answers += more
        assert answers[:1] != b"\x04"  # no answer to a C-STORE
        assert node.send(make_image(3)) == [0]
        until(lambda: len(node.rows()) == 1)
    assert [row.partition(",")[0].rpartition("/")[2] for row in node.rows()] == ["1.2.3.3.dcm"]
    assert node.said == ["broke off an association of 127.0.0.1: it broke the protocol"]
