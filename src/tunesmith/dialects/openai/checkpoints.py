"""Checkpoints by the names that users have for them."""

import re

from tunesmith.assets.models import weights_below
from tunesmith.dialects import Services
from tunesmith.dialects.openai import ids
from tunesmith.dialects.openai.wire import FromCheckpoint
from tunesmith.jobs.publishing import model_name
from tunesmith.spec.errors import CheckpointNotFoundError, NotFoundError
from tunesmith.spec.job import ModelSpec
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.jobs import Job

_NAME = re.compile(r"ft:.+:(?P<job>[0-9a-f]{8}):ckpt-step-\d{1,12}")


def is_checkpoint_name(name: str) -> bool:
    """Whether a model's name is that of a checkpoint, `ft:…:ckpt-step-N`."""
    return _NAME.fullmatch(name) is not None


def checkpoint_name(job: Job, step: int) -> str:
    """What the checkpoint of a step is called as a model."""
    return f"{model_name(job)}:ckpt-step-{step}"


def by_name(services: Services, name: str, *, param: str) -> tuple[Job, Checkpoint]:
    """The checkpoint that is called so, and its job.

    Raises:
        CheckpointNotFoundError: the caller sees no such checkpoint.
    """
    found = _NAME.fullmatch(name)
    if found is not None:
        for job in services.jobs.find_by_prefix(found["job"]):
            for checkpoint in services.jobs.checkpoints(job.id):
                if checkpoint_name(job, checkpoint.step) == name:
                    return job, checkpoint
    raise CheckpointNotFoundError(
        f"No checkpoint is called {name!r}.", param=param, hint="List the checkpoints of the job to see their names."
    )


def by_ids(services: Services, wanted: FromCheckpoint) -> tuple[Job, Checkpoint]:
    """The checkpoint that `from_checkpoint` of the type `ft` names, and its job.

    Raises:
        NotFoundError: the caller sees no such job, or the job has no such checkpoint.
    """
    if wanted.checkpoint is not None:
        return by_pair(services, wanted.checkpoint, param="from_checkpoint.checkpoint")
    return by_pair(services, f"{wanted.job_id}:{wanted.checkpoint_id}", param="from_checkpoint.checkpoint_id")


def by_pair(services: Services, pair: str, *, param: str) -> tuple[Job, Checkpoint]:
    """The checkpoint of `ftjob-…:ftckpt_…`, and its job.

    Raises:
        CheckpointNotFoundError: the caller sees no such job, or the job has no such checkpoint.
    """
    wire_job, _, wire_checkpoint = pair.partition(":")
    try:
        job = services.jobs.get(ids.job_id(wire_job))
        return job, services.jobs.checkpoint(job.id, ids.checkpoint_id(wire_checkpoint))
    except NotFoundError:
        raise CheckpointNotFoundError(
            f"{param}: no job of yours has the checkpoint {pair!r}.",
            param=param,
            hint="Name it as ftjob-…:ftckpt_…; the job's checkpoints list the ids.",
        ) from None


def base_below(services: Services, job: Job) -> ModelSpec:
    """The weights below a job's checkpoints: the base of the produced adapter that it began with, if it did."""
    return weights_below(job.spec.model, services.produced_models.find(job.spec.model.base))
