"""What a job asks of the machines, held against what there is."""

from collections.abc import Sequence
from typing import Literal

from tunesmith.devices import CPU, Device, memory_bytes
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import DeviceFacts, JobSpec, ResourcesSpec

Policy = Literal["adjust", "refuse"]
"""What becomes of a job that asks for machines which this server has not."""


def largest(devices: Sequence[Device], limit: int | None) -> DeviceFacts:
    """The device with the most memory for a job, which is at most `limit` bytes."""
    return max((facts(device, limit) for device in devices), key=lambda each: each.memory)


def facts(device: Device, limit: int | None) -> DeviceFacts:
    """What a worker is told of its device; a job may use at most `limit` bytes of it."""
    memory = memory_bytes(device)
    name = CPU.name if device.name == CPU.name else device.product
    return DeviceFacts(name=name, memory=memory if limit is None else min(memory, limit))


def fitted(spec: JobSpec, devices: Sequence[Device], policy: Policy) -> tuple[JobSpec, list[str]]:
    """The spec with resources that this server can give, and a sentence about each change.

    Raises:
        UnsupportedError: the policy is to refuse, and something asked for is not there.
    """
    asked = spec.resources
    if asked is None:
        return spec, []
    faults = _faults(asked, devices)
    if faults and policy == "refuse":
        raise UnsupportedError(
            f"{' '.join(faults)} This server is set to refuse what it cannot give.",
            param="resources",
            hint="Ask for one GPU of a kind that is here, or have the operator set unavailable_resources to 'adjust'.",
        )
    notes = [f"{fault} The job runs on one of: {_names(devices)}." for fault in faults]
    return spec.model_copy(update={"resources": None}), notes


def _faults(asked: ResourcesSpec, devices: Sequence[Device]) -> list[str]:
    found = []
    gpus = asked.gpus_per_node * asked.nodes
    if gpus > 1:
        found.append(
            f"{asked.nodes} nodes with {asked.gpus_per_node} GPUs each were asked for; "
            "this version trains a job on one device."
        )
    elif asked.distribution is not None and asked.distribution != "ddp":
        found.append(f"{asked.distribution} was asked for; it has no use on one device.")
    if asked.gpu_type and not any(asked.gpu_type.lower() in device.product.lower() for device in devices):
        found.append(f"A GPU of type {asked.gpu_type!r} was asked for; this server has none.")
    return found


def _names(devices: Sequence[Device]) -> str:
    return ", ".join(device.product for device in devices)
