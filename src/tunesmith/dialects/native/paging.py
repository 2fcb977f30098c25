"""Lists in parts."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from tunesmith.dialects.native.answers import Page

Record = TypeVar("Record")
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")]
After = Annotated[str | None, Query(max_length=128, description="Id of the last entry of the page before.")]


def page(found: Sequence[Record], limit: int, render: Callable[[Record], Item]) -> Page[Item]:
    """A page of the first `limit` records; one record more tells that there are more pages."""
    return Page(data=[render(record) for record in found[:limit]], has_more=len(found) > limit)
