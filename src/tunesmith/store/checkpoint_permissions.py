"""Rows of permissions: which projects may use a checkpoint."""

from sqlalchemy import Connection, delete, insert, select

from tunesmith.spec.frozen import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import checkpoint_permissions as permissions


class CheckpointPermission(Frozen):
    """A project's leave to use a checkpoint."""

    number: int
    """Order of creation."""

    id: str
    org: str
    checkpoint_id: str
    project_id: str
    created_at: float


def add(
    connection: Connection, *, id: str, org: str, checkpoint_id: str, project_id: str, at: float
) -> CheckpointPermission:
    """Insert a permission."""
    connection.execute(
        insert(permissions).values(id=id, org=org, checkpoint_id=checkpoint_id, project_id=project_id, created_at=at)
    )
    row = connection.execute(select(permissions).where(permissions.c.id == id)).one()
    return to_record(CheckpointPermission, row)


def of_checkpoint(connection: Connection, checkpoint_id: str) -> list[CheckpointPermission]:
    """The permissions of a checkpoint, oldest first."""
    query = select(permissions).where(permissions.c.checkpoint_id == checkpoint_id).order_by(permissions.c.number)
    return [to_record(CheckpointPermission, row) for row in connection.execute(query)]


def remove(connection: Connection, id: str) -> None:
    """Delete a permission."""
    connection.execute(delete(permissions).where(permissions.c.id == id))
