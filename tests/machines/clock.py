"""How long the steps of one process took, by the wall and by the processor."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """A step's name, and its seconds: by the wall, and of the processor, of its programs too."""

    name: str
    seconds: float
    processor: float


@dataclass
class Clock:
    """The steps so far; `say` is told of each as it ends."""

    say: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure a step."""
        began, used = time.monotonic(), read_processor_time()
        yield
        step = Step(name, time.monotonic() - began, read_processor_time() - used)
        self.steps.append(step)
        self.say(f"{name}: {step.seconds:.0f} s, {step.processor:.0f} s of a processor")


def read_processor_time() -> float:
    """Seconds of the processor that this process and its ended children took."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
