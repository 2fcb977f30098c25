"""From our values to the origin's `TrainingTask`. Clocks are ISO 8601 in UTC with a Z."""

import math
import time
from collections.abc import Sequence
from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects._logs import end_of_log
from tunesmith.dialects._render import clock, progress, render_id, total_steps, updated_at
from tunesmith.dialects.image_training.addresses import shown
from tunesmith.dialects.image_training.wire import (
    DEFAULT_ORIGIN,
    SAMPLE_EVERY,
    SAMPLE_STEPS,
    CaptioningStrategy,
    EntityType,
    TrainingStatus,
    TrainingType,
)
from tunesmith.spec.job import JobSpec, prompt_text
from tunesmith.spec.lifecycle import TERMINAL, State
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

LONG_LOG = 16_384
"""Bytes of log in the answer about one task."""

SHORT_LOG = 512
"""Bytes of log for each task of a list."""

# Whatever is fetched is fetched before a job's first attempt, so its events are among the first.
_FIRST_EVENTS = 500

_STATUS = {
    State.VALIDATING: TrainingStatus.PENDING,
    State.QUEUED: TrainingStatus.QUEUED,
    State.STARTING: TrainingStatus.PREPROCESSING,
    State.RUNNING: TrainingStatus.RUNNING,
    State.PAUSING: TrainingStatus.RUNNING,
    State.PAUSED: TrainingStatus.RUNNING,
    State.REQUEUEING: TrainingStatus.RUNNING,
    State.CANCELLING: TrainingStatus.CANCELLED,
    State.SUCCEEDED: TrainingStatus.COMPLETED,
    State.FAILED: TrainingStatus.FAILED,
    State.CANCELLED: TrainingStatus.CANCELLED,
}

_OPTIMIZERS = {"adamw_8bit": "adamw8bit"}


def render_task(job: Job, services: Services, *, log_bytes: int) -> dict[str, Any]:
    """A `TrainingTask` with what its log and its events tell: `logs`, `updated_at` and the fields of preprocessing."""
    [newest] = services.jobs.events(job.id, limit=1, newest_first=True)
    prepared = _preparation(job, services) if job.spec.data.images else {}
    first = services.jobs.events(job.id, limit=_FIRST_EVENTS) if _may_be_fetched(job.spec) else []
    return {
        **render_job(job, services),
        **_preprocessing(job, first),
        **prepared,
        "updated_at": clock(newest.at),
        "logs": end_of_log(services.jobs.logs(job.id), log_bytes),
    }


def render_job(job: Job, services: Services) -> dict[str, Any]:
    """A `TrainingTask` as far as the job alone tells. For a job of another dialect, the nearest words."""
    model = services.produced_models.find(job.model_id) if job.model_id else None
    task_id = render_id(job.id)
    return {
        "id": task_id,
        "created_at": clock(job.created_at),
        "updated_at": clock(updated_at(job)),
        "status": _STATUS[job.state].value,
        "progress": progress(job),
        "current_step": job.step,
        "total_steps": total_steps(job),
        "eta_seconds": _eta_seconds(job),
        "training_folder": model.path if model else "",
        "started_at": _clock(job.started_at),
        "completed_at": _clock(job.finished_at),
        "logs": "",
        "error_message": job.error.sentence() if job.error else None,
        "celery_training_task_id": f"{task_id}/attempts/{job.attempts}" if job.attempts else None,
        "celery_preprocessing_task_id": None,
        "celery_chain_task_id": task_id,
        "local_model_path": None,
        "processed_dataset_path": None,
        "priority": job.priority,
        "priority_changed_at": _clock(job.priority_changed_at),
        **_recipe(job),
        **_asked(job),
        **_preprocessing(job, ()),
    }


def render_status(state: State) -> str:
    """The word for a state."""
    return _STATUS[state].value


def _clock(at: float | None) -> str | None:
    return None if at is None else clock(at)


def _eta_seconds(job: Job) -> int | None:
    if job.estimated_finish is None or job.state is not State.RUNNING:
        return None
    return max(0, math.ceil(job.estimated_finish - time.time()))


