"""The server's end of the process that decodes pictures."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Self

from tunesmith.data.imaging.protocol import ANSWER, Answer, Refused, Request

_SECONDS = 120.0
"""For one answer."""

_POLL_SECONDS = 0.1


class Decoder:
    """Asks a process of its own. When that dies over a file, the file is refused and another process goes on."""

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, request: Request) -> Answer:
        """What the process answers, or `Refused` if it died or took too long. Raises whatever `poll` raises."""
        process = self._process = self._process or _start()
        assert process.stdin is not None
        try:
            process.stdin.write(request.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            line = self._line(process)
        except BrokenPipeError:
            line = b""
        if line is None:
            self._end()
            return Refused(reason=f"it is not done within {_SECONDS:.0f} seconds")
        if not line:
            return Refused(reason=f"the process that decoded it died ({self._end()})")
        return ANSWER.validate_json(line)

    def _line(self, process: "subprocess.Popen[bytes]") -> bytes | None:
        """An answer; empty if the process died, none if it is late."""
        assert process.stdout is not None
        received, deadline = b"", time.monotonic() + _SECONDS
        while not received.endswith(b"\n"):
            self._poll()
            if time.monotonic() > deadline:
                return None
            if select.select([process.stdout], [], [], _POLL_SECONDS)[0]:
                piece = os.read(process.stdout.fileno(), 1 << 20)
                if not piece:
                    return b""
                received += piece
        return received

    def _end(self) -> str:
        """Remove the process. Returns how it had ended."""
        process, self._process = self._process, None
        if process is None:
            return "it had not begun"
        with process:  # closes its pipes and waits
            code = process.poll()
            process.kill()
        return f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {code}"


def _start() -> "subprocess.Popen[bytes]":
    # Settings of the server, among them secrets, are none of its business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith.data.imaging.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
