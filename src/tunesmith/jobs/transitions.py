"""Moves a job along its lifecycle, inside a transaction."""

from sqlalchemy import Connection

from tunesmith.spec.errors import JobStateError
from tunesmith.spec.lifecycle import TERMINAL, TRANSITIONS, State, Trigger, after
from tunesmith.store import events, jobs
from tunesmith.store.jobs import Job

_VERBS = {Trigger.CANCEL: "cancelled", Trigger.PAUSE: "paused", Trigger.RESUME: "resumed"}

_MESSAGES = {
    State.VALIDATING: "The job's model and data are being fetched and checked.",
    State.QUEUED: "The job waits in the queue.",
    State.STARTING: "The job's worker is starting.",
    State.RUNNING: "The job has started.",
    State.PAUSING: "The job is saving its state in order to pause.",
    State.PAUSED: "The job is paused.",
    State.REQUEUEING: "The job is saving its state and will go on.",
    State.CANCELLING: "The job is being cancelled.",
    State.SUCCEEDED: "The job has succeeded.",
    State.FAILED: "The job has failed.",
    State.CANCELLED: "The job was cancelled.",
}


def move(connection: Connection, job: Job, trigger: Trigger, *, at: float, attempt: int | None = None) -> Job:
    """Apply a trigger and tell it in an event.

    Raises:
        JobStateError: the lifecycle does not allow it.
    """
    state = after(job.state, trigger)
    if state is None:
        raise _refusal(job.state, trigger)
    values: dict[str, object] = {"state": state}
    if state is State.RUNNING and job.started_at is None:
        values["started_at"] = at
    if state in TERMINAL:
        values |= {"finished_at": at, "estimated_finish": None}
    events.add(
        connection,
        job.id,
        at=at,
        kind="state",
        message=_MESSAGES[state],
        level="error" if state is State.FAILED else "info",
        attempt=attempt,
        data={"state": state},
    )
    return jobs.change(connection, job.id, **values)


def _refusal(state: State, trigger: Trigger) -> JobStateError:
    allowed = ", ".join(source for source, each in TRANSITIONS if each is trigger)
    return JobStateError(
        f"The job is {state} and cannot be {_VERBS.get(trigger, trigger)}; that is possible while it is: {allowed}."
    )
