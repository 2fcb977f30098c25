"""`/`, `/train` and `/queue`."""

from typing import Any, Literal

from fastapi import APIRouter

import tunesmith
from tunesmith.assets.datasets import reference
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._render import render_id
from tunesmith.dialects._wire import StrictRoute, renamed, to_job_id
from tunesmith.dialects.training_api.render import render_job, render_jobs
from tunesmith.dialects.training_api.translate import to_spec, to_submission, tracker
from tunesmith.dialects.training_api.wire import (
    Cancelled,
    Information,
    InvalidRequest,
    QueueState,
    Refusal,
    TrainingAnswer,
    TrainingRequest,
    TrainingStatus,
)
from tunesmith.spec.errors import DatasetNotFoundError, InvalidRequestError, TunesmithError, UnsupportedError
from tunesmith.spec.job import DataSource, StartSpec
from tunesmith.store.datasets import Dataset
from tunesmith.store.jobs import Job

# The origin has no pages.
_LISTED_JOBS = 1000

_ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": InvalidRequest, "description": "The request cannot be accepted."},
    "4XX": {"model": Refusal, "description": "Not possible: `detail` says why."},
    "5XX": {"model": Refusal, "description": "The server cannot do this now."},
}


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter(tags=["training"], route_class=StrictRoute, responses=_ERRORS)

    @router.get("/", response_model=Information)
    def information() -> dict[str, Any]:
        """What this is, and where things are."""
        return {
            "name": "Training API",
            "version": tunesmith.__version__,
            "description": "Fine-tuning jobs: submit, queue, watch and cancel",
            "endpoints": {
                "POST /train": "Submit a training job (?strategy=queue or reject)",
                "GET /train": "The newest training jobs",
                "GET /train/{job_id}": "One training job",
                "DELETE /train/{job_id}": "Cancel a training job",
                "GET /queue": "State of the queue",
            },
        }

    @router.post("/train", response_model=TrainingAnswer)
    def submit(
        services: Opened, body: TrainingRequest, strategy: Literal["queue", "reject"] = "queue"
    ) -> dict[str, Any]:
        """Submit a training job; with `strategy=reject` it is refused while another one waits or runs."""
        job = _submit(services, body, strategy)
        ahead = services.jobs.position(job)
        if ahead == 0:
            return {"job_id": render_id(job.id), "status": "started", "message": "Training job started"}
        position = len([other for other in services.jobs.queued() if other.number <= job.number])
        message = f"Training job queued at position {max(position, 1)}"
        return {"job_id": render_id(job.id), "status": "queued", "message": message}

    @router.get("/train", response_model=list[TrainingStatus])
    def list_jobs(services: Opened) -> list[dict[str, Any]]:
        """The newest training jobs, oldest of them first."""
        newest = services.jobs.newest_first(limit=_LISTED_JOBS)
        return render_jobs(newest[::-1], services)

    @router.get("/train/{job_id}", response_model=TrainingStatus)
    def retrieve(services: Opened, job_id: str) -> dict[str, Any]:
        """One training job."""
        return render_job(services.jobs.get(to_job_id(job_id, param="job_id")), services)

    @router.delete("/train/{job_id}", response_model=Cancelled)
    def cancel(services: Opened, job_id: str) -> dict[str, Any]:
        """Cancel a training job, waiting or running."""
        job = services.jobs.cancel(to_job_id(job_id, param="job_id"))
        return {"status": "cancelled", "message": f"Training job {render_id(job.id)} cancelled"}

    @router.get("/queue", response_model=QueueState)
    def queue(services: Opened) -> dict[str, Any]:
        """State of the queue."""
        waiting = services.jobs.queued()
        return {
            "is_training_running": bool(services.jobs.active()),
            "queue_length": len(waiting),
            "queued_jobs": [render_id(job.id) for job in waiting],
        }

    return router


def _submit(services: Services, body: TrainingRequest, strategy: str) -> Job:
    dataset = _dataset(services, body.dataset_version)
    adapter = _adapter(services, body)
    train = DataSource(kind="dataset", id=reference(dataset), sha256=dataset.sha256)
    spec = to_spec(body, train=train, modality=dataset.report.modality, adapter=adapter)
    url = str(body.webhook_url) if body.webhook_url is not None else None
    try:
        with (
            services.webhooks.kept(url, "training_api", param="webhook_url") as webhook,
            services.integrations.kept(tracker(body, services.integrations.mlflow_url)) as trackers,
        ):
            submission = to_submission(body, when_busy=strategy, adapter=adapter, integrations=(*webhook, *trackers))
            return services.jobs.submit(spec, submission)
    except TunesmithError as error:
        # Two fields may name the adapter; only here is known which one did.
        named = "lora_name" if body.lora_hf_repo is None else "lora_hf_repo"
        raise renamed(error, {"init_from": named}) from error


def _dataset(services: Services, version: str) -> Dataset:
    """The dataset of a plain name, or of the origin's later form `template:source:version`.

    Raises:
        UnsupportedError: the source is not this server.
        InvalidRequestError: no dataset is registered under the name.
    """
    template, _, rest = version.partition(":")
    source, _, name = rest.partition(":")
    if template and source and name:
        if source != "local":
            raise UnsupportedError(
                f"Data set source {source!r} is not available; available: 'local'.", param="dataset_version"
            )
        version = name
    try:
        return services.datasets.get(version, param="dataset_version")
    except DatasetNotFoundError as error:
        raise InvalidRequestError(error.message, param=error.param, hint=error.hint) from error


def _adapter(services: Services, body: TrainingRequest) -> StartSpec | None:
    """The adapter to continue from. A name or version that is not registered means a fresh start."""
    if body.lora_hf_repo is not None:
        return StartSpec(kind="hub", id=body.lora_hf_repo)
    name = body.adapter_name
    if name is None:
        return None
    found = services.produced_models.version(name, _version(body.lora_version))
    fits = found is not None and found.kind == "adapter" and found.base == body.model_name
    return StartSpec(kind="model", id=found.id) if found and fits else None


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequestError(
            f"lora_version must be a whole number of at most 9 digits, got {text[:40]!r}.", param="lora_version"
        )
    return int(text)
