"""What an organisation's webhooks can be told of: OpenAI's three events, in its shape, and some of our own."""

from typing import Any, Literal, get_args

from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event

EventName = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.started",
    "fine_tuning.job.paused",
    "fine_tuning.job.checkpoint",
]

EVENTS: tuple[EventName, ...] = get_args(EventName)

ENDS: tuple[EventName, ...] = EVENTS[:3]
"""Those of OpenAI: how a job ended."""

TEST = "webhook.test"
"""What a test delivery tells of."""

KINDS = ("state", "checkpoint_saved")
"""Kinds of the stored events that some of them follow from."""

_STATES: dict[str | None, EventName] = {
    State.SUCCEEDED: "fine_tuning.job.succeeded",
    State.FAILED: "fine_tuning.job.failed",
    State.CANCELLED: "fine_tuning.job.cancelled",
    State.RUNNING: "fine_tuning.job.started",
    State.PAUSED: "fine_tuning.job.paused",
}


def render(event: Event) -> dict[str, Any] | None:
    """The body that tells of a stored event; none if no name stands for it."""
    data: dict[str, Any] = {"id": f"ftjob-{event.job_id}"}
    if event.kind == "checkpoint_saved":
        return envelope(event.id, "fine_tuning.job.checkpoint", event.at, {**data, "step": event.data["step"]})
    name = _STATES.get(event.data.get("state")) if event.kind == "state" else None
    return envelope(event.id, name, event.at, data) if name else None


def envelope(id: str, name: str, at: float, data: dict[str, Any]) -> dict[str, Any]:
    """A body in OpenAI's shape; times are whole seconds since the epoch."""
    return {"id": f"evt_{id}", "object": "event", "created_at": int(at), "type": name, "data": data}
