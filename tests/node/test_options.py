from __future__ import annotations

import pytest

from wetread.errors import SetupError, UsageError
from wetread.node.options import NodeOptions, Peer, read_peer


@pytest.mark.parametrize(
    ("text", "called", "wanted"),
    [
        ("MOD@10.0.0.7", False, Peer("MOD", "10.0.0.7")),
        ("*@*", False, Peer("*", "*")),
        ("A B@h", False, Peer("A B", "h")),
        ("MOD@::1", False, Peer("MOD", "::1")),
        ("ARCH@pacs:104", True, Peer("ARCH", "pacs", 104)),
        ("ARCH@[::1]:104", True, Peer("ARCH", "::1", 104)),
    ],
)
def test_peers_are_read(text, called, wanted):
    assert read_peer(text, option="--allow", called=called) == wanted


@pytest.mark.parametrize("text", ["", "MOD", "@h", "MOD@", " MOD@h", "SEVENTEEN-LETTERS@h", "A\\B@h"])
def test_what_is_no_peer_is_refused(text):
    with pytest.raises(UsageError, match="--allow takes AE@HOST"):
        read_peer(text, option="--allow")


@pytest.mark.parametrize("text", ["A@h", "A@h:", "A@h:0", "A@h:65536", "A@h:x", "A@:104"])
def test_an_archive_needs_a_port(text):
    with pytest.raises(UsageError, match="--send-to takes AE@HOST:PORT"):
        read_peer(text, option="--send-to", called=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ae_title": ""}, "--ae-title"),
        ({"port": 70_000}, "--port"),
        ({"output": "gs://b/s.csv"}, "gs:// locations"),
        ({"output": "s.parquet"}, "in .csv or .jsonl"),
        ({"allow": ()}, "Say who may send"),
        ({"results": ("pdf",), "archives": (Peer("A", "h", 1),)}, "'pdf' is neither"),
        ({"results": ("sr",)}, "belong together"),
        ({"archives": (Peer("A", "h", 1),)}, "belong together"),
        ({"associations": 0}, "--associations must be 1 or more"),
        ({"retain": "store"}, "the store itself"),
    ],
)
def test_what_contradicts_itself_is_refused(more, words):
    values = {"ae_title": "W", "output": "s.csv", "store": "store", "allow": (Peer("*", "*"),)}
    with pytest.raises(UsageError, match=words):
        NodeOptions(**(values | more))


def test_an_address_that_cannot_be_found_is_said():
    with pytest.raises(SetupError, match="cannot be found"):
        Peer("A", "no-such-host.invalid").find_addresses()
