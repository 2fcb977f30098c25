"""A real server process for tests: started on a free port, ended by its own process id."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

_ADDRESS = re.compile(r"http://[\d.]+:\d+")


class RunningServer:
    """`tunesmith serve` on a home folder."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self._environment = {**os.environ, "TUNESMITH_HUB_URL": "", **environment}
        self.stderr: list[str] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.cli", "serve", "--home", str(self.home), "--port", "0"],
            env=self._environment,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            self.stderr.append(line)
            found = _ADDRESS.search(line)
            if found:
                self.url = found[0]
                break
        else:
            raise AssertionError(f"the server did not start: {''.join(self.stderr)}")
        threading.Thread(target=lambda: self.stderr.extend(process.stderr or ()), daemon=True).start()
        self.http = httpx2.Client(base_url=self.url, timeout=60)
        return process

    def restart(self) -> None:
        """Start again on the same home, on another port."""
        self.process = self._start()

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the process as an operator would, and every worker it left behind."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGKILL)

    def worker_pids(self) -> list[int]:
        """Processes that hold a run directory of this home."""
        import psutil

        pids = []
        for events in self.home.glob("jobs/*/attempts/*/events.jsonl"):
            first = events.read_text().partition("\n")[0]
            found = re.search(r'"pid":(\d+)', first)
            if found and psutil.pid_exists(int(found[1])):
                process = psutil.Process(int(found[1]))
                if process.status() != psutil.STATUS_ZOMBIE and _holds(process, events.parent):
                    pids.append(process.pid)
        return pids


def _holds(process: Any, run: Path) -> bool:
    return any(Path(file.path).parent == run for file in process.open_files())


def wait_for(check: Callable[[], Any], seconds: float = 120) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = check()
        if answer:
            return answer
        threading.Event().wait(0.05)
    raise AssertionError(f"not within {seconds} s: {check}")
