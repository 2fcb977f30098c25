"""The keys of a query: a route knows them all, and each is given once."""

import re
from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from tunesmith.spec.errors import InvalidRequestError

_SHOWN = 100


def require_known_keys(request: Request) -> None:
    """Refuse keys that a route does not have, and keys that are repeated.

    Raises:
        InvalidRequestError: the query has such a key; `param` is the first of them.
    """
    given = [key for key, _ in request.query_params.multi_items()]
    if not given:
        return
    known = list(_known(request.scope["route"]))
    for key in given:
        shown = key[:_SHOWN]
        if not any(re.fullmatch(pattern, key) for _, pattern in known):
            names = ", ".join(f"`{name}`" for name, _ in known)
            raise InvalidRequestError(
                f"{shown!r} is no query parameter of this route.",
                param=shown,
                hint=f"It has {names}." if names else "It has none.",
            )
        if given.count(key) > 1:
            raise InvalidRequestError(
                f"The query parameter {shown!r} is given {given.count(key)} times.", param=shown, hint="Give it once."
            )


def _known(route: APIRoute) -> Iterator[tuple[str, str]]:
    """What a route's keys are called, and the pattern of each."""
    for field in get_flat_params(route.dependant):
        if isinstance(field.field_info, Query):
            yield field.alias, re.escape(field.alias)
    for parameter in (route.openapi_extra or {}).get("parameters", ()):
        yield f"{parameter['name']}[…]", rf"{re.escape(parameter['name'])}\[.+\]"
