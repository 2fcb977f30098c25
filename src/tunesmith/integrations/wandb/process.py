"""A sender: a process that holds the library of Weights & Biases for one run. The server never waits for it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import psutil
from pydantic import ValidationError

from tunesmith.integrations.wandb.orders import (
    REPLY,
    Began,
    Begin,
    Failed,
    Finished,
    Order,
    Reached,
    Row,
    Sample,
)

_END_SECONDS = 3.0

# Of the server's environment: what a Python process needs to start, and nothing that the library would read.
_CARRIED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


class SenderProcess:
    """One sender. Two threads talk with it: neither its silence nor a full pipe holds up anybody else."""

    def __init__(self, begin: Begin) -> None:
        """Start a sender and give it its first order. It answers later.

        Raises:
            OSError: the folder or the process cannot be made.
        """
        folder = Path(begin.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunesmith.integrations.wandb.sender"],
            cwd=folder,
            env={**environment, "HOME": begin.folder, "WANDB_ERROR_REPORTING": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the library may write a key there
            text=True,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._asked_at: float | None = None
        self._reached = 0
        self._ended = False
        self.began: Began | None = None
        self.failed: str | None = None
        self.is_finished = False
        self.rows = 0
        """Rows that it was given."""
        self.through = 0
        """Number of the last event that they tell of."""
        for work in (self._listen, self._hand_over):
            threading.Thread(target=work, name="sender of wandb", daemon=True).start()
        self.say(begin)

    @property
    def is_alive(self) -> bool:
        """Whether it can be spoken to."""
        return not self._ended

    @property
    def silent_seconds(self) -> float:
        """For how long it has owed an answer."""
        return time.monotonic() - self._asked_at if self._asked_at is not None else 0.0

    def say(self, *orders: Order) -> None:
        """Hand orders over. One that is gone does not hear them; `is_alive` tells."""
        for order in orders:
            if not isinstance(order, Row | Sample) and self._asked_at is None:
                self._asked_at = time.monotonic()
            self._orders.put(order)

    def wait_until_begun(self, seconds: float) -> bool:
        """Whether the run is there within a time."""
        return self._wait(lambda: self.began is not None, seconds)

    def wait_for(self, mark: int, seconds: float) -> bool:
        """Whether all before a mark is in its hands within a time."""
        return self._wait(lambda: self._reached >= mark, seconds)

    def wait_until_finished(self, seconds: float) -> bool:
        """Whether all is where it belongs within a time."""
        return self._wait(lambda: self.is_finished, seconds)

    def end(self) -> None:
        """Remove it with its children."""
        children = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._process.pid).children(recursive=True)
        self._orders.put(None)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        for process in (self._process, *children):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _wait(self, is_so: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: is_so() or self._ended, seconds)
            return is_so()

    def _hand_over(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as pipe:
            while (order := self._orders.get()) is not None:
                pipe.write(order.model_dump_json() + "\n")
                if self._orders.empty():
                    pipe.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = REPLY.validate_json(line)
            except ValidationError:
                continue  # the library writes a line now and then
            with self._changed:
                self._asked_at = None
                self._take(said)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, said: Began | Reached | Finished | Failed) -> None:
        match said:
            case Began():
                self.began = said
            case Reached():
                self._reached = said.number
            case Finished():
                self.is_finished = True
            case Failed():
                self.failed = said.reason
