"""`/`, `/train` and `/queue`."""

import uuid
from typing import Any, Literal

from fastapi import APIRouter

import tunesmith
from tunesmith.dialects import Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.training_api.render import render_id, render_job
from tunesmith.dialects.training_api.translate import to_spec, to_submission
from tunesmith.dialects.training_api.wire import TrainingRequest
from tunesmith.spec.errors import InvalidRequestError, JobNotFoundError
from tunesmith.spec.job import AdapterSource, DataSource


def routes(services: Services) -> APIRouter:
    """All endpoints."""
    router = APIRouter(tags=["training"], route_class=StrictRoute)
    jobs = services.jobs

    @router.get("/")
    def information() -> dict[str, Any]:
        """What this is, and where things are."""
        return {
            "name": "Training API",
            "version": tunesmith.__version__,
            "description": "Fine-tuning jobs: submit, queue, watch and cancel",
            "endpoints": {
                "POST /train": "Submit a training job (?strategy=queue or reject)",
                "GET /train": "All training jobs",
                "GET /train/{job_id}": "One training job",
                "DELETE /train/{job_id}": "Cancel a training job",
                "GET /queue": "State of the queue",
            },
        }

    @router.post("/train")
    def submit(body: TrainingRequest, strategy: Literal["queue", "reject"] = "queue") -> dict[str, Any]:
        """Submit a training job; with `strategy=reject` it is refused while another one waits or runs."""
        dataset = services.datasets.get(body.dataset_version, param="dataset_version")
        adapter = _adapter(services, body)
        train = DataSource(kind="dataset", id=dataset.name, sha256=dataset.sha256)
        spec = to_spec(body, train=train, adapter=adapter)
        job = jobs.submit(spec, to_submission(body, when_busy=strategy, adapter=adapter))
        ahead = [other for other in (*jobs.active(), *jobs.queued()) if other.number < job.number]
        if not ahead:
            return {"job_id": render_id(job.id), "status": "started", "message": "Training job started"}
        waiting = [other for other in ahead if other.state == "queued"]
        message = f"Training job queued at position {len(waiting) + 1}"
        return {"job_id": render_id(job.id), "status": "queued", "message": message}

    @router.get("/train")
    def list_jobs() -> list[dict[str, Any]]:
        """All training jobs, oldest first."""
        return [render_job(job, services) for job in jobs.oldest_first()]

    @router.get("/train/{job_id}")
    def retrieve(job_id: str) -> dict[str, Any]:
        """One training job."""
        return render_job(jobs.get(_id(job_id)), services)

    @router.delete("/train/{job_id}")
    def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a training job, waiting or running."""
        job = jobs.cancel(_id(job_id))
        return {"status": "cancelled", "message": f"Training job {render_id(job.id)} cancelled"}

    @router.get("/queue")
    def queue() -> dict[str, Any]:
        """State of the queue."""
        waiting = jobs.queued()
        return {
            "is_training_running": bool(jobs.active()),
            "queue_length": len(waiting),
            "queued_jobs": [render_id(job.id) for job in waiting],
        }

    return router


def _id(wire: str) -> str:
    try:
        return uuid.UUID(wire).hex
    except ValueError:
        raise JobNotFoundError(f"Training job {wire} not found.", param="job_id") from None


def _adapter(services: Services, body: TrainingRequest) -> AdapterSource | None:
    """The registered adapter to continue from. A name or version that is not registered means a fresh start."""
    if body.lora_name is None:
        return None
    found = services.produced_models.version(body.lora_name, _version(body.lora_version))
    fits = found is not None and found.kind == "adapter" and found.base == body.model_name
    return AdapterSource(model=found.id) if found and fits else None


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequestError(
            f"lora_version must be a whole number of at most 9 digits, got {text[:40]!r}.", param="lora_version"
        )
    return int(text)
