"""How long a planned job takes, told by the speed of earlier jobs. Without one, nothing is told."""

import statistics
from collections.abc import Iterator

from sqlalchemy import Connection

from tunesmith.spec.job import JobSpec
from tunesmith.spec.plan import Plan, TimePlan
from tunesmith.store import events, jobs
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job

_JOBS_LOOKED_AT = 100
_REPORTS_OF_EACH = 200
_LEAST_REPORTS = 3


def timed(database: Database, org: str, spec: JobSpec, plan: Plan) -> Plan:
    """The plan with a time, if jobs of the same organisation trained the same model in the same way on such a device.

    Their steps' speeds from the slower to the faster quarter make the range.
    """
    with database.read() as connection:
        like = [
            job
            for job in jobs.newest_first(connection, org, limit=_JOBS_LOOKED_AT)
            if _way(job.spec) == _way(spec) and _ran_on(connection, job, plan.device)
        ]
        speeds = {job.id: list(_speeds(connection, job)) for job in like}
    known = [speed for found in speeds.values() for speed in found]
    if len(known) < _LEAST_REPORTS:
        why = f"No job has trained this model in this way on this kind of device ({plan.device}) yet."
        return plan.model_copy(update={"time_note": why})
    slow, _, fast = statistics.quantiles(known, n=4)
    tokens = plan.rows.job_tokens
    time = TimePlan(low=tokens.low / fast, high=tokens.high / slow, jobs=sum(1 for found in speeds.values() if found))
    return plan.model_copy(update={"time": time})


def _way(spec: JobSpec) -> tuple[object, ...]:
    """What speed depends on most."""
    model, optimization = spec.model, spec.optimization
    return (
        model.base,
        model.revision,
        model.dtype,
        model.quantization,
        spec.method.kind,
        spec.adapter is None,
        optimization.gradient_checkpointing,
        optimization.micro_batch_size,
    )


def _ran_on(connection: Connection, job: Job, device: str) -> bool:
    started = events.latest(connection, job.id, "started")
    return started is not None and started.data.get("device") == device


def _speeds(connection: Connection, job: Job) -> Iterator[float]:
    """Tokens a second of the job's last reports, without the first step, which is slower."""
    reports = events.of_job(connection, job.id, limit=_REPORTS_OF_EACH, newest_first=True, kinds=("metrics",))
    for report in reports:
        if report.data["step"] > 1 and report.data["tokens_per_second"] > 0:
            yield report.data["tokens_per_second"]
