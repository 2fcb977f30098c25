"""A job's events in the words of each vendor, as far as a vendor has words of its own."""

from typing import Any

from tunesmith.dialects.openai.checkpoints import checkpoint_name
from tunesmith.dialects.openai.mounts import Flavour
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

_METRIC_NAMES = {
    "metrics": {"loss": "train_loss", "token_accuracy": "train_mean_token_accuracy"},
    "evaluated": {"loss": "full_valid_loss", "token_accuracy": "full_valid_mean_token_accuracy"},
}

_STATES: dict[Flavour, dict[str, str]] = {
    "openai": {
        State.RUNNING: "Fine-tuning job started",
        State.SUCCEEDED: "The job has successfully completed",
    },
    "nebius": {State.SUCCEEDED: "Training completed"},
}


def render_event(event: Event, job: Job, flavour: Flavour) -> dict[str, Any]:
    """A `fine_tuning.job.event`."""
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.at),
        "level": event.level,
        "message": _message(event, job, flavour),
        "type": "metrics" if event.kind in _METRIC_NAMES else "message",
        "data": _data(event),
    }


def _message(event: Event, job: Job, flavour: Flavour) -> str:
    match event.kind:
        case "state" if event.at == job.created_at:  # the first event of all
            return "Job submitted" if flavour == "nebius" else f"Created fine-tuning job: ftjob-{job.id}"
        case "state":
            return _STATES[flavour].get(event.data.get("state", ""), event.message)
        case "prepared" if flavour == "nebius":
            return f"Dataset 'training' processed. {event.message}"
        case "checkpoint_saved" if flavour == "openai":
            step = event.data["step"]
            return f"Checkpoint created at step {step} with Snapshot ID: {checkpoint_name(job, step)}"
    return event.message


def _data(event: Event) -> dict[str, Any]:
    names = _METRIC_NAMES.get(event.kind, {})
    return {names.get(key, key): value for key, value in event.data.items()}
