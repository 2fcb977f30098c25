"""What this machine can train on, without torch: NVIDIA GPUs through NVML, else the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tunesmith.spec.job import Frozen


class Device(Frozen):
    """One place for one worker."""

    name: str
    """`cpu`, or a GPU's UUID as `CUDA_VISIBLE_DEVICES` takes it."""

    def environment(self) -> dict[str, str]:
        """Variables that confine a worker to this device."""
        return {"CUDA_VISIBLE_DEVICES": "" if self.name == "cpu" else self.name}


CPU = Device(name="cpu")


def discover() -> tuple[Device, ...]:
    """All GPUs of this machine, or the CPU when there is none."""
    with _nvml() as nvml:
        if nvml is None:
            return (CPU,)
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(Device(name=nvml.nvmlDeviceGetUUID(handle)) for handle in handles) or (CPU,)


def used_bytes(device: Device) -> int:
    """Memory in use on a GPU by anybody; 0 for the CPU, whose memory comes back with the process."""
    if device.name == "cpu":
        return 0
    with _nvml() as nvml:
        if nvml is None:
            return 0
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(device.name)).used)


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
