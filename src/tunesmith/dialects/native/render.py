"""From our values to JSON, all of them."""

from typing import Any

from tunesmith.assets.models import BaseModel
from tunesmith.store.datasets import Dataset
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel


def render_job(job: Job, _services: object = None) -> dict[str, Any]:
    """A job with its whole spec."""
    return {
        "id": job.id,
        "state": job.state,
        "dialect": job.submission.dialect,
        "name": job.submission.name,
        "labels": job.submission.labels,
        "notes": list(job.submission.notes),
        "spec": job.spec.model_dump(mode="json"),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "estimated_finish": job.estimated_finish,
        "step": job.step,
        "total_steps": job.total_steps,
        "trained_tokens": job.trained_tokens,
        "attempts": job.attempts,
        "error": job.error.model_dump() if job.error else None,
        "model": job.model_id,
    }


def render_event(event: Event) -> dict[str, Any]:
    """An event."""
    return event.model_dump(mode="json", exclude={"number"})


def render_dataset(dataset: Dataset) -> dict[str, Any]:
    """A registered dataset."""
    return {
        "name": dataset.name,
        "filename": dataset.filename,
        "bytes": dataset.bytes,
        "sha256": dataset.sha256,
        "format": dataset.report.format,
        "rows": dataset.report.rows,
        "unusable_rows": dataset.report.problem_count,
        "problems": [problem.model_dump() for problem in dataset.report.problems],
        "created_at": dataset.created_at,
    }


def render_base_model(model: BaseModel) -> dict[str, Any]:
    """A model to start from."""
    return {"id": model.name, "kind": "base", "path": str(model.path), "base": None, "job": None, "created_at": None}


def render_produced_model(model: ProducedModel) -> dict[str, Any]:
    """A model that a job produced."""
    return {
        "id": model.id,
        "kind": model.kind,
        "path": model.path,
        "base": model.base,
        "job": model.job_id,
        "name": model.name,
        "version": model.version,
        "created_at": model.created_at,
    }
