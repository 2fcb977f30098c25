"""Workers that live and do not get on: a hung GPU, a stopped process, a volume that does not answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Key = tuple[str, int]
"""Id of a job, and number of an attempt."""


@dataclass(frozen=True)
class Patience:
    """How long a worker may show no sign, in seconds."""

    warning: float
    limit: float


@dataclass
class _Silence:
    sign: float | None
    since: float
    is_told: bool = False


class Stalls:
    """Measures how long each worker has been silent.

    It counts from when this server saw the last sign, by a clock that nobody sets: whatever time a server was away, or
    its machine slept, is not held against a worker.
    """

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._clock = clock
        self._silences: dict[Key, _Silence] = {}
        self._lost: set[Key] = set()

    def look(self, key: Key, sign: float | None) -> Literal["warn", "lost"] | None:
        """What is due for a worker whose last sign came at the given time: each once."""
        now = self._clock()
        silence = self._silences.get(key)
        if silence is None or silence.sign != sign:
            self._silences[key] = _Silence(sign, now)
            return None
        if now - silence.since >= self.patience.limit and key not in self._lost:
            self._lost.add(key)
            return "lost"
        if now - silence.since >= self.patience.warning and not silence.is_told:
            silence.is_told = True
            return "warn"
        return None

    def verdict(self, key: Key) -> str | None:
        """Why a worker was removed, if it was; the worker is forgotten."""
        self._silences.pop(key, None)
        if key not in self._lost:
            return None
        self._lost.remove(key)
        return f"removed after {self.patience.limit:g} s without a sign of getting on"
