"""What a receiver of status updates is told: every change of the state, and progress each tenth of the way.

The fields are those of the receiver's published schema; members of `error_category` are our choice.
"""

from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects._render import clock
from tunesmith.dialects.image_training.render import render_job, render_status
from tunesmith.spec.errors import (
    ERRORS,
    AdapterError,
    AddressRefusedError,
    DatasetError,
    DownloadError,
    ErrorInfo,
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    NonFiniteError,
    OutOfMemoryError,
    SourceCredentialsError,
    SourceNotFoundError,
    TunesmithError,
    UnsupportedError,
)
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

_PARTS = 10
"""Progress is told whenever so large a part of the steps more is done."""

_CATEGORIES: dict[str, tuple[type[TunesmithError], ...]] = {
    "request": (InvalidRequestError, UnsupportedError),
    "data": (DatasetError, SourceNotFoundError, SourceCredentialsError, AddressRefusedError, DownloadError),
    "model": (ModelNotFoundError, ModelLoadError, AdapterError),
    "training": (OutOfMemoryError, NonFiniteError),
}


def render_webhook(job: Job, event: Event, services: Services) -> dict[str, Any] | None:
    """The body that tells of an event of a job, with the status that the event brought about; none if there is nothing
    to tell."""
    if "state" not in event.data and not _is_progress(job, event):
        return None
    task = render_job(job, services)
    status = render_status(State(event.data["state"])) if "state" in event.data else task["status"]
    return {
        "event_type": "training_status_update",
        "task_id": task["id"],
        "task_type": "training",
        "status": status,
        "entity_id": task["entity_id"],
        "origin_instance": task["origin_instance"],
        "origin_zone": task["origin_zone"],
        "origin_version": task["origin_version"],
        "timestamp": clock(event.at),
        "started_at": task["started_at"],
        "completed_at": task["completed_at"],
        "progress": task["progress"],
        "error_message": task["error_message"],
        "error_category": _category(job.error) if job.error else None,
        "metadata": {
            "message": event.message,
            "current_step": task["current_step"],
            "total_steps": task["total_steps"],
            "training_folder": task["training_folder"],
        },
        "additional_properties": {},
    }


def _is_progress(job: Job, event: Event) -> bool:
    """Whether these steps completed another part of the training."""
    if event.kind != "metrics":
        return False
    step: int = event.data["step"]
    total: int = event.data["total_steps"]
    before = max(step - job.spec.cadence.log_steps, 0)
    return step * _PARTS // total > before * _PARTS // total


def _category(error: ErrorInfo) -> str:
    kind = ERRORS[error.code]
    return next((name for name, kinds in _CATEGORIES.items() if issubclass(kind, kinds)), "server")
