"""What the origin posts to `webhook_url`: one message, at the end of a job that was not cancelled."""

from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects.training_api.render import render_job
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

_FIELDS: dict[str | None, tuple[str, ...]] = {
    State.SUCCEEDED: ("job_id", "status", "tracking_url", "output_path"),
    State.FAILED: ("job_id", "status", "error"),
}


def render_webhook(job: Job, event: Event, services: Services) -> dict[str, Any] | None:
    """The body that tells of an event of a job; none if the origin says nothing then."""
    fields = _FIELDS.get(event.data.get("state")) if event.kind == "state" else None
    if fields is None:
        return None
    status = render_job(job, services)
    return {name: status[name] for name in fields}
