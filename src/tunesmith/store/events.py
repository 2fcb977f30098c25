"""Rows of events: everything that happened to a job, in order."""

import uuid
from collections.abc import Collection
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select

from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import events


class Event(Frozen):
    """One fact, ready to be shown."""

    number: int
    """Order of happening, over all jobs."""

    id: str
    job_id: str
    attempt: int | None
    at: float
    level: Literal["info", "warn", "error"]
    kind: str
    """A worker event's kind, or `state`, `note`, `fetch`, `pictures` and `plan` for what the server reports."""

    message: str
    data: dict[str, Any]


def add(
    connection: Connection,
    job_id: str,
    *,
    at: float,
    kind: str,
    message: str,
    level: Literal["info", "warn", "error"] = "info",
    attempt: int | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Append an event."""
    connection.execute(
        insert(events).values(
            id=uuid.uuid4().hex,
            job_id=job_id,
            attempt=attempt,
            at=at,
            level=level,
            kind=kind,
            message=message,
            data=data or {},
        )
    )


def of_job(
    connection: Connection,
    job_id: str,
    *,
    limit: int | None = None,
    after: int | None = None,
    before: int | None = None,
    newest_first: bool = False,
    kinds: Collection[str] = (),
) -> list[Event]:
    """A job's events of the given kinds (empty = of all), those with numbers above `after` and below `before`."""
    order = events.c.number.desc() if newest_first else events.c.number
    query = select(events).where(events.c.job_id == job_id).order_by(order).limit(limit)
    if after is not None:
        query = query.where(events.c.number > after)
    if before is not None:
        query = query.where(events.c.number < before)
    if kinds:
        query = query.where(events.c.kind.in_(kinds))
    return [to_record(Event, row) for row in connection.execute(query)]


def number_of(connection: Connection, job_id: str, id: str) -> int | None:
    """The number of a job's event by its id."""
    return connection.scalar(select(events.c.number).where(events.c.job_id == job_id, events.c.id == id))


def latest(connection: Connection, job_id: str, kind: str) -> Event | None:
    """A job's newest event of a kind."""
    found = of_job(connection, job_id, limit=1, newest_first=True, kinds=(kind,))
    return found[0] if found else None


def furthest(connection: Connection, job_id: str, kind: str, *, before: int) -> tuple[int, int] | None:
    """The highest step that attempts before the given one told of with events of a kind, and the highest number of a
    prompt there (0 where the kind has none); none if there is no such event."""
    step, number = events.c.data["step"].as_integer(), func.coalesce(events.c.data["number"].as_integer(), 0)
    earlier = (events.c.job_id == job_id, events.c.kind == kind, events.c.attempt < before)
    query = select(step, number).where(*earlier).order_by(step.desc(), number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return (row[0], row[1]) if row else None
