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
