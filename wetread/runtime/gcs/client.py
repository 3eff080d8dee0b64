"""Cloud Storage: `gs://` names, the client, who it speaks for, and how it asks again.

Needs the extra `gcs`. Google's client lists, writes and authenticates; it is imported when the first
`gs://` location is met. STORAGE_EMULATOR_HOST and API_ENDPOINT_OVERRIDE (a private endpoint) are honoured.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from wetread.errors import SetupError, SourceError, UsageError
from wetread.packages import importing
from wetread.runtime.entries import BUCKET_SCHEME
from wetread.runtime.gcs.answers import AnswerError
from wetread.runtime.gcs.billing import find_project
from wetread.runtime.gcs.failures import Failure, classify, is_failure, redact
from wetread.runtime.gcs.retry import RetryPolicy, StorageError, is_transient

READ_ROLE, WRITE_ROLE = "roles/storage.objectViewer", "roles/storage.objectUser"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_CONNECTIONS = 64
_TIMEOUT = 60.0
_EMULATOR = "STORAGE_EMULATOR_HOST"
_WHO = re.compile(r"([^\s:\"]+@[^\s:\"]+) does not have")
_NEED = re.compile(r"does not have (storage\.[\w.]+) access")

T = TypeVar("T")


def split_location(location: str) -> tuple[str, str]:
    """Split `gs://bucket/name` into the bucket and the name ('' for the bucket alone). Raises UsageError."""
    bucket, _, name = location.removeprefix(BUCKET_SCHEME).partition("/")
    if not bucket or not location.startswith(BUCKET_SCHEME):
        raise UsageError(
            f"{location!r} is not a Cloud Storage location. Write gs://BUCKET or gs://BUCKET/NAME."
        )
    return bucket, name


class Storage:
    """One caller of Cloud Storage: its client, who it speaks for, and how it asks again.

    `project` is billed where a bucket's requesters pay (default: that of the `bill_project` block), and is
    the client's project. Credentials are the
    application default ones; without any, public buckets can be read. Raises MissingExtraError without
    google-cloud-storage and SourceError for credentials that cannot be used.
    """

    def __init__(self, *, project: str | None = None, policy: RetryPolicy | None = None) -> None:
        self.project = project or find_project()
        self.policy = policy or RetryPolicy()
        self.billed: str | None = None
        # Requests that were answered. Not a time: Windows' clock stands still for 16 ms.
        self.successes = 0
        self.client, self.credentials = _open_client(self.project)
        self.anonymous = type(self.credentials).__name__ == "AnonymousCredentials"
        self.endpoint: str = self.client.api_endpoint

    def bucket(self, name: str) -> Any:
        """Return the client's handle of a bucket, which sends no request."""
        return self.client.bucket(name, user_project=self.billed)

    def call(
        self,
        request: Callable[[], T],
        *,
        deadline: float | None = None,
        again: Callable[[Failure], bool] = is_transient,
    ) -> T:
        """Send a request as `RetryPolicy.send` does, and begin to bill where a bucket asks for it.

        `request` builds its own handle with `bucket`, so that a retry bills the project it must. Raises
        StorageError.
        """

        def send() -> T:
            billed = self.billed
            try:
                result = request()
            except Exception as error:
                if not is_failure(error) or classify(error).kind != "requester_pays" or not self.bill(billed):
                    raise
                result = request()
            self.successes += 1
            return result

        return self.policy.send(send, deadline=deadline, again=again)

    def ask(self, path: str, asked: Mapping[str, str] | None = None) -> object:
        """Return what the JSON API answers, whatever it is; to be sent within `call`.

        Google's own listing and description fail with errors of Python's on what no server should answer.
        """
        query = {name: value for name, value in (asked or {}).items() if value}
        if self.billed:
            query["userProject"] = self.billed
        connection = self.client._connection
        found: object = connection.api_request(
            method="GET", path=path, query_params=query, timeout=_TIMEOUT, retry=None
        )
        return found

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Turn what is wrong with an answer that came into a StorageError."""
        try:
            yield
        except AnswerError as error:
            raise StorageError(classify(error)) from error

    def bill(self, billed: str | None = None) -> bool:
        """Bill the project that was named, from now on; tell whether a request that billed `billed` gains.

        It may have been sent before another thread's taught us to.
        """
        if self.project is None or billed is not None:
            return False
        self.billed = self.project
        return True

    def name_principal(self, words: str = "") -> str:
        """Name who the requests speak for: the server's word on it, else what the credentials tell."""
        said = _WHO.search(words)
        if said:
            return said.group(1)
        if self.anonymous:
            why = "STORAGE_EMULATOR_HOST is set" if os.environ.get(_EMULATOR) else "no credentials were found"
            return f"an anonymous caller ({why})"
        for name in ("service_account_email", "signer_email", "account"):
            found = getattr(self.credentials, name, None)
            if found and found != "default":
                return str(found)
        return "the application default credentials"

    def explain(self, failure: Failure, location: str, *, need: str, role: str) -> str:
        """Say in one message why a location cannot be used, for whom, and what to do.

        `need` is the permission that was wanting, such as storage.objects.list, where the server does not
        name one; `role` has it.
        """
        bucket, who = split_location(location)[0], self.name_principal(failure.words)
        if failure.kind == "missing":
            return (
                f"The bucket '{bucket}' of {location!r} was not found: {failure.words}. Check its name, and "
                f"that {who} may see it."
            )
        if failure.kind == "requester_pays":
            return f"Reading {location!r} is billed to the reader. Say to which project: --project PROJECT."
        if failure.kind in ("denied", "credentials"):
            told = _NEED.search(failure.words)
            return (
                f"{who} lacks {told.group(1) if told else need} on {location!r}: {failure.words}. "
                f"{self._advise(bucket, who, role)}"
            )
        words = f"Cloud Storage did not answer for {location!r}: {failure.words}. "
        if os.environ.get(_EMULATOR):
            return words + f"Unset {_EMULATOR} to ask the real service."
        return words + "Check the network, the proxy (HTTPS_PROXY), and API_ENDPOINT_OVERRIDE if it is set."

    @contextmanager
    def explaining(self, location: str, *, need: str, role: str, raises: type[SetupError]) -> Iterator[None]:
        """Turn a StorageError into an error of the kind `raises`, in the words of `explain`."""
        try:
            yield
        except StorageError as error:
            raise raises(self.explain(error.failure, location, need=need, role=role)) from error

    def _advise(self, bucket: str, who: str, role: str) -> str:
        if self.anonymous and "@" not in who:
            return (
                "Run `gcloud auth application-default login`, or name a key file in "
                "GOOGLE_APPLICATION_CREDENTIALS."
            )
        kind = "serviceAccount" if who.endswith("gserviceaccount.com") else "user"
        member = f"{kind}:{who}" if "@" in who else "MEMBER"
        return (
            f"Grant {role}: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            f"--member={member} --role={role}"
        )


