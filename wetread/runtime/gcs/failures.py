"""What a failed request to Cloud Storage means, how long to wait before the next, and what may be said.

Reading and writing raise errors of five packages; here each becomes one `Failure`. The words of a failure
never hold a token, a signature or an upload's address: whoever reads a log could use them.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
THROTTLED_STATUSES = frozenset({429, 503})

_SECRETS = re.compile(
    r"(?i)(bearer\s+|access_token[\"']?\s*[=:]\s*[\"']?|refresh_token[\"']?\s*[=:]\s*[\"']?|upload_id=|"
    r"x-goog-(?:signature|credential)=|signature=|[?&]key=|assertion=)[^\s&\"',}]+"
)
_TOKENS = re.compile(r"\b(?:ya29\.|1//|AIza)[\w.-]+|-----BEGIN [^-]*-----.*?-----END [^-]*-----", re.DOTALL)
_SERVER_WORDS = re.compile(r'"message":\s*"((?:[^"\\]|\\.)*)"')
# What urllib3 says when it gave up, with the whole address of the request, and the system's words in it.
_UNREACHED = re.compile(r"Pool\(host='([^']+)', port=(\d+)\): Max retries exceeded")
_REASON = re.compile(r"\[(?:Errno -?\d+|SSL: \w+)\] ([^()\[\]\"']+)|(timed out)")
_LOCATION = re.compile(r"https?://")
_UNREADABLE = (AttributeError, TypeError, LookupError)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How a request is tried again: seconds of the first wait and of the longest, and of all together.

    Waits double and are jittered over their whole length, so that many clients do not come back at once.
    """

    first: float = 0.1
    longest: float = 16.0
    deadline: float = 120.0

    def wait(self, attempt: int) -> float:
        """Choose the seconds to wait after attempt 0, 1, 2..."""
        return random.uniform(0.2, 1.0) * min(self.longest, self.first * 2.0 ** min(attempt, 60))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed request: its kind, its HTTP status (0: none), and words that may be shown.

    `kind` is 'transient', 'missing', 'denied', 'credentials', 'precondition', 'requester_pays' or 'other'.
    """

    kind: str
    status: int
    words: str

    @property
    def throttled(self) -> bool:
        """Whether the service asked for fewer requests."""
        return self.status in THROTTLED_STATUSES


@cache
def storage_errors() -> tuple[type[Exception], ...]:
    """Every exception that a request can raise, whoever sends it."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    # OSError: resets and timeouts. ValueError: names that cannot be asked for, and wrong answers. The others
    # are what Google's client raises over JSON of another shape, in the body of an error above all.
    found = (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, RequestException, HTTPError)
    return (*found, OSError, ValueError, *_UNREADABLE)


def classify(error: Exception) -> Failure:
    """Tell what an error of `storage_errors` means."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, GoogleAuthError):
        return _classify_auth(error)
    if isinstance(error, GoogleAPICallError) and error.code:
        return classify_status(int(error.code), _find_words(error))
    if status := getattr(error, "http_status", 0):
        return classify_status(int(status), str(error))
    if isinstance(error, _UNREADABLE):
        words = f"an answer that cannot be read ({type(error).__name__})"
        return Failure(kind="transient", status=0, words=words)
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return Failure(kind="other", status=0, words=redact(_first_line(error)))
    # What carries no status broke on the way: a reset, a timeout, a short body, a changed byte.
    return Failure(kind="transient", status=0, words=redact(_first_line(error)))


def _find_words(error: GoogleAPICallError) -> str:
    """What the server said with its status, in JSON of any shape: the client takes it as it is."""
    try:
        said = [one["message"] for one in error.errors if isinstance(one, dict)]
        return str(said[0] if said else error)
    except _UNREADABLE:
        return ""


def classify_status(status: int, text: str) -> Failure:
    """Tell what an HTTP status means, with the server's words: `text`, or the message in its JSON."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    said = _SERVER_WORDS.search(text.replace('\\"', '"'))
    message = said.group(1) if said else "" if _LOCATION.search(text) else text
    words = redact(f"{phrase}: {message}" if message else phrase).rstrip(".")
    if status == 400 and "requester pays" in text.lower():
        return Failure(kind="requester_pays", status=status, words=words)
    kinds = {401: "credentials", 403: "denied", 404: "missing", 410: "missing", 412: "precondition"}
    kind = "transient" if status in TRANSIENT_STATUSES else kinds.get(status, "other")
    return Failure(kind=kind, status=status, words=words)


def _classify_auth(error: Exception) -> Failure:
    from google.auth.exceptions import InvalidOperation, TransportError

    words = redact(_first_line(error))
    if isinstance(error, InvalidOperation):  # an anonymous caller was told 401
        return Failure(kind="denied", status=401, words="401 Unauthorized: it is not public")
    if isinstance(error, TransportError) or getattr(error, "retryable", False):
        return Failure(kind="transient", status=0, words=words)
    return Failure(kind="credentials", status=0, words=words)


def _first_line(error: Exception) -> str:
    """An error's own words up to the first line end; its type where it has none."""
    line = str(error).strip().partition("\n")[0]
    where, why = _UNREACHED.search(line), _REASON.search(line)
    if where:
        through = "a proxy to " if "ProxyError" in line else ""
        reason = f": {(why.group(1) or why.group(2)).strip()}" if why else ""
        line = f"no connection to {through}{where.group(1)}:{where.group(2)}{reason}"
    return line[:400] or type(error).__name__


def redact(text: str) -> str:
    """Take tokens, signatures, keys and upload addresses out of a text."""
    return _TOKENS.sub("***", _SECRETS.sub(r"\1***", text))