def _recipe(job: Job) -> dict[str, Any]:
    """How it is trained. 0 stands for a number that the job does not have: no adapter, saves by epoch, all kept."""
    spec = job.spec
    optimization, cadence, sampling = spec.optimization, spec.cadence, spec.sampling
    micro = optimization.micro_batch_size or optimization.batch_size
    return {
        "training_type": (TrainingType.LORA if spec.adapter else TrainingType.FULL).value,
        "rank": spec.adapter.rank if spec.adapter else 0,
        "save_every": 0 if cadence.save_steps == "epoch" else cadence.save_steps,
        "max_step_saves_to_keep": cadence.keep_checkpoints or 0,
        "batch_size": micro,
        "gradient_accumulation": optimization.batch_size // micro,
        "steps": optimization.max_steps or job.total_steps or 0,
        "learning_rate": optimization.learning_rate,
        "optimizer": _OPTIMIZERS.get(optimization.optimizer, optimization.optimizer),
        "bypass_guidance_embedding": spec.method.parameters.get("bypass_guidance_embedding") is True,
        "base_model_path": spec.model.base,
        "sample_every": sampling.every if sampling else SAMPLE_EVERY,
        "sample_steps": (sampling.denoising_steps if sampling else None) or SAMPLE_STEPS,
    }


_ECHOED = (
    "origin_instance",
    "origin_zone",
    "origin_version",
    "origin_tenant_id",
    "entity_type",
    "entity_id",
    "rank",
    "trigger_word",
    "sample_prompts",
    "source_images",
    "preprocessing_transforms",
    "preprocessing_captioning_strategy",
    "preprocessing_captioning_prompt",
)


def _asked(job: Job) -> dict[str, Any]:
    """What was asked for, as it was asked; the nearest words for a job of another dialect."""
    if job.submission.dialect == "image_training":
        request = job.submission.request
        return {**{name: request[name] for name in _ECHOED}, "webhook_url": request["webhook_url"] or ""}
    images, sampling = job.spec.data.images, job.spec.sampling
    return {
        "origin_instance": DEFAULT_ORIGIN,
        "origin_zone": None,
        "origin_version": None,
        "origin_tenant_id": None,
        "entity_type": EntityType.PRODUCT.value,
        "entity_id": None,
        "webhook_url": "",
        "trigger_word": images.trigger_word if images else "",
        "sample_prompts": [prompt_text(prompt) for prompt in sampling.prompts] if sampling else [],
        "source_images": [shown(address) for address in images.sources] if images else [],
        "preprocessing_transforms": list(images.transforms) if images else None,
        "preprocessing_captioning_strategy": images.captioning if images else CaptioningStrategy.TRIGGER_ONLY.value,
        "preprocessing_captioning_prompt": images.caption_prompt if images else None,
    }


def _may_be_fetched(spec: JobSpec) -> bool:
    start = spec.init_from
    is_model = spec.model.source == "hub" or (start is not None and start.kind == "hub")
    sources = (spec.data.train, spec.data.validation)
    return is_model or any(source and source.kind not in ("file", "dataset") for source in sources)


def _preparation(job: Job, services: Services) -> dict[str, Any]:
    """How far the pictures are, by the events of their preparation. A job whose pictures are being prepared is not
    waiting any more."""
    told = services.jobs.events(job.id, limit=1, newest_first=True, kinds=("pictures",))
    if not told:
        return {}
    [first] = services.jobs.events(job.id, limit=1, kinds=("pictures",))
    newest = told[0]
    is_completed = newest.data["stage"] == "completed"
    sha256 = job.spec.data.train.sha256 if job.state not in TERMINAL else None  # it goes when the job has ended
    return {
        "status": (TrainingStatus.PREPROCESSING if job.state is State.VALIDATING else _STATUS[job.state]).value,
        "celery_preprocessing_task_id": f"{render_id(job.id)}/pictures",
        "processed_dataset_path": str(services.storage.path(sha256)) if sha256 else None,
        "preprocessing_stage": newest.data["stage"],
        "processed_files_count": newest.data["done"],
        "total_files_count": newest.data["total"],
        "preprocessing_started_at": clock(first.at),
        "preprocessing_completed_at": clock(newest.at) if is_completed else None,
    }


def _preprocessing(job: Job, events: Sequence[Event]) -> dict[str, Any]:
    """The fetching of remote parts, as far as events tell of it."""
    fetches = [event for event in events if event.kind == "fetch"]
    queued = [event.at for event in events if event.kind == "state" and event.data.get("state") == State.QUEUED]
    whole = {event.data["what"] for event in fetches if event.data["bytes"] == event.data["total_bytes"]}
    stage = "completed" if queued or job.attempts else "downloading"
    return {
        "preprocessing_stage": stage if fetches else None,
        "processed_files_count": len(whole) if fetches else None,
        "total_files_count": None,
        "preprocessing_started_at": clock(fetches[0].at) if fetches else None,
        "preprocessing_completed_at": clock(queued[0]) if fetches and queued else None,
    }
