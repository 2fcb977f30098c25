"""OpenAI's lists: `{object: "list", data, first_id, last_id, has_more}`."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=100, description="Most entries to answer with.")]
After = Annotated[str | None, Query(description="Id of the entry behind which to go on.")]


def page(items: Sequence[Item], limit: int, render: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """A page of the first `limit` items; one item more tells that there are more pages."""
    data = [render(item) for item in items[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(items) > limit,
    }


def behind(items: Sequence[Item], after: str | None, id_of: Callable[[Item], str]) -> Sequence[Item] | None:
    """The items behind the one with an id, all of them without an id, or none where no item has it."""
    if after is None:
        return items
    ids = [id_of(item) for item in items]
    return items[ids.index(after) + 1 :] if after in ids else None
