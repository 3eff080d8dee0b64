"""The one retry policy of Cloud Storage, on google.api_core.retry.

RetryPolicy(deadline=10.0).send(request)      request() is called until it returns
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from wetread.runtime.gcs.failures import Failure, classify, is_failure

T = TypeVar("T")


class StorageError(Exception):
    """A request that failed for good; `failure` says how. Callers turn it into an error of wetread's."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


def is_transient(failure: Failure) -> bool:
    """Tell whether the same request may succeed later."""
    return failure.kind == "transient"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How a request is tried again: seconds of the first wait and of the longest, and of all together.

    Waits double and are jittered over their whole length, so that many clients do not come back at once.
    """

    first: float = 0.1
    longest: float = 16.0
    deadline: float = 120.0

    def send(
        self,
        request: Callable[[], T],
        *,
        deadline: float | None = None,
        again: Callable[[Failure], bool] = is_transient,
    ) -> T:
        """Send a request, again after a failure for which `again` holds, until the next wait ends too late.

        `deadline`: seconds, where fewer than the policy's. Raises StorageError. What is no failed request,
        such as a fault in our own code, is raised as it is, at once.
        """
        from google.api_core.retry import retry_target

        def may_follow(error: Exception) -> bool:
            return isinstance(error, StorageError) and again(error.with_traceback(None).failure)

        # Tracebacks are dropped: google.api_core keeps all errors, in a frame that they lead to. Such a cycle
        # would keep what else they lead to, sockets among it, until the next garbage collection.
        try:
            sent: T = retry_target(
                partial(_send_once, request),
                predicate=may_follow,
                sleep_generator=self._choose_waits(),
                timeout=min(deadline or self.deadline, self.deadline),
                exception_factory=lambda errors, *_: (errors.pop(), None),
            )
        except StorageError as error:
            raise error.with_traceback(None) from None
        return sent

    def _choose_waits(self) -> Iterator[float]:
        longest = self.first
        while True:
            yield random.uniform(0.2, 1.0) * min(longest, self.longest)
            longest = min(2 * longest, self.longest)


def _send_once(request: Callable[[], T]) -> T:
    """Send a request. Raises StorageError where it fails, alone: see above."""
    try:
        return request()
    except Exception as error:
        if not is_failure(error):
            raise
        failure = classify(error)
    raise StorageError(failure)
