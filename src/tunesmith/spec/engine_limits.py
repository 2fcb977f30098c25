"""What the engine cannot do, whatever it trains: known by the description of a job alone."""

from collections.abc import Iterator

from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import JobSpec


def beyond_one_device(spec: JobSpec) -> Iterator[UnsupportedError]:
    """Several devices for one training."""
    resources = spec.resources
    if resources is None:
        return
    if resources.gpus_per_node * resources.nodes > 1:
        yield UnsupportedError(
            f"{resources.gpus_per_node * resources.nodes} GPUs cannot share one training; this engine uses one.",
            param="resources.gpus_per_node" if resources.gpus_per_node > 1 else "resources.nodes",
        )
    if resources.distribution is not None:
        yield UnsupportedError(
            f"The distribution {resources.distribution!r} has no use on one GPU.", param="resources.distribution"
        )
