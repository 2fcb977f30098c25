"""A background thread of a server. One follows what runs, then prepares and starts what waits, then tidies up; another
tells integrations, so that nothing ever waits for these."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from tunesmith.spec.errors import TunesmithError

_log = logging.getLogger(__name__)

# A dead worker is noticed, and an event reaches the store, within about this time.
_TICK_SECONDS = 0.2

_RETRY_SECONDS = 2.0


class Part(Protocol):
    """Something that has a little to do now and then."""

    def tick(self) -> None:
        """Do what there is to do now."""
        ...


class Conductor:
    """Drives its parts in turn until it is stopped."""

    def __init__(self, name: str = "conductor") -> None:
        self._name = name
        self._woken = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look now instead of at the next tick."""
        self._woken.set()

    def start(self, parts: Sequence[Part]) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, args=(parts,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the present pass. Workers go on."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, parts: Sequence[Part]) -> None:
        while not self._stopping:
            pause = _TICK_SECONDS
            for part in parts:
                try:
                    part.tick()
                except TunesmithError as error:
                    _log.error("%s will try again in %s s: %s", type(part).__name__, _RETRY_SECONDS, error.message)
                    pause = _RETRY_SECONDS
                except Exception:  # noqa: BLE001 - a full disk must not end the loop
                    _log.exception("%s failed; the next pass follows in %s s", type(part).__name__, _RETRY_SECONDS)
                    pause = _RETRY_SECONDS
            self._woken.wait(pause)
            self._woken.clear()
