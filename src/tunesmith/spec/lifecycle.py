"""The life of a job: one table of states and triggers. Whatever is not in it cannot happen."""

from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    REQUEUEING = "requeueing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """What can happen to a job."""

    VALIDATED = "validated"
    """Everything it needs is on this server and can be trained on."""
    CLAIM = "claim"
    """The scheduler gave it a device."""
    STARTED = "started"
    """Its worker reported for duty."""
    SUCCEED = "succeed"
    FAIL = "fail"
    STOPPED = "stopped"
    """Its worker ended on request, or died while asked to stop."""
    LOST = "lost"
    """Its worker died unasked; another attempt may follow."""
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

ACTIVE = frozenset({State.STARTING, State.RUNNING, State.PAUSING, State.REQUEUEING, State.CANCELLING})
"""States in which a job holds a device."""

STOPPING = frozenset({State.PAUSING, State.REQUEUEING, State.CANCELLING})
"""States in which its worker was asked to end."""

TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.VALIDATING, Trigger.VALIDATED): State.QUEUED,
    (State.VALIDATING, Trigger.FAIL): State.FAILED,
    (State.VALIDATING, Trigger.CANCEL): State.CANCELLED,
    (State.QUEUED, Trigger.CLAIM): State.STARTING,
    (State.QUEUED, Trigger.CANCEL): State.CANCELLED,
    (State.QUEUED, Trigger.PAUSE): State.PAUSED,
    (State.STARTING, Trigger.STARTED): State.RUNNING,
    (State.STARTING, Trigger.FAIL): State.FAILED,
    (State.STARTING, Trigger.LOST): State.QUEUED,
    (State.STARTING, Trigger.CANCEL): State.CANCELLING,
    (State.STARTING, Trigger.PAUSE): State.PAUSING,
    (State.RUNNING, Trigger.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Trigger.FAIL): State.FAILED,
    (State.RUNNING, Trigger.LOST): State.QUEUED,
    (State.RUNNING, Trigger.STOPPED): State.QUEUED,
    (State.RUNNING, Trigger.CANCEL): State.CANCELLING,
    (State.RUNNING, Trigger.PAUSE): State.PAUSING,
    (State.PAUSING, Trigger.STOPPED): State.PAUSED,
    (State.PAUSING, Trigger.SUCCEED): State.SUCCEEDED,
    (State.PAUSING, Trigger.FAIL): State.FAILED,
    (State.PAUSING, Trigger.RESUME): State.REQUEUEING,
    (State.PAUSING, Trigger.CANCEL): State.CANCELLING,
    (State.PAUSED, Trigger.RESUME): State.QUEUED,
    (State.PAUSED, Trigger.CANCEL): State.CANCELLED,
    (State.REQUEUEING, Trigger.STOPPED): State.QUEUED,
    (State.REQUEUEING, Trigger.SUCCEED): State.SUCCEEDED,
    (State.REQUEUEING, Trigger.FAIL): State.FAILED,
    (State.REQUEUEING, Trigger.PAUSE): State.PAUSING,
    (State.REQUEUEING, Trigger.CANCEL): State.CANCELLING,
    # Cancelling is already told to the user as cancelled, so it can end in nothing else.
    (State.CANCELLING, Trigger.STOPPED): State.CANCELLED,
    (State.CANCELLING, Trigger.SUCCEED): State.CANCELLED,
    (State.CANCELLING, Trigger.FAIL): State.CANCELLED,
}


def after(state: State, trigger: Trigger) -> State | None:
    """The state that follows, or none where the trigger is not allowed."""
    return TRANSITIONS.get((state, trigger))
