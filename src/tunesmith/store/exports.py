"""Rows of exports: what was made, or is being made, of produced models."""

from typing import Any, Literal

from pydantic import JsonValue
from sqlalchemy import Connection, func, insert, select, update

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.export import ExportOptions, Verification
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import exports

ExportState = Literal["queued", "running", "ready", "failed", "removed"]
"""`removed`: deleted, with nothing left of it; nobody sees such a row."""


class ExportProgress(Frozen):
    """How far a running export is."""

    stage: Literal["asking", "merging", "writing", "verifying"]
    done: int
    total: int


class ExportFile(Frozen):
    """A file of a finished export."""

    name: str
    bytes: int
    sha256: str


class Export(Frozen):
    """One export."""

    number: int
    id: str
    org: str
    model_id: str
    options: ExportOptions
    state: ExportState
    attempts: int
    """Workers started for it so far."""

    handle: dict[str, JsonValue] | None
    progress: ExportProgress | None
    files: tuple[ExportFile, ...]
    """Empty until it is ready."""

    verification: Verification | None
    error: ErrorInfo | None
    created_at: float
    finished_at: float | None
    deleted_at: float | None


def add(connection: Connection, id: str, *, org: str, model_id: str, options: ExportOptions, at: float) -> Export:
    """Insert an export that waits."""
    connection.execute(
        insert(exports).values(
            id=id,
            org=org,
            model_id=model_id,
            options=options.model_dump(mode="json"),
            state="queued",
            attempts=0,
            files=[],
            created_at=at,
        )
    )
    return _get(connection, id)


def get(connection: Connection, org: str, model_id: str, id: str) -> Export | None:
    """One export of a model that was not deleted."""
    wanted = (exports.c.org == org, exports.c.model_id == model_id, exports.c.id == id, exports.c.deleted_at.is_(None))
    row = connection.execute(select(exports).where(*wanted)).one_or_none()
    return to_record(Export, row) if row else None


def of_model(connection: Connection, org: str, model_id: str) -> list[Export]:
    """Exports of a model that were not deleted, newest first."""
    wanted = (exports.c.org == org, exports.c.model_id == model_id, exports.c.deleted_at.is_(None))
    query = select(exports).where(*wanted).order_by(exports.c.number.desc())
    return [to_record(Export, row) for row in connection.execute(query)]


def in_state(connection: Connection, state: ExportState) -> list[Export]:
    """Exports of whomever in a state, also deleted ones, in order of arrival."""
    query = select(exports).where(exports.c.state == state).order_by(exports.c.number)
    return [to_record(Export, row) for row in connection.execute(query)]


def deleted(connection: Connection) -> list[Export]:
    """Exports whose files are to be removed."""
    query = select(exports).where(exports.c.deleted_at.is_not(None), exports.c.state != "removed")
    return [to_record(Export, row) for row in connection.execute(query)]


def count_unfinished(connection: Connection, org: str) -> int:
    """How many exports of an organisation wait or run."""
    wanted = (exports.c.org == org, exports.c.state.in_(("queued", "running")), exports.c.deleted_at.is_(None))
    return connection.scalar(select(func.count()).select_from(exports).where(*wanted)) or 0


def change(connection: Connection, id: str, **values: Any) -> Export:
    """Set columns of an export."""
    connection.execute(update(exports).where(exports.c.id == id).values(**values))
    return _get(connection, id)


def mark_deleted(connection: Connection, id: str, at: float) -> None:
    """Hide an export from everybody."""
    connection.execute(update(exports).where(exports.c.id == id).values(deleted_at=at))


def mark_removed(connection: Connection, id: str) -> None:
    """Say that a deleted export has left nothing."""
    connection.execute(update(exports).where(exports.c.id == id).values(state="removed", handle=None))


def mark_deleted_of_model(connection: Connection, model_id: str, at: float) -> None:
    """Hide all exports of a model."""
    of_it = (exports.c.model_id == model_id, exports.c.deleted_at.is_(None))
    connection.execute(update(exports).where(*of_it).values(deleted_at=at))


def _get(connection: Connection, id: str) -> Export:
    return to_record(Export, connection.execute(select(exports).where(exports.c.id == id)).one())
