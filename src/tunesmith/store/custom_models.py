"""Rows that tell where models that were brought in came from. The models themselves are rows of `models`."""

from typing import Literal

from sqlalchemy import Connection, insert, select

from tunesmith.spec.frozen import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import custom_models

SourceKind = Literal["checkpoint", "file", "hub"]


class Origin(Frozen):
    """Where a model came from."""

    id: str
    """The model's."""

    org: str
    source: SourceKind
    source_id: str
    """Ids of job and checkpoint as `job:checkpoint`, a file's id, or `owner/name@commit` on the hub."""


def add(connection: Connection, origin: Origin) -> None:
    """Insert an origin."""
    connection.execute(insert(custom_models).values(**origin.model_dump()))


def of_org(connection: Connection, org: str) -> dict[str, Origin]:
    """Origins of an organisation's models by the model's id, those of deleted ones too."""
    query = select(custom_models).where(custom_models.c.org == org)
    return {row.id: to_record(Origin, row) for row in connection.execute(query)}
