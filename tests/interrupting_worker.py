"""Real worker processes that a signal hits at a chosen moment of their training.

Run as a program, this imports the training libraries once and then forks a worker for each line that it reads; the
worker sends the signal to itself, so that it arrives at the very phase that is asked for.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.events import CheckpointSaved, WorkerEvent
from tunesmith.spec.job import AttemptSpec

Phase = Literal["accumulating", "evaluating", "saving", "telling"]
"""Between two micro-batches of a step; between two batches of an evaluation; with a checkpoint half written; with one
written and not yet reported."""


class InterruptingWorkers:
    """A parent of such workers."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, order: AttemptSpec, folder: Path, phase: Phase, step: int, number: int) -> list[WorkerEvent]:
        """Carry out an attempt whose worker gets a signal in a phase of a step, and give its events."""
        directory = RunDirectory(folder)
        directory.write_spec(order)
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(json.dumps([str(folder), phase, step, number]), file=self._parent.stdin, flush=True)
        code = int(self._parent.stdout.readline())
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0), (folder / "log").read_text()
        return directory.read_events(0)[0]

    def close(self) -> None:
        """End the parent."""
        self._parent.communicate()


class _Interrupted:
    """A task that is itself but for the signal."""

    def __init__(self, task: Any, phase: Phase, step: int, number: int) -> None:
        self._task = task
        self._phase = phase
        self._step = step
        self._number = number
        self._at = 0
        self._passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def micro_batches(self, sequences: Any) -> Any:
        self._at, self._passes = self._at + 1, 0
        batches = self._task.micro_batches(sequences)
        assert len(batches) > 1 or self._phase != "accumulating", "a step of one micro-batch has no middle"
        return batches

    def forward(self, batch: Any) -> Any:
        self._passes += 1
        if self._passes == 2:
            self._hit("accumulating")
        return self._task.forward(batch)

    def validation_batches(self) -> Iterator[Any]:
        for number, batch in enumerate(self._task.validation_batches()):
            if number == 1:
                self._hit("evaluating")
            yield batch

    def save(self, folder: Path) -> None:
        self._task.save(folder)
        self._hit("saving")

    def load(self, folder: Path) -> None:
        self._task.load(folder)
        self._at = json.loads((folder / "manifest.json").read_text())["facts"]["step"]

    def _hit(self, phase: Phase) -> None:
        if phase == self._phase and self._at == self._step:
            os.kill(os.getpid(), self._number)


def _work(folder: Path, phase: Phase, step: int, number: int) -> int:
    from tunesmith.plugins import load_plugins
    from tunesmith.worker import main

    method = load_plugins("tunesmith.methods")[RunDirectory(folder).read_spec().spec.method.kind]
    build = method.build
    # This process is the test's own; there is no other way to stand between a worker and its task.
    method.build = lambda attempt, workplace: _Interrupted(build(attempt, workplace), phase, step, number)
    write = EventWriter.write

    def interrupted_write(writer: EventWriter, event: WorkerEvent) -> None:
        if phase == "telling" and isinstance(event, CheckpointSaved) and event.step == step:
            os.kill(os.getpid(), number)
        write(writer, event)

    EventWriter.write = interrupted_write  # type: ignore[method-assign]
    return main(folder)


def _serve() -> None:
    from tunesmith import forkserver

    forkserver._import_libraries()
    for line in sys.stdin:
        folder, phase, step, number = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                forkserver._redirect_output(Path(folder) / "log")
                code = _work(Path(folder), phase, step, number)
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
