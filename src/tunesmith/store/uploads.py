"""Rows of uploads in parts, and of their parts."""

from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from tunesmith.spec.frozen import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import upload_parts, uploads

Status = Literal["pending", "completed", "cancelled", "expired"]


class Upload(Frozen):
    """A file that arrives in parts."""

    id: str
    org: str
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    """As announced when it was begun."""

    lifetime: float | None
    """Seconds that the file is to be kept; none = until it is deleted."""

    status: Status
    file_id: str | None
    """The file that it became."""

    created_at: float
    expires_at: float


class Part(Frozen):
    """A piece of an upload."""

    id: str
    org: str
    upload_id: str
    bytes: int
    sha256: str
    created_at: float


def add(connection: Connection, upload: Upload) -> None:
    """Insert an upload."""
    connection.execute(insert(uploads).values(**upload.model_dump()))


def get(connection: Connection, org: str, id: str) -> Upload | None:
    """One upload of an organisation."""
    row = connection.execute(select(uploads).where(uploads.c.org == org, uploads.c.id == id)).one_or_none()
    return to_record(Upload, row) if row else None


def overdue(connection: Connection, at: float) -> list[Upload]:
    """Uploads of all organisations that were not completed in time."""
    query = select(uploads).where(uploads.c.status == "pending", uploads.c.expires_at <= at)
    return [to_record(Upload, row) for row in connection.execute(query)]


def change(connection: Connection, id: str, **values: Any) -> None:
    """Set columns of an upload."""
    connection.execute(update(uploads).where(uploads.c.id == id).values(**values))


def add_part(connection: Connection, part: Part) -> None:
    """Insert a part."""
    connection.execute(insert(upload_parts).values(**part.model_dump()))


def parts_of(connection: Connection, upload_id: str) -> list[Part]:
    """The parts of an upload, in no order that means anything."""
    query = select(upload_parts).where(upload_parts.c.upload_id == upload_id)
    return [to_record(Part, row) for row in connection.execute(query)]


def bytes_of_parts(connection: Connection, upload_id: str) -> int:
    """Bytes of all parts of an upload."""
    query = select(func.coalesce(func.sum(upload_parts.c.bytes), 0)).where(upload_parts.c.upload_id == upload_id)
    return int(connection.execute(query).scalar_one())


def remove_parts(connection: Connection, upload_id: str) -> None:
    """Delete the parts of an upload."""
    connection.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))


def is_part(connection: Connection, sha256: str) -> bool:
    """Whether any part still stands for this content."""
    query = select(upload_parts.c.id).where(upload_parts.c.sha256 == sha256).limit(1)
    return connection.execute(query).first() is not None
