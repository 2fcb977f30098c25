"""A real server process, and the command line as a shell runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

COMMAND = (sys.executable, "-m", "tunesmith.cli")


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Runs commands against one address."""

    url: str
    environment: dict[str, str]

    def run(self, *arguments: str | Path, **environment: str) -> Ended:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            check=False,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=240,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **streams: Any) -> subprocess.Popen[str]:
        """Start a command that a signal will end."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
        )


@pytest.fixture(scope="session")
def shell_for() -> Callable[[str], Shell]:
    """Commands against an address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return lambda url: Shell(url, {**kept, "TUNESMITH_URL": url, "PYTHONUTF8": "1", "COLUMNS": "100"})


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., RunningServer]]:
    """Start servers that end with the module, by their process ids."""
    started: list[RunningServer] = []

    def start(home: Path, **environment: str) -> RunningServer:
        server = RunningServer(home, **environment)
        started.append(server)
        wait_for(lambda: server.http.get("/healthz").status_code == 200, seconds=30)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(autouse=True)
def interrupts_reach_children() -> Iterator[None]:
    """A test run in the background ignores SIGINT, and so would every process that it starts."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.fixture
def shell(shell_for: Callable[[str], Shell]) -> Shell:
    """Commands where no server answers."""
    return shell_for("http://127.0.0.1:9")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to train on."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_bytes(chat_rows(60))
    return file
