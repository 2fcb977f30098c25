"""From our values to answers: what several dialects tell in the same way."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tunesmith.dialects import Services
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

MAX_REPORTS = 10_000
"""The newest so many reports of training and validation are told."""

# By kind of event and name of the figure in it: what vendors call it.
_FIGURES = {
    "metrics": {
        "loss": "train_loss",
        "token_accuracy": "train_token_accuracy",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    },
    "evaluated": {"loss": "eval_loss", "token_accuracy": "eval_token_accuracy"},
}


@dataclass(frozen=True)
class Figure:
    """One number at one step."""

    key: str
    value: float
    at: float
    """Seconds since the epoch."""

    step: int
    epoch: float | None
    """Passes over the data completed so far; none before the first training figures."""


def render_id(id: str) -> str:
    """An id as a UUID with dashes."""
    return str(uuid.UUID(id))


def clock(at: float) -> str:
    """Seconds since the epoch as a date and time in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def updated_at(job: Job) -> float:
    """When the job was last changed, as far as it tells itself; seconds since the epoch."""
    changes = (job.created_at, job.started_at, job.finished_at, job.priority_changed_at)
    return max(at for at in changes if at is not None)


def total_steps(job: Job) -> int:
    """Optimizer steps in all; 0 while that is not known."""
    return job.total_steps or job.spec.optimization.max_steps or 0


def progress(job: Job) -> float:
    """Percent of the steps."""
    if job.state is State.SUCCEEDED:
        return 100.0
    total = total_steps(job)
    return round(100 * min(job.step / total, 1), 2) if total else 0.0


def figures_of(services: Services, job_id: str) -> list[Figure]:
    """The figures of a job's newest `MAX_REPORTS` reports, oldest first.

    Raises:
        JobNotFoundError: no such job.
    """
    newest = services.jobs.events(job_id, limit=MAX_REPORTS, newest_first=True, kinds=tuple(_FIGURES))
    return figures(reversed(newest))


def figures(reports: Iterable[Event]) -> list[Figure]:
    """The figures in reports that are in order. Of steps that were run again after a crash, the last run counts."""
    found: dict[tuple[str, int], Figure] = {}
    epoch = None
    for report in reports:
        epoch = report.data.get("epoch", epoch)
        step = report.data["step"]
        for name, key in _FIGURES[report.kind].items():
            value = report.data[name]
            if value is not None:  # a method that compares answers counts no right tokens
                found[key, step] = Figure(key=key, value=value, at=report.at, step=step, epoch=epoch)
    return list(found.values())
