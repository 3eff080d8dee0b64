"""Who asks Cloud Storage, and what is said when that does not work: one error, and what to do."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.runtime.gcs_server import Faults, serve
from wetread.errors import SourceError, UsageError
from wetread.runtime.gcs import listing as gcs_list
from wetread.runtime.gcs.client import Storage, split_location
from wetread.runtime.gcs.listing import BucketFolder
from wetread.runtime.gcs.reading import BucketReads
from wetread.runtime.gcs.retry import RetryPolicy
from wetread.runtime.sources.opening import open_source

TOKEN = "ya29.our-secret-token"
WHO = "reader@project.iam.gserviceaccount.com"


def test_locations():
    assert split_location("gs://b") == ("b", "")
    assert split_location("gs://b/") == ("b", "")
    assert split_location("gs://b/a/b c.jpg") == ("b", "a/b c.jpg")
    for location in ("gs://", "gs:///x", "b/x"):
        with pytest.raises(UsageError, match="Write gs://BUCKET or gs://BUCKET/NAME"):
            split_location(location)


def test_an_unknown_bucket(cloud):
    with pytest.raises(SourceError) as caught:
        open_source("gs://nowhere/folder")
    assert str(caught.value) == (
        "The bucket 'nowhere' of 'gs://nowhere/folder' was not found: 404 Not Found: The specified "
        "bucket does not exist. Check its name, and that an anonymous caller (STORAGE_EMULATOR_HOST is "
        "set) may see it."
    )


def test_no_permission_to_list_names_who_and_what_to_grant(cloud):
    cloud.buckets.create("b")
    cloud.faults = Faults(denied=("list",))
    with pytest.raises(SourceError) as caught:
        open_source("gs://b/folder")
    text = str(caught.value)
    assert text.startswith(f"{WHO} lacks storage.objects.list on 'gs://b/folder': 403 Forbidden:")
    assert text.endswith(f"--member=serviceAccount:{WHO} --role=roles/storage.objectViewer")


@pytest.fixture
def account(cloud, monkeypatch, tmp_path) -> Path:
    """A service account whose tokens the server makes, and asks for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "key.json"
    found = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": WHO,
        "client_id": "1",
        "token_uri": cloud.url + "/token",
    }
    file.write_text(json.dumps(found))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", cloud.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    # Otherwise google-auth asks a server of Google's, in the background, where the account may go.
    ask = "google.oauth2.service_account.Credentials._maybe_start_regional_access_boundary_refresh"
    monkeypatch.setattr(ask, lambda *_: None, raising=False)
    cloud.buckets.create("b")
    cloud.faults = Faults(token=TOKEN)
    return file


@pytest.mark.parametrize("reader", ["", "google"])
def test_a_service_account_reads_through_a_private_endpoint(account, cloud, monkeypatch, reader):
    monkeypatch.setenv("WETREAD_GCS_READER", reader)
    for index in range(20):
        cloud.buckets.put("b", f"{index:02d}.jpg", b"x" * index)
    cloud.keep_log = True
    source = open_source("gs://b")
    bodies = [source.read(entry) for entry in source.read_ahead(source.entries())]
    assert bodies == [b"x" * index for index in range(20)]
    assert source.describe()["failed_requests"] == {}
    assert sum("/token" in line for line in cloud.log) <= 2


def test_a_refused_account_is_named_with_the_grant_it_needs(account, cloud):
    cloud.faults = Faults(token=TOKEN, denied=("list",))
    with pytest.raises(SourceError) as caught:
        open_source("gs://b/folder")
    assert str(caught.value) == (
        f"{WHO} lacks storage.objects.list on 'gs://b/folder': 403 Forbidden: {WHO} does not "
        "have storage.objects.list access to the Google Cloud Storage bucket b. Permission "
        "'storage.objects.list' denied on resource (or it may not exist). Grant roles/storage.objectViewer: "
        "gcloud storage buckets add-iam-policy-binding gs://b "
        f"--member=serviceAccount:{WHO} --role=roles/storage.objectViewer"
    )
    assert TOKEN not in str(caught.value)


def test_credentials_that_end_midway_end_the_run(account, cloud):
    cloud.buckets.put("b", "a.jpg", b"x")
    source = open_source("gs://b")
    (entry,) = source.entries()
    cloud.faults = Faults(token="ya29.another", token_served="ya29.stale")
    with pytest.raises(SourceError) as caught:
        source.read(entry)
    assert "are not valid" in str(caught.value)
    assert WHO in str(caught.value)
    assert "ya29" not in str(caught.value)


