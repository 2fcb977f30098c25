"""Simplismart's training suite, version 2: jobs from forms of JSON parts behind `/job`; `/secret` and `/dataset`."""

from typing import Any

from fastapi import APIRouter

from tunesmith.dialects._forms import fault
from tunesmith.dialects.simplismart import assets, jobs
from tunesmith.dialects.simplismart.fields import FIELDS
from tunesmith.dialects.simplismart.render import render_job
from tunesmith.spec.errors import TunesmithError

PREFIXES = ("/job", "/secret", "/dataset")


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter()
    for part in (jobs.routes, assets.secrets, assets.datasets):
        router.include_router(part())
    return router


def render_error(error: TunesmithError, _path: str) -> tuple[int, dict[str, Any]]:
    """The sentence under the two keys that the vendor's generations of clients read."""
    return fault(error, FIELDS)


__all__ = ["PREFIXES", "render_error", "render_job", "routes"]
