"""What an error means and what may be said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wetread.runtime.gcs.answers import AnswerError
from wetread.runtime.gcs.failures import (
    Failure,
    LocationError,
    classify,
    classify_status,
    is_failure,
    redact,
)

SECRETS = (
    "ya29.a0AfH6SMBx-secret_token",
    "1//0gSecretRefresh-token",
    "AIzaSySecretKey",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        'answer {{"access_token": "{}", "expires_in": 3599}}',
        "GET https://h/b/o?x-goog-signature={}&x=1",
        "https://h/upload?uploadType=resumable&upload_id={} failed",
        "POST assertion={}&grant_type=x",
        "refresh_token={}",
        "plain {} words",
    ],
)
def test_secrets_are_taken_out(text, secret):
    found = redact(text.format(secret))
    assert "ecret" not in found
    assert "***" in found


@given(st.text(alphabet="abcdef0123456789", min_size=20, max_size=60))
def test_signatures_of_any_look_are_taken_out(signature):
    url = f"https://h/b/o?X-Goog-Signature={signature}&X-Goog-Credential={signature}%2Fauto&upload_id={signature}"
    assert signature not in redact(url)


def test_private_keys_are_taken_out():
    text = "bad -----BEGIN PRIVATE KEY-----\nMIIEvsecret\n-----END PRIVATE KEY----- file"
    assert redact(text) == "bad *** file"


def test_other_words_stay():
    text = "403 Forbidden: reader@p.iam.gserviceaccount.com does not have storage.objects.list access to b"
    assert redact(text) == text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "other"),
        (401, "credentials"),
        (403, "denied"),
        (404, "missing"),
        (408, "transient"),
        (410, "missing"),
        (412, "precondition"),
        (416, "other"),
        (429, "transient"),
        (500, "transient"),
        (502, "transient"),
        (503, "transient"),
        (504, "transient"),
        (599, "other"),
    ],
)
def test_statuses(status, kind):
    found = classify_status(status, 'x: {"error": {"message": "the server\'s \\"own\\" words"}}')
    assert (found.kind, found.status) == (kind, status)
    assert "the server's" in found.words


def test_requesters_pay_is_told_from_other_bad_requests():
    text = '{"message": "Bucket is a requester pays bucket but no user project provided."}'
    assert classify_status(400, text).kind == "requester_pays"


@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
def test_errors_of_every_package():
    import requests
    import urllib3
    from google.api_core.exceptions import TooManyRequests
    from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
    from google.cloud.storage.exceptions import DataCorruption

    from wetread.runtime.gcs.direct_reading import StatusError

    found = {
        "throttled": TooManyRequests("slow"),
        "reset": ConnectionResetError(104, "Connection reset by peer"),
        "short": urllib3.exceptions.ProtocolError("Connection broken"),
        "late": requests.exceptions.ReadTimeout("late"),
        "corrupt": DataCorruption(None, "Checksum mismatch"),
        "status": StatusError(502, '{"error": {"message": "a bad gateway"}}'),
        "name": LocationError("Expected gs://BUCKET/NAME"),
        "answer": AnswerError("a listing that is of the type int"),
        "token server": TransportError("no route to the token server"),
        "temporary": RefreshError("try later", retryable=True),
        "revoked": RefreshError("invalid_grant: Token has been expired or revoked."),
        "none": DefaultCredentialsError("none found"),
    }
    kinds = {name: classify(error).kind for name, error in found.items()}
    assert kinds == {
        **dict.fromkeys(list(found)[:6], "transient"),
        "name": "other",
        "answer": "other",
        "token server": "transient",
        "temporary": "transient",
        "revoked": "credentials",
        "none": "credentials",
    }
    assert all(is_failure(error) for error in found.values())
    assert classify(found["status"]).words == "502 Bad Gateway: a bad gateway"


@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            "NewConnectionError(\"HTTPConnection(host='h', port=9): Failed to establish a new connection: "
            '[Errno 111] Connection refused")',
            "no connection to h:9: Connection refused",
        ),
        (
            "NameResolutionError(\"HTTPSConnection(host='h', port=9): Failed to resolve 'h' "
            '([Errno -2] Name or service not known)")',
            "no connection to h:9: Name or service not known",
        ),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify "
            "failed: self-signed certificate (_ssl.c:1007)'))",
            "no connection to h:9: certificate verify failed: self-signed certificate",
        ),
        (
            "ProxyError('Unable to connect to proxy', NewConnectionError('[Errno 111] Connection refused'))",
            "no connection to a proxy to h:9: Connection refused",
        ),
        (
            "ConnectTimeoutError(x, 'Connection to h timed out. (connect timeout=60)')",
            "no connection to h:9: timed out",
        ),
        ("SomethingNew()", "no connection to h:9"),
    ],
)
def test_a_service_that_cannot_be_reached_is_named_without_the_address_asked_for(cause, words):
    from requests.exceptions import ConnectionError as Unreached

    text = f"HTTPConnectionPool(host='h', port=9): Max retries exceeded with url: /b?q (Caused by {cause})"
    assert classify(Unreached(text)) == Failure(kind="transient", status=0, words=words)
