"""Rows of jobs."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Text, cast, func, insert, select, update

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.job import Frozen, JobSpec, Submission
from tunesmith.spec.lifecycle import ACTIVE, State
from tunesmith.store.rows import to_record
from tunesmith.store.tables import jobs


class Job(Frozen):
    """A job as it stands."""

    number: int
    """Order of arrival."""

    id: str
    state: State
    spec: JobSpec
    submission: Submission
    created_at: float
    started_at: float | None
    finished_at: float | None
    step: int
    total_steps: int | None
    trained_tokens: int
    estimated_finish: float | None
    error: ErrorInfo | None
    model_id: str | None
    result_file_id: str | None
    attempts: int
    fruitless_losses: int


def add(connection: Connection, id: str, spec: JobSpec, submission: Submission, at: float) -> Job:
    """Insert a queued job."""
    connection.execute(
        insert(jobs).values(
            id=id,
            state=State.QUEUED,
            dialect=submission.dialect,
            name=submission.name,
            labels=submission.labels,
            spec=spec.model_dump(mode="json"),
            submission=submission.model_dump(mode="json"),
            created_at=at,
        )
    )
    job = get(connection, id)
    assert job is not None
    return job


def get(connection: Connection, id: str) -> Job | None:
    """One job."""
    row = connection.execute(select(jobs).where(jobs.c.id == id)).one_or_none()
    return to_record(Job, row) if row else None


def change(connection: Connection, id: str, **values: Any) -> Job:
    """Set columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == id).values(**values))
    job = get(connection, id)
    assert job is not None
    return job


def newest_first(
    connection: Connection, *, limit: int | None, before: int | None = None, labels: Mapping[str, str] | None = {}
) -> list[Job]:
    """Jobs in falling order of arrival, those before the given number, with the given labels (none = without any)."""
    query = select(jobs).order_by(jobs.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(jobs.c.number < before)
    if labels is None:
        query = query.where(cast(jobs.c.labels, Text) == "{}")
    for key, value in (labels or {}).items():
        query = query.where(jobs.c.labels[key].as_string() == value)
    return [to_record(Job, row) for row in connection.execute(query)]


def oldest_first(connection: Connection) -> list[Job]:
    """All jobs in order of arrival."""
    return [to_record(Job, row) for row in connection.execute(select(jobs).order_by(jobs.c.number))]


def in_state(connection: Connection, *states: State) -> list[Job]:
    """Jobs in any of the states, in order of arrival."""
    query = select(jobs).where(jobs.c.state.in_(states)).order_by(jobs.c.number)
    return [to_record(Job, row) for row in connection.execute(query)]


def next_queued(connection: Connection) -> Job | None:
    """The job whose turn it is."""
    query = select(jobs).where(jobs.c.state == State.QUEUED).order_by(jobs.c.number).limit(1)
    row = connection.execute(query).one_or_none()
    return to_record(Job, row) if row else None


def count_active(connection: Connection) -> int:
    """Number of jobs that hold a device."""
    query = select(func.count()).select_from(jobs).where(jobs.c.state.in_(ACTIVE))
    return connection.execute(query).scalar_one()
