"""The node against dcmtk's tools: storescu and echoscu send, storescp receives the results."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dcmtk import find_tool, require_tool
from tests.node.conftest import HERE, associate, make_image, until
from tests.runtime.images.dicom.drawing import draw_xray, write_dicom

pytestmark = pytest.mark.skipif(
    not all(map(find_tool, ("storescu", "echoscu", "storescp"))),
    reason="dcmtk is not installed: apt-get install dcmtk (.ci/run does, as root)",
)
# What each of storescu's options proposes (the lossless JPEG is that of the first prediction).
PROPOSALS = {
    "implicit": "-xi",
    "explicit": "-xe",
    "big": "-xb",
    "deflated": "-xd",
    "rle": "-xr",
    "jpeg lossless sv1": "-xs",
    "jpeg baseline": "-xy",
    "jpeg-ls": "-xt",
    "jpeg-ls near": "-xu",
    "jpeg 2000 lossless": "-xv",
    "jpeg 2000": "-xw",
}


def find_port() -> int:
    with socket.socket() as found:
        found.bind((HERE, 0))
        return int(found.getsockname()[1])


@dataclass
class Process:
    """A node in a process of its own, which may be killed and started again."""

    folder: Path
    model: Path
    more: tuple[str, ...] = ()
    port: int = field(default_factory=find_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "node.log").open("ab")
        command = [sys.executable, "-m", "wetread", "node", "--host", HERE, "--port", str(self.port)]
        command += [
            "--allow",
            "*@127.0.0.1",
            "--output",
            str(self.rows),
            "--store",
            str(self.folder / "store"),
        ]
        command += ["--model", str(self.model), *self.more]
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.answers, seconds=120)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.said()
        command = [require_tool("echoscu"), "-to", "5", "-aec", "WETREAD", HERE, str(self.port)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def rows(self) -> Path:
        return self.folder / "scores.csv"

    def said(self) -> str:
        return (self.folder / "node.log").read_text()

    def send(self, *options: str, seconds: float = 120) -> subprocess.CompletedProcess[bytes]:
        to = ["-R", "-aec", "WETREAD", *options[:-1], HERE, str(self.port), options[-1]]
        command = [require_tool("storescu"), *to]
        try:
            return subprocess.run(command, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1)


@pytest.fixture
def node(tmp_path: Path, toy_model: Path) -> Iterator[Process]:
    made = Process(tmp_path, toy_model)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """dcmtk's receiver: where it listens, and the folder of what it took."""
    folder, port = tmp_path / "archive", find_port()
    folder.mkdir()
    command = [require_tool("storescp"), "-aet", "ARCH", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"ARCH@{HERE}:{port}", folder
    process.kill()
    process.wait()


def test_the_judges_are_dcmtk_and_not_pynetdicom(monkeypatch):
    """As in an activated environment, whose own `storescu` comes first on the PATH."""
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"])
    for name in ("storescu", "echoscu", "storescp"):
        shown = subprocess.run([require_tool(name), "--version"], capture_output=True, text=True)
        assert "dcmtk" in shown.stdout, name


def test_every_transfer_syntax_scores_as_its_file_does(node, tmp_path, model):
    node.start()
    folder = tmp_path / "files"
    folder.mkdir()
    for number, (syntax, option) in enumerate(PROPOSALS.items()):
        uids = {
            "SOPInstanceUID": f"1.2.3.{number}",
            "StudyInstanceUID": "1.2.3.0",
            "SeriesInstanceUID": "1.2.3.0.1",
        }
        path = folder / f"1.2.3.{number}.dcm"
        path.write_bytes(
            write_dicom(draw_xray(8, shape=(80, 72), seed=number), bits=8, syntax=syntax, extra=uids)
        )
        done = node.send(option, str(path))
        assert done.returncode == 0, (syntax, done.stderr)
    until(lambda: node.rows.exists() and len(node.rows.read_text().splitlines()) == 1 + len(PROPOSALS))
    found = {
        Path(row.split(",")[0]).name: row.split(",")[1:] for row in node.rows.read_text().splitlines()[1:]
    }
    for prediction in model.score(folder):
        assert prediction.status == "ok"
        wanted = [
            str(value) for value in (prediction.label, prediction.probability, *prediction.probabilities)
        ]
        assert found[Path(prediction.path).name] == ["ok", *wanted, ""]
    assert node.kill(signal.SIGTERM) == 143


@dataclass(frozen=True)
class Campaign:
    objects: int
    kills: int
    senders: int
    resends: int
    broken: int


SAMPLE = Campaign(objects=24, kills=3, senders=2, resends=4, broken=4)
WHOLE = Campaign(objects=3_000, kills=60, senders=4, resends=200, broken=100)


@pytest.mark.parametrize("campaign", [SAMPLE, pytest.param(WHOLE, marks=pytest.mark.long)])
def test_kills_lose_nothing_and_double_nothing(node, tmp_path, storescp, campaign):
    """Senders that send again until they are told 'success', while the node is killed again and again."""
    where, archive = storescp
    node.more = ("--send-to", where, "--results", "sr,sc")
    node.start()
    random_numbers = random.Random(1)
    files = write_objects(tmp_path / "files", campaign.objects)
    work = [*files, *random_numbers.choices(files, k=campaign.resends)]
    random_numbers.shuffle(work)
    done: list[Path] = []
    senders = [
        threading.Thread(target=send_until_taken, args=(node, work[start :: campaign.senders], done))
        for start in range(campaign.senders)
    ]
    for sender in senders:
        sender.start()
    for turn in range(max(campaign.kills, campaign.broken)):
        if turn < campaign.broken:
            break_off(node.port, random_numbers)
        if turn < campaign.kills:
            before = len(done)
            until(lambda: len(done) > before or len(done) == len(work), seconds=300)  # noqa: B023
            time.sleep(random_numbers.uniform(0, 0.3))
            node.kill()
            node.start()
    for sender in senders:
        sender.join()
    uids = {path.stem for path in files}
    until(lambda: {Path(row.split(",")[0]).stem for row in node.rows.read_text().splitlines()[1:]} == uids)
    until(lambda: count_results(archive) == (len(uids), len(uids)), seconds=600 + campaign.objects)
    rows = node.rows.read_text().splitlines()[1:]
    assert len(rows) == len(uids) and all(",ok," in row for row in rows)
    assert "Traceback" not in node.said() and "SECRET" not in node.said()


def write_objects(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"1.2.3.{number}.dcm" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(make_image(number))
    return paths


def send_until_taken(node: Process, paths: list[Path], done: list[Path]) -> None:
    for path in paths:
        while node.send("-xe", "-to", "5", str(path), seconds=30).returncode != 0:
            time.sleep(0.05)
        done.append(path)


def break_off(port: int, random_numbers: random.Random) -> None:
    """Begin to associate, or to say anything at all, and go away."""
    try:
        with socket.create_connection((HERE, port), timeout=5) as peer:
            peer.sendall(associate()[: random_numbers.randrange(1, 200)])
    except OSError:
        return


def count_results(archive: Path) -> tuple[int, int]:
    names = [path.name for path in archive.iterdir()]
    return sum(name.startswith("SR") for name in names), sum(not name.startswith("SR") for name in names)


@pytest.mark.parametrize("count", [60, pytest.param(5_000, marks=pytest.mark.long)])
def test_mutated_requests_are_refused_in_one_line_each_and_it_still_serves(node, count):
    node.start()
    whole, random_numbers = associate(), random.Random(2)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(random_numbers.randrange(1, 6)):
            data[random_numbers.randrange(len(data))] = random_numbers.randrange(256)
        cut = random_numbers.choice((len(data), len(data), random_numbers.randrange(len(data))))
        with socket.create_connection((HERE, node.port), timeout=10) as peer:
            peer.settimeout(0.2)
            try:
                peer.sendall(data[:cut] + b"\x04\x00\x00\x00\x00\x06\xff\xff\xff\xff\x01\x03")
                peer.recv(4096)
            except OSError:
                continue
    assert node.answers()
    assert "Traceback" not in node.said()
    said = node.said().splitlines()
    assert [text for text in said if not re.match("wetread: ", text)] == []
    assert not [text for text in said if "fault" in text or text.count("wetread: ") > 1]
    assert sum("broke off" in text for text in said) <= count


def test_tls_asks_both_sides_for_a_certificate(node, tmp_path):
    pytest.importorskip("cryptography")
    files = make_certificates(tmp_path)
    node.more = ("--tls-cert", files["node"], "--tls-key", files["node key"], "--tls-ca", files["ca"])
    node.answers = lambda: "listens on port" in node.said()  # type: ignore[method-assign]
    node.start()

    def echo(name: str, *, ca: str = "ca") -> int:
        tls = ["+tls", files[f"{name} key"], files[name], "+cf", files[ca]]
        command = [require_tool("echoscu"), "-to", "10", *tls, "-aec", "WETREAD", HERE, str(node.port)]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    # A peer that never begins its handshake keeps nobody out.
    with socket.create_connection((HERE, node.port), timeout=10):
        assert echo("peer") == 0
        assert echo("stranger") != 0
    assert echo("peer", ca="stranger") != 0
    plain = [require_tool("echoscu"), "-to", "5", "-aec", "WETREAD", HERE, str(node.port)]
    assert subprocess.run(plain, capture_output=True, timeout=60).returncode != 0
    assert echo("peer") == 0
    assert "Traceback" not in node.said()


@pytest.mark.parametrize(("name", "arrives"), [("peer", True), ("stranger", False)])
def test_results_go_to_archives_by_tls_whose_certificate_is_known(node, tmp_path, name, arrives):
    pytest.importorskip("cryptography")
    files, folder, port = make_certificates(tmp_path), tmp_path / "archive", find_port()
    folder.mkdir()
    tls = ["+tls", files[f"{name} key"], files[name], "+cf", files["ca"]]
    archive = subprocess.Popen(
        [require_tool("storescp"), *tls, "-aet", "ARCH", "-od", str(folder), str(port)]
    )
    try:
        node.more = ("--tls-cert", files["node"], "--tls-key", files["node key"], "--tls-ca", files["ca"])
        node.more += ("--send-to", f"ARCH@{HERE}:{port}", "--results", "sr")
        (node.folder / "store").mkdir()
        (node.folder / "store" / "1.2.3.1.dcm").write_bytes(make_image(1))  # as a kill would leave it
        node.answers = lambda: "listens on port" in node.said()  # type: ignore[method-assign]
        node.start()
        until(lambda: list(folder.iterdir()) or "results wait and are sent again" in node.said())
        assert bool(list(folder.iterdir())) is arrives
    finally:
        archive.kill()
        archive.wait()


def make_certificates(folder: Path) -> dict[str, str]:
    """A certificate authority, two whom it signed, and a stranger who signed for himself."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    keys = {name: rsa.generate_private_key(65537, 2048) for name in ("ca", "node", "peer", "stranger")}
    files = {}
    for name, key in keys.items():
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = name if name == "stranger" else "ca"
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, signer)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HERE))]), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=name in ("ca", "stranger"), path_length=None), critical=True
            )
            .sign(keys[signer], hashes.SHA256())
        )
        pem, private = folder / f"{name}.pem", folder / f"{name}-key.pem"
        pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        files |= {name: str(pem), f"{name} key": str(private)}
    return files
