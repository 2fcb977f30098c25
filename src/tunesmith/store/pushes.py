"""Rows of pushes: produced models on their way to a hub."""

from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import pushes

PushState = Literal["queued", "running", "done", "failed"]
PushFormat = Literal["adapter", "weights", "merged", "gguf"]


class Push(Frozen):
    """One push."""

    number: int
    id: str
    org: str
    model_id: str
    export_id: str | None
    """What is pushed, for the formats that are exports."""

    repo: str
    private: bool
    secret: str
    """Id of the stored token."""

    format: PushFormat
    state: PushState
    bytes_done: int
    bytes_total: int | None
    commit: str | None
    """Of the repository, once it is done."""

    error: ErrorInfo | None
    created_at: float
    finished_at: float | None


def add(connection: Connection, id: str, *, at: float, **values: Any) -> Push:
    """Insert a push that waits."""
    connection.execute(insert(pushes).values(id=id, state="queued", bytes_done=0, created_at=at, **values))
    return _get(connection, id)


def get(connection: Connection, org: str, model_id: str, id: str) -> Push | None:
    """One push of a model."""
    wanted = (pushes.c.org == org, pushes.c.model_id == model_id, pushes.c.id == id)
    row = connection.execute(select(pushes).where(*wanted)).one_or_none()
    return to_record(Push, row) if row else None


def of_model(connection: Connection, org: str, model_id: str) -> list[Push]:
    """Pushes of a model, newest first."""
    query = select(pushes).where(pushes.c.org == org, pushes.c.model_id == model_id).order_by(pushes.c.number.desc())
    return [to_record(Push, row) for row in connection.execute(query)]


def unfinished(connection: Connection) -> list[Push]:
    """Pushes of whomever that wait or run, in order of arrival."""
    query = select(pushes).where(pushes.c.state.in_(("queued", "running"))).order_by(pushes.c.number)
    return [to_record(Push, row) for row in connection.execute(query)]


def change(connection: Connection, id: str, **values: Any) -> Push:
    """Set columns of a push."""
    connection.execute(update(pushes).where(pushes.c.id == id).values(**values))
    return _get(connection, id)


def _get(connection: Connection, id: str) -> Push:
    return to_record(Push, connection.execute(select(pushes).where(pushes.c.id == id)).one())