def _open_client(project: str | None) -> tuple[Any, Any]:
    """Make google-cloud-storage's client, with a connection for each of many threads."""
    # Otherwise each client asks for its buckets' metadata in the background, which needs a permission.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    with importing("google-cloud-storage", extra="gcs"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of grpcio-status, which nothing here needs
        from google.cloud import storage
        from requests.adapters import HTTPAdapter
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, found = _find_credentials()
        # It asks a metadata server which it found a second time: whose cloud this is.
        client = storage.Client(project=project or found or "none", credentials=credentials)
    except GoogleAuthError as error:
        raise SourceError(
            f"This machine's metadata server gave no credentials: {classify(error).words}. "
            "Name a key file in GOOGLE_APPLICATION_CREDENTIALS, or set NO_GCE_CHECK=true where this is no "
            "machine of Google's."
        ) from error
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS, pool_connections=8))
    return client, credentials


def find_trusted() -> str:
    """The file of certificates that Google's client trusts."""
    from certifi import where

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or where()


def _find_credentials() -> tuple[Any, str | None]:
    """The application default credentials and their project; anonymous ones where there are none."""
    import google.auth
    from google.auth import credentials as kinds
    from google.auth.exceptions import DefaultCredentialsError

    anonymous: Any = kinds.AnonymousCredentials
    if os.environ.get(_EMULATOR):
        return anonymous(), None  # as Google's client does: an emulator knows nobody
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # user credentials without a quota project
            credentials, project = google.auth.default(scopes=[_SCOPE])
        return credentials, project
    except DefaultCredentialsError as error:
        if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
            raise SourceError(
                "The file that GOOGLE_APPLICATION_CREDENTIALS names holds no credentials: "
                f"{redact(str(error).partition(chr(10))[0])}"
            ) from error
        return anonymous(), None
