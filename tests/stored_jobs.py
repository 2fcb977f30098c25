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
from tunesmith.spec.plan import Count, DiskPlan, MemoryParts, MemoryPlan, Plan, RowsPlan
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


def plan(**values: Any) -> Plan:
    """The plan of a small job."""
    known = Count(low=10, high=10)
    rows = RowsPlan(
        sampled=False,
        read=10,
        rows=known,
        tokens=Count(low=1_000, high=1_000),
        trained_tokens=Count(low=400, high=400),
        mean=100.0,
        longest=180,
        longest_sequence=180,
        max_length=1_024,
        dropped=0,
        dropped_lines=(),
        truncated=0,
        truncated_lines=(),
        untrained=0,
        token_sequences=1,
        sequences=known,
        steps=Count(low=5, high=5),
        job_tokens=Count(low=1_000, high=1_000),
    )
    parts = MemoryParts(weights=100, gradients=10, optimizer=20, activations=300, logits=50, overhead=20)
    memory = MemoryPlan(low=200, high=500, parts=parts, micro_batch_tokens=360, gradient_checkpointing=False)
    fields: dict[str, Any] = {
        "rows": rows,
        "parameters": 50,
        "trained_parameters": 2,
        "device": "cpu",
        "device_memory": 1_000,
        "memory": memory,
        "fits": "yes",
        "disk": DiskPlan(base=100, artifact=8, checkpoint=24, checkpoints=Count(low=24, high=72)),
    }
    return Plan(**{**fields, **values})
