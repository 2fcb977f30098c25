"""What a run directory holds: how the server and one attempt's worker talk.

Down goes `spec.json`. Up come `events.jsonl` (appended, never rewritten), `receipt.json` (what is trained, token by
token), `log` (standard output and error), `checkpoints/` and `artifact/`. `exit.json` is written by the parent process
that forked the worker, if one did.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from tunesmith.spec.events import WORKER_EVENT, WorkerEvent
from tunesmith.spec.export import ExportSpec
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.receipt import Receipt

_ORDERS: TypeAdapter[AttemptSpec | ExportSpec] = TypeAdapter(
    Annotated[AttemptSpec | ExportSpec, Field(discriminator="purpose")]
)


@dataclass(frozen=True)
class RunDirectory:
    """One attempt's folder."""

    path: Path

    @property
    def spec(self) -> Path:
        """The attempt's orders, written once before the worker starts."""
        return self.path / "spec.json"

    @property
    def events(self) -> Path:
        """What the worker reports, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def receipt(self) -> Path:
        """The mask receipt, written whole once the rows are prepared."""
        return self.path / "receipt.json"

    @property
    def log(self) -> Path:
        """The worker's standard output and error."""
        return self.path / "log"

    @property
    def exit(self) -> Path:
        """How the worker's process ended."""
        return self.path / "exit.json"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Pictures that the model drew, one file for each prompt and step."""
        return self.path / "samples"

    @property
    def artifact(self) -> Path:
        """The finished weights."""
        return self.path / "artifact"

    def write_spec(self, spec: AttemptSpec | ExportSpec) -> None:
        """Create the folder and put the worker's orders into it."""
        self.path.mkdir(parents=True)
        write_whole(self.spec, spec.model_dump_json(indent=2).encode())

    def read_spec(self) -> AttemptSpec | ExportSpec:
        """The worker's orders."""
        return _ORDERS.validate_json(self.spec.read_bytes())

    def write_receipt(self, receipt: Receipt) -> None:
        """Say what is trained."""
        write_whole(self.receipt, receipt.model_dump_json().encode())

    def read_receipt(self) -> Receipt | None:
        """What is trained; none before the rows are prepared."""
        try:
            return Receipt.model_validate_json(self.receipt.read_bytes())
        except FileNotFoundError:
            return None

    def read_events(self, offset: int, limit: int | None = None) -> tuple[list[WorkerEvent], int]:
        """At most `limit` whole lines from byte `offset` on, and the offset behind them.

        A line still being written is left alone.
        """
        try:
            with self.events.open("rb") as file:
                file.seek(offset)
                lines = [line for line in islice(file, limit) if line.endswith(b"\n")]
        except FileNotFoundError:
            return [], offset
        return [WORKER_EVENT.validate_json(line) for line in lines], offset + sum(map(len, lines))

    def last_sign(self) -> float | None:
        """When the worker last showed that it gets on, in seconds since the epoch; none before its first event."""
        try:
            return self.events.stat().st_mtime
        except FileNotFoundError:
            return None

    def hold(self) -> None:
        """Mark the worker as living for as long as this process exists, whatever ends it.

        Raises:
            BlockingIOError: another process holds the run directory.
        """
        # The descriptor is left open on purpose: the lock goes when the process does.
        fcntl.flock(os.open(self.path / "lock", os.O_WRONLY | os.O_CREAT, 0o644), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_held(self) -> bool:
        """Whether a worker lives on this run directory."""
        try:
            descriptor = os.open(self.path / "lock", os.O_WRONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def withdraw_spec(self) -> None:
        """Take the orders away, so that a worker that has not begun never will."""
        self.spec.unlink(missing_ok=True)

    def write_exit(self, *, code: int | None, signal: int | None) -> None:
        """Record how the worker's process ended."""
        write_whole(self.exit, json.dumps({"code": code, "signal": signal}).encode())


def model_files(folder: Path) -> dict[str, str]:
    """Digests of the files of a checkpoint that make up the model, by name: all but the trainer's own state."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return {entry["name"]: entry["sha256"] for entry in manifest["files"] if "/" not in entry["name"]}


class EventWriter:
    """Appends events to a run directory, each line by one `write` call, so that a crash breaks at most the last."""

    def __init__(self, run: RunDirectory) -> None:
        self._descriptor = os.open(run.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, event: WorkerEvent) -> None:
        """Append one event."""
        os.write(self._descriptor, event.model_dump_json().encode() + b"\n")

    def touch(self) -> None:
        """Show by the file's time of change that the worker gets on, though there is nothing to report."""
        os.utime(self._descriptor)

    def close(self) -> None:
        """Make everything written durable, and end."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either absent or complete, also after a crash."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
