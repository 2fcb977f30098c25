"""Runners start worker processes somewhere and tell whether they live. One module a runner; its name is the key.

A module offers `create(worker_python: str, warm: bool, visible_gpus: str | None) -> Runner`. Everything else that
server and worker have to say to each other goes through the run directory.
"""

from typing import Protocol

from pydantic import JsonValue

from tunesmith.devices import Device
from tunesmith.rundir import RunDirectory
from tunesmith.spec.job import Frozen

Handle = dict[str, JsonValue]
"""How a runner finds a worker again, also after a restart of the server. Plain JSON, private to the runner."""


class Exit(Frozen):
    """How a worker's process ended; both none when nobody saw it."""

    code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    """Whether the kernel ended it because memory ran out, as far as that can be told."""


class Runner(Protocol):
    """Starts, watches and stops workers."""

    def open(self) -> None:
        """Begin; called once the server listens."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """The places that this runner has; one worker each."""
        ...

    def is_ready(self) -> bool:
        """Whether `start` would be quick. The scheduler waits for it."""
        ...

    def is_clear(self, device: Device) -> bool:
        """Whether the memory of the device's last worker is seen to be back."""
        ...

    def start(self, run: RunDirectory, device: Device) -> Handle:
        """Start a worker on a run directory that holds its `spec.json`.

        Raises:
            OSError: no process could be started.
        """
        ...

    def find(self, run: RunDirectory) -> Handle | None:
        """The worker of a run directory whose handle was lost. None means there is none and never will be one."""
        ...

    def poll(self, handle: Handle, run: RunDirectory) -> Exit | None:
        """None while the worker lives. Afterwards how it ended, with every process it left behind removed."""
        ...

    def stop(self, handle: Handle, *, force: bool) -> None:
        """Ask the worker to save and end, or with `force` remove it and its children at once."""
        ...

    def dump(self, handle: Handle) -> None:
        """Have the worker write to its log where each of its threads stands."""
        ...

    def close(self) -> None:
        """Release what the runner itself holds. Workers go on."""
        ...
