"""The one background thread of a server: it follows what runs, then starts what waits."""

import logging
import threading

from tunesmith.jobs.scheduler import Scheduler
from tunesmith.jobs.supervisor import Supervisor

_log = logging.getLogger(__name__)

# A dead worker is noticed, and an event reaches the store, within about this time.
_TICK_SECONDS = 0.2


class Conductor:
    """Drives supervisor and scheduler until it is stopped."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look now instead of at the next tick."""
        self._woken.set()

    def start(self, supervisor: Supervisor, scheduler: Scheduler) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, args=(supervisor, scheduler), name="conductor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the present pass. Workers go on."""
        self._stopping = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, supervisor: Supervisor, scheduler: Scheduler) -> None:
        while not self._stopping:
            for part in (supervisor, scheduler):
                try:
                    part.tick()
                except Exception:  # noqa: BLE001 - a full disk or a bad row must not end the loop for all other jobs
                    _log.exception("%s failed; it will try again", type(part).__name__)
            self._woken.wait(_TICK_SECONDS)
            self._woken.clear()
