"""What a failed request to Cloud Storage means, and what may be said of it.

Reading and writing raise errors of five packages; here each becomes one `Failure`. A fault in our own code
is none of them: it must not be retried, and must not become a row. The words of a failure never hold a token,
a signature or an upload's address: whoever reads a log could use them.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from wetread.runtime.gcs.answers import AnswerError

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
# Google's client, and what it sends requests with.
_CLIENT = frozenset({"google", "requests", "urllib3"})


class LocationError(ValueError):
    """A name that no request can be made for."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One failed request: its kind, its HTTP status (0: none), and words that may be shown.

    `kind` is 'transient', 'missing', 'denied', 'credentials', 'precondition', 'requester_pays' or 'other'.
    """

    kind: str
    status: int
    words: str


@cache
def _storage_errors() -> tuple[type[Exception], ...]:
    """The exceptions that only a request raises, whoever sends it."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    # OSError: resets and timeouts.
    found = (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, RequestException, HTTPError)
    return (*found, OSError, AnswerError, LocationError)


def is_failure(error: Exception) -> bool:
    """Tell whether an error is a failed request, and not a fault in our own code.

    Google's client meets JSON of another shape, above all in the body of an error, with a TypeError or such
    an error. The same from a line of wetread is our fault.
    """
    if isinstance(error, _storage_errors()):
        return True
    return isinstance(error, (*_UNREADABLE, ValueError)) and _is_raised_by_client(error)


def _is_raised_by_client(error: Exception) -> bool:
    """Tell whether it came from Google's client or what that calls, and not from wetread."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = (str(frame.f_globals.get("__name__")).partition(".")[0] for frame in reversed(frames))
    return next((name for name in packages if name in _CLIENT or name == "wetread"), "") in _CLIENT


def classify(error: Exception) -> Failure:
    """Tell what a failed request means (`is_failure`)."""
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
