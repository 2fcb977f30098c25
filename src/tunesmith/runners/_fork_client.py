"""The server's end of the warm parent process in `tunesmith.forkserver`."""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress

from tunesmith.rundir import RunDirectory

# Importing the training libraries takes 4 to 10 s on the machines measured; a parent that needs longer is given up.
_WARM_UP_SECONDS = 90
_FORK_SECONDS = 10

WORKER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the hub's client reads it when it is imported; workers train offline
    "TOKENIZERS_PARALLELISM": "false",  # its threads would not survive a fork
    # GNU OpenMP's threads then soon wait for each other by sleeping, not spinning. Spinning costs a training on a
    # processor that others use too several times its speed.
    "GOMP_SPINCOUNT": "2000",
}
"""Variables that must be set before a worker's libraries are loaded. The server's own environment wins."""


class ForkClient:
    """Asks the warm parent for workers. Once the parent has failed, every answer is none and the caller starts cold."""

    def __init__(self, python: str) -> None:
        ours, theirs = socket.socketpair()
        self._connection: socket.socket | None = ours
        self._lock = threading.Lock()
        self._warm = threading.Event()
        ours.settimeout(_WARM_UP_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-m", "tunesmith.forkserver", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**WORKER_ENVIRONMENT, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the server's terminal is the server's affair
            )
        threading.Thread(target=self._await_readiness, name="warm-parent", daemon=True).start()

    def is_warming(self) -> bool:
        """Whether the parent is still importing."""
        return not self._warm.is_set()

    def fork(self, run: RunDirectory, environment: Mapping[str, str]) -> int | None:
        """Fork a worker and give its process id; none when the parent is not there."""
        self._warm.wait()
        with self._lock:
            if self._connection is None:
                return None
            request = {"run": str(run.path), "environment": dict(environment)}
            try:
                self._connection.sendall(json.dumps(request).encode() + b"\n")
                pid = self._receive()["pid"]
            except (OSError, ValueError):
                self._give_up()
                return None
            return pid

    def close(self) -> None:
        """Hang up; the parent ends by itself."""
        with self._lock:
            self._give_up()

    def _await_readiness(self) -> None:
        try:
            self._receive()
            if self._connection is not None:
                self._connection.settimeout(_FORK_SECONDS)
        except (OSError, ValueError):
            self._give_up()
        finally:
            self._warm.set()

    def _receive(self) -> dict[str, int]:
        connection = self._connection
        if connection is None:
            raise ConnectionResetError
        received = b""
        while not received.endswith(b"\n"):
            chunk = connection.recv(4096)
            if not chunk:
                raise ConnectionResetError
            received += chunk
        message: dict[str, int] = json.loads(received)
        return message

    def _give_up(self) -> None:
        if self._connection is not None:
            # Wakes a thread that still waits for the parent's readiness.
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self._connection = None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
