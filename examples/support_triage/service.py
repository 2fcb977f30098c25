"""The server as a child process, and the certainty that nothing of it is left when the demo ends."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import openai
import psutil

_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_CANCEL_SECONDS = 30.0
_STOP_SECONDS = 20.0
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end the demo: Ctrl-C, a polite kill, a closed terminal."""

_MARK = "SUPPORT_TRIAGE_DEMO_RUN"
"""Set in the server's environment. All that it starts inherits it, even processes that detach themselves."""


class ServiceError(Exception):
    """The server did not start, or a process of it could not be ended."""


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """End in order, once: what follows the first signal is not disturbed by a second."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


class Service:
    """`tunesmith serve` on a free port, from `start` to `stop`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._port = _free_port()
        self._token = secrets.token_hex(16)
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"http://{_HOST}:{self._port}"
        self.log = home / "server.log"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="any")

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServiceError: it ended, or did not answer in time.
        """
        command = ["serve", "--home", str(self.home), "--port", str(self._port)]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tunesmith.cli", *command],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo alone, which then ends the server in order
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_healthy():
            if self._server.poll() is not None:
                raise ServiceError(f"The server ended with code {self._server.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"The server did not answer within {_START_SECONDS:.0f} s:\n{self.log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel what runs, end the server, and make sure that no process is left. May be called any number of times.

        Raises:
            ServiceError: a process could not be ended.
        """
        with _signals_ignored():
            if self._server is not None and self._server.poll() is None:
                self._cancel_jobs()
                self._server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._server.wait(_STOP_SECONDS)
            self.client.close()
            left = self._end_rest()
        if left:
            raise ServiceError(f"These processes could not be ended: {', '.join(map(str, left))}.")

    def command(self, *arguments: str) -> Any:
        """What a `tunesmith ... --json` command prints, run against this server."""
        result = subprocess.run(
            [sys.executable, "-m", "tunesmith.cli", *arguments, "--json"],
            env=self._environment() | {"TUNESMITH_URL": self.url},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServiceError(f"tunesmith {' '.join(arguments)} failed:\n{result.stderr}")
        return json.loads(result.stdout)

    def log_tail(self) -> str:
        """The last lines that the server wrote."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) or "(the log is empty)"

    def _environment(self) -> dict[str, str]:
        """Ours without settings that are meant for another server."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
        return ours | {_MARK: self._token}

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _cancel_jobs(self) -> None:
        """Cancel all that has not ended, and wait until the workers have: `finished_at` is set only then."""
        client = self.client.with_options(timeout=5, max_retries=1)
        with contextlib.suppress(openai.OpenAIError):
            for job in client.fine_tuning.jobs.list():
                if job.status in ("validating_files", "queued", "running"):
                    client.fine_tuning.jobs.cancel(job.id)
            deadline = time.monotonic() + _CANCEL_SECONDS
            while time.monotonic() < deadline:
                if all(job.finished_at is not None for job in client.fine_tuning.jobs.list()):
                    return
                time.sleep(0.2)

    def _end_rest(self) -> list[int]:
        """Process ids that survive everything: none, unless something is badly wrong."""
        left = self._marked()
        for signal_all in (None, psutil.Process.terminate, psutil.Process.kill):
            if signal_all is not None:
                for process in left:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        signal_all(process)
            psutil.wait_procs(left, timeout=5)
            left = self._marked()
            if not left:
                break
        return [process.pid for process in left]

    def _marked(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(_MARK) == self._token)
        except (psutil.Error, OSError):
            return False  # ended meanwhile, or somebody else's


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Stopping takes seconds at most; a second Ctrl-C must not leave half of it undone."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
