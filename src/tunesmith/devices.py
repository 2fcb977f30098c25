"""What this machine can train on, without torch: NVIDIA GPUs through NVML, else the CPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from tunesmith.spec.job import Frozen


class Device(Frozen):
    """One place for one worker."""

    name: str
    """`cpu`, or a GPU's UUID as `CUDA_VISIBLE_DEVICES` takes it."""

    product: str = "CPU"
    """What its maker calls it."""

    def environment(self) -> dict[str, str]:
        """Variables that confine a worker to this device."""
        return {"CUDA_VISIBLE_DEVICES": "" if self.name == "cpu" else self.name}


CPU = Device(name="cpu")


def discover(visible: str | None) -> tuple[Device, ...]:
    """The GPUs of this machine, or the CPU when there is none.

    Args:
        visible: as `CUDA_VISIBLE_DEVICES`: numbers or UUIDs of the GPUs to use, separated by commas; none = all.
    """
    with _nvml() as nvml:
        if nvml is None:
            return (CPU,)
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        products = {nvml.nvmlDeviceGetUUID(handle): nvml.nvmlDeviceGetName(handle) for handle in handles}
    return tuple(Device(name=name, product=products[name]) for name in chosen(list(products), visible)) or (CPU,)


def chosen(names: Sequence[str], visible: str | None) -> list[str]:
    """The GPUs that a `CUDA_VISIBLE_DEVICES` leaves, in its order; like CUDA, it ends at the first unknown entry."""
    if visible is None:
        return list(names)
    found = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal() and int(entry) < len(names):
            found.append(names[int(entry)])
        elif entry.startswith("GPU-") and (match := next((name for name in names if name.startswith(entry)), None)):
            found.append(match)
        else:
            break
    return found


def used_bytes(device: Device) -> int:
    """Memory in use on a GPU by anybody; 0 for the CPU, whose memory comes back with the process."""
    if device.name == "cpu":
        return 0
    with _nvml() as nvml:
        if nvml is None:
            return 0
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(device.name)).used)


def memory_bytes(device: Device) -> int:
    """Memory that a job may have: all of a GPU's; of a processor's what this machine and its control groups allow."""
    if device.name != "cpu":
        with _nvml() as nvml:
            if nvml is not None:
                return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(device.name)).total)
    import psutil

    return min([int(psutil.virtual_memory().total), *_group_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def _group_limits(root: Path, membership: Path) -> Iterator[int]:
    """Limits of the control groups that this process is in, of either version of Linux's interface; none elsewhere."""
    try:
        groups = [line.split(":", 2)[2].lstrip("/") for line in membership.read_text().splitlines()]
    except OSError:
        return
    for group in {"", *groups}:
        for file in (root / group / "memory.max", root / "memory" / group / "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # not there, not ours to read, or `max`
                yield max(1, int(file.read_text()))


@contextmanager
def _nvml() -> Iterator[ModuleType | None]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver: no NVIDIA GPU
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