def test_a_key_file_that_is_none(cloud, monkeypatch, tmp_path):
    file = tmp_path / "key.json"
    file.write_text("not a key")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(
        SourceError, match="The file that GOOGLE_APPLICATION_CREDENTIALS names holds no credentials"
    ):
        open_source("gs://b")


def test_without_credentials_a_public_bucket_is_read(cloud, monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", cloud.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    cloud.buckets.create("b")
    cloud.buckets.put("b", "a.jpg", b"public")
    source = open_source("gs://b")
    assert [source.read(entry) for entry in source.entries()] == [b"public"]
    cloud.faults = Faults(token=TOKEN)
    with pytest.raises(SourceError, match=r"an anonymous caller.*gcloud auth application-default login"):
        open_source("gs://b")


def open_beside(server: str) -> subprocess.CompletedProcess[str]:
    """Open a bucket in a process that has no credentials, beside a metadata server (read at its import)."""
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "CLOUDSDK_CONFIG": "/none"}
    clean |= {"GCE_METADATA_IP": server, "GCE_METADATA_HOST": server, "HOME": "/none"}
    code = "from wetread.cli import run; raise SystemExit(run(['score', 'gs://b']))"
    return subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)


def test_a_metadata_server_that_answers_only_half_is_no_fault_of_ours():
    """Networks answer for 169.254.169.254 who are not Google's: each later question of google.auth fails."""

    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 403)
            self.send_header("Metadata-Flavor", "Google")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = open_beside(f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if "metadata server" in line]
    assert "This machine's metadata server gave no credentials: " in said
    assert "NO_GCE_CHECK=true" in said


def test_an_endpoint_that_does_not_answer_is_told_soon(cloud, monkeypatch):
    cloud.close()
    monkeypatch.setattr(gcs_list, "_OPEN_SECONDS", 0.3)
    with pytest.raises(SourceError, match="Cloud Storage did not answer for 'gs://b/folder'"):
        open_source("gs://b/folder")


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """A private authority's certificate, and a server's that it signed, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begin(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name("private authority"), name(subject), key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=7))

    own, served = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = begin("private authority", own)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = begin("127.0.0.1", served).add_extension(hosts, critical=False)
    trusted, chain = folder / "authority.pem", folder / "server.pem"
    pem = serialization.Encoding.PEM
    trusted.write_bytes(authority.sign(own, hashes.SHA256()).public_bytes(pem))
    secret = served.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(leaf.sign(own, hashes.SHA256()).public_bytes(pem) + secret)
    return trusted, chain


def test_a_private_certificate_authority(cloud, monkeypatch, tmp_path):
    trusted, chain = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with serve(tls=context) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
        server.buckets.create("b")
        for index in range(30):
            server.buckets.put("b", f"{index:02d}.jpg", b"x" * index)
        source = open_source("gs://b")
        bodies = [source.read(entry) for entry in source.read_ahead(source.entries())]
        assert bodies == [b"x" * index for index in range(30)]
        assert source.describe()["reader"] == "direct"
        assert source.describe()["failed_requests"] == {}


def test_nothing_of_googles_is_loaded_for_local_folders(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    code = (
        "import sys, wetread\n"
        "from wetread.runtime.sources.name_list import NameList\n"
        "from wetread.runtime.sources.opening import open_sources\n"
        f"source = open_sources([{str(tmp_path)!r}])\n"
        "list(source.read_ahead(source.entries()))\n"
        f"list(NameList([{str(tmp_path / 'a.jpg')!r}]).entries())\n"
        "import wetread.runtime.scoring.run, wetread.runtime.scoring.bucket_output\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"google", "obstore", "requests", "google_crc32c"} & set(done.stdout.split()) == set()


def test_retries_wait_between_attempts(cloud):
    cloud.buckets.create("b")
    cloud.faults = Faults(throttle=1)
    reads = BucketReads(Storage(policy=RetryPolicy(first=0.05, longest=0.1, deadline=0.5)))
    with pytest.raises(SourceError, match="429 Too Many Requests|503 Service Unavailable"):
        BucketFolder(reads, "gs://b")
    assert 2 <= cloud.counts["throttled"] <= 40  # a busy machine gets fewer into half a second
