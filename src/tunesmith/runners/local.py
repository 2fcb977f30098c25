"""Workers as processes of this machine, each the leader of its own session, so that it outlives the server."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

from tunesmith.devices import Device, discover, used_bytes
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Exit, Handle
from tunesmith.runners._fork_client import WORKER_ENVIRONMENT, ForkClient
from tunesmith.runners._oom_kills import count_oom_kills
from tunesmith.spec.events import Started

_log = logging.getLogger(__name__)

# A GPU counts as clear when its memory in use is back to within this many bytes of what it was before the worker.
_MEMORY_SLACK = 512 * 1024**2

# A worker reports for duty right after it has taken hold of its run directory.
_FIND_SECONDS = 10.0

_REAP_SECONDS = 1.0

_CLEAR_SECONDS = 60.0


def create(worker_python: str, warm: bool, visible_gpus: str | None) -> "LocalRunner":
    """A runner whose workers run in the given interpreter, forked from a warm parent if asked to."""
    return LocalRunner(worker_python, warm, discover(visible_gpus))


class LocalRunner:
    """Starts workers warm where it can, cold where it must."""

    def __init__(self, worker_python: str, warm: bool, devices: tuple[Device, ...]) -> None:
        self._python = worker_python
        self._devices = devices
        self._baseline: dict[str, int] = {}  # bytes in use on each GPU just before its last worker
        self._waiting_since: dict[str, float] = {}
        self._warm = warm
        self._forks: ForkClient | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # started cold
        self._forked: set[int] = set()

    def open(self) -> None:
        """Start the warm parent; importing the training libraries takes it some seconds."""
        if self._warm:
            self._forks = ForkClient(self._python)

    def devices(self) -> tuple[Device, ...]:
        """The GPUs of this machine, or its CPU."""
        return self._devices

    def is_ready(self) -> bool:
        """True once the warm parent has imported its libraries, or has failed to."""
        return self._forks is None or not self._forks.is_warming()

    def is_clear(self, device: Device) -> bool:
        """True when the memory in use is back to what it was before the last worker.

        After a minute it is taken to be some other program's: the next job may well fit beside it.
        """
        name, now = device.name, time.monotonic()
        if name not in self._baseline or used_bytes(device) <= self._baseline[name] + _MEMORY_SLACK:
            self._waiting_since.pop(name, None)
            return True
        if now - self._waiting_since.setdefault(name, now) < _CLEAR_SECONDS:
            return False
        _log.warning("device %s holds more memory than before its last job, though that has ended", name)
        del self._baseline[name], self._waiting_since[name]
        return True

    def start(self, run: RunDirectory, device: Device) -> Handle:
        """Fork a worker from the warm parent, or start an interpreter."""
        self._baseline[device.name] = used_bytes(device)
        pid = self._forks.fork(run, device.environment()) if self._forks else None
        if pid is None:
            pid = self._start_cold(run, device.environment())
        else:
            self._forked.add(pid)
        return _handle(pid)

    def find(self, run: RunDirectory) -> Handle | None:
        """The worker that holds a run directory, by the process id in its first event."""
        run.withdraw_spec()
        deadline = time.monotonic() + _FIND_SECONDS
        while run.is_held() and time.monotonic() < deadline:
            for event in run.read_events(0)[0]:
                if isinstance(event, Started):
                    return _handle(event.pid)
            time.sleep(0.05)
        return None

    def poll(self, handle: Handle, run: RunDirectory) -> Exit | None:
        """None while the process lives; a zombie counts as dead."""
        pid = _pid(handle)
        child = self._children.get(pid)
        if child.poll() is None if child else _is_alive(handle):
            return None
        _remove_group(pid)
        if child is not None:
            del self._children[pid]
            code = child.returncode
            ended = Exit(code=code if code >= 0 else None, signal=-code if code < 0 else None)
        else:
            ended = self._told_by_parent(pid, run)
        return ended.model_copy(update={"out_of_memory": _was_out_of_memory(handle, ended)})

    def stop(self, handle: Handle, *, force: bool) -> None:
        """SIGTERM to the worker, or SIGKILL to its whole group."""
        if not _is_alive(handle):
            return
        with suppress(ProcessLookupError):
            if force:
                os.killpg(_pid(handle), signal.SIGKILL)
            else:
                os.kill(_pid(handle), signal.SIGTERM)

    def dump(self, handle: Handle) -> None:
        """SIGUSR1, which a worker listens to from its first moment."""
        if _is_alive(handle):
            with suppress(ProcessLookupError):
                os.kill(_pid(handle), signal.SIGUSR1)

    def close(self) -> None:
        """End the warm parent."""
        if self._forks is not None:
            self._forks.close()

    def _told_by_parent(self, pid: int, run: RunDirectory) -> Exit:
        """What the warm parent, which alone can know, wrote down; it does so right after the death."""
        deadline = time.monotonic() + (_REAP_SECONDS if pid in self._forked else 0)
        while not run.exit.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._forked.discard(pid)
        try:
            return Exit.model_validate_json(run.exit.read_bytes())
        except FileNotFoundError:
            return Exit()

    def _start_cold(self, run: RunDirectory, environment: Mapping[str, str]) -> int:
        with run.log.open("ab") as log:
            child = subprocess.Popen(
                [self._python, "-m", "tunesmith.worker", str(run.path)],
                env={**WORKER_ENVIRONMENT, **os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[child.pid] = child
        return child.pid


def _handle(pid: int) -> Handle:
    return {"pid": pid, "identity": _identity(pid), "oom_kills": count_oom_kills()}


def _was_out_of_memory(handle: Handle, ended: Exit) -> bool:
    """Whether a worker was killed, and the kernel has killed for want of memory since it was started."""
    before, now = handle.get("oom_kills"), count_oom_kills()
    return ended.signal == signal.SIGKILL and isinstance(before, int) and now is not None and now > before


def _pid(handle: Handle) -> int:
    pid = handle["pid"]
    assert isinstance(pid, int)
    return pid


def _is_alive(handle: Handle) -> bool:
    pid = _pid(handle)
    identity = _identity(pid)
    if identity is None or handle["identity"] is None:
        return False
    return identity == handle["identity"] and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _identity(pid: int) -> str | None:
    """What tells a process from a later one with the same number; none when there is no such process.

    On Linux the boot id and the start time in clock ticks since boot (field 22 of `/proc/PID/stat`): wall-clock start
    times move when the clock is set.
    """
    try:
        if psutil.LINUX:
            with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/sys/kernel/random/boot_id") as boot:  # noqa: PTH123 - kernel files
                ticks = stat.read().rsplit(b")", 1)[1].split()[19].decode()
                return f"{boot.read().strip()}:{ticks}"
        return f"{psutil.Process(pid).create_time():.0f}"
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return None


def _remove_group(pid: int) -> None:
    """Kill what a dead worker left in its process group. While the group has members, its number is not reused."""
    if psutil.pid_exists(pid) and not _is_zombie(pid):
        return  # the number belongs to somebody else by now
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
