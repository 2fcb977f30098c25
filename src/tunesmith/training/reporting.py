"""The worker's voice: facts with their time, and what can only be measured from the outside."""

import os
import resource
import socket
import time
from datetime import UTC, datetime
from typing import Any

import torch

from tunesmith.rundir import EventWriter
from tunesmith.spec import events

_BEAT_SECONDS = 1.0


class Reporter:
    """Writes events."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self._last_beat = 0.0

    def beat(self) -> None:
        """Show that the work gets on. To be called between pieces of it, by the thread that does it: another one would
        go on when that hangs."""
        now = time.monotonic()
        if now - self._last_beat >= _BEAT_SECONDS:
            self._last_beat = now
            self._writer.touch()

    def started(self, device: str) -> None:
        """The worker runs."""
        self._write(events.Started, pid=os.getpid(), host=socket.gethostname(), device=device)

    def note(self, message: str, *, warn: bool = True) -> None:
        """Something the user should know."""
        self._write(events.Note, level="warn" if warn else "info", message=message)

    def write(self, kind: type[Any], **facts: Any) -> None:
        """Any other event, by its class."""
        self._write(kind, **facts)

    def _write(self, kind: type[Any], **facts: Any) -> None:
        self._writer.write(kind(at=datetime.now(UTC), **facts))


class Pace:
    """Speed and outlook of a run of steps."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._tokens = 0
        self.steps = 0

    def step(self, tokens: int) -> None:
        """Count a step."""
        self._tokens += tokens
        self.steps += 1

    def speed(self) -> float:
        """Tokens per second since this was last asked."""
        now = time.monotonic()
        speed = self._tokens / max(now - self._last, 1e-9)
        self._last, self._tokens = now, 0
        return speed

    def outlook(self, steps_left: int) -> float:
        """Seconds that the rest will take."""
        return (time.monotonic() - self._start) / self.steps * steps_left

    def exclude(self, seconds: float) -> None:
        """Leave out time spent on evaluating and saving."""
        self._start += seconds
        self._last += seconds


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a GPU, resident on a processor."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
