"""From a table's row to a record."""

from typing import Any, TypeVar

from sqlalchemy import Row

from tunesmith.spec.job import Frozen

Record = TypeVar("Record", bound=Frozen)


def to_record(kind: type[Record], row: Row[Any]) -> Record:
    """The record that holds the columns of the same names; other columns are left out."""
    columns = row._mapping
    return kind.model_validate({name: columns[name] for name in kind.model_fields})
