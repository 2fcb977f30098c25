"""What the result of an ended training is."""

from sqlalchemy import Connection

from tunesmith.store import events
from tunesmith.store.jobs import Job


def step_of_weights(connection: Connection, job: Job) -> int | None:
    """The step that the result's weights are of, as the worker told; none before it did."""
    told = events.latest(connection, job.id, "succeeded")
    if told is None:
        return None
    best: int | None = told.data["weights_of"]
    last: int = told.data["step"]
    return last if best is None else best
