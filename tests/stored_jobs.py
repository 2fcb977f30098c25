"""Specs and jobs for tests that need no training."""

import dataclasses
from typing import Any

from tunesmith.access.caller import LOCAL
from tunesmith.dialects import Services
from tunesmith.spec.job import (
    CadenceSpec,
    DataSource,
    DataSpec,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    Submission,
)
from tunesmith.spec.lifecycle import State
from tunesmith.store.jobs import Job

FILE = DataSource(kind="file", id="a" * 32, sha256="0" * 64)


def job_spec(train: DataSource = FILE, **changes: Any) -> JobSpec:
    """A small spec; keyword arguments replace its parts."""
    spec = JobSpec(
        model=ModelSpec(base="m", dtype="float32"),
        init_from=None,
        data=DataSpec(train=train, validation=None, max_length=64, over_long="drop", packing=False, max_samples=None),
        method=MethodSpec(kind="sft"),
        adapter=None,
        optimization=optimization(),
        cadence=CadenceSpec(eval_steps="epoch", save_steps="epoch", keep_checkpoints=None),
    )
    return spec.model_copy(update=changes)


def optimization(*, epochs: float = 1, batch_size: int = 1, micro_batch_size: int | None = None) -> OptimizationSpec:
    """A constant rate without trimmings."""
    return OptimizationSpec(
        learning_rate=1e-3,
        schedule="constant",
        warmup_ratio=0,
        weight_decay=0,
        max_grad_norm=None,
        epochs=epochs,
        max_steps=None,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        seed=1,
    )


def stored_job(state: State, spec: JobSpec, **changes: Any) -> Job:
    """A job as the store gives it, made by no dialect that exists; keyword arguments replace its fields."""
    job = Job(
        number=1,
        id="b" * 32,
        org="local",
        project=None,
        created_by=None,
        state=state,
        priority=1,
        priority_changed_at=None,
        spec=spec,
        submission=Submission(dialect="elsewhere", request={}),
        created_at=1.5,
        started_at=None,
        finished_at=None,
        step=0,
        total_steps=None,
        trained_tokens=0,
        estimated_finish=None,
        error=None,
        model_id=None,
        result_file_id=None,
        attempts=0,
        fruitless_losses=0,
    )
    return job.model_copy(update=changes)


EMPTY_SERVICES = Services(
    caller=LOCAL, **{field.name: None for field in dataclasses.fields(Services) if field.name != "caller"}
)
