"""Rows of attempts: one execution of a job each."""

from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection, insert, select, update

from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import attempts


class Attempt(Frozen):
    """One execution."""

    job_id: str
    number: int
    device: str
    claimed_by: str
    """Id of the server process that drives it."""

    claim_expires_at: float
    handle: dict[str, JsonValue] | None
    """The runner's; none while the worker is being started."""

    events_offset: int
    started_at: float
    stop_requested_at: float | None
    settled: bool
    """Its terminal event was applied to the job."""

    ended_at: float | None
    """When its process was gone and its device free."""


def add(connection: Connection, attempt: Attempt) -> None:
    """Insert a new attempt."""
    connection.execute(insert(attempts).values(**attempt.model_dump()))


def get(connection: Connection, job_id: str, number: int) -> Attempt:
    """One attempt, which must exist."""
    row = connection.execute(select(attempts).where(attempts.c.job_id == job_id, attempts.c.number == number)).one()
    return to_record(Attempt, row)


def change(connection: Connection, attempt: Attempt, **values: Any) -> Attempt:
    """Set columns of an attempt."""
    connection.execute(
        update(attempts)
        .where(attempts.c.job_id == attempt.job_id, attempts.c.number == attempt.number)
        .values(**values)
    )
    return get(connection, attempt.job_id, attempt.number)


def unended(connection: Connection) -> list[Attempt]:
    """Attempts that still hold a device."""
    query = select(attempts).where(attempts.c.ended_at.is_(None)).order_by(attempts.c.started_at)
    return [to_record(Attempt, row) for row in connection.execute(query)]


def newest(connection: Connection, job_id: str) -> Attempt | None:
    """A job's latest attempt."""
    query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return to_record(Attempt, row) if row else None
