"""Tunesmith's own API: everything that the service can do, in its own words.

Jobs of all other APIs can be read and steered here. The command line is built on it.
"""

from typing import Any

from fastapi import APIRouter, Depends

from tunesmith.dialects._wire import renamed, status_of
from tunesmith.dialects.native import (
    artifacts,
    datasets,
    events,
    exports,
    files,
    integrations,
    jobs,
    logs,
    models,
    organisation,
    pushes,
    receipt,
    recipes,
    samples,
    secrets,
    webhooks,
)
from tunesmith.dialects.native.answers import REFUSALS
from tunesmith.dialects.native.foreign_ids import explained
from tunesmith.dialects.native.query import require_known_keys
from tunesmith.dialects.native.render import render_job
from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.job import JobSpec

PREFIXES = ("/tunesmith/v1",)

_JOBS = f"{PREFIXES[0]}/jobs"
_FIELDS = {name: f"spec.{name}" for name in JobSpec.model_fields}


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix=PREFIXES[0], responses=REFUSALS, dependencies=[Depends(require_known_keys)])
    for part in (jobs, events, samples, receipt, recipes, logs, artifacts, files, datasets):
        router.include_router(part.routes())
    for part in (exports, pushes, models, secrets, organisation, webhooks, integrations):
        router.include_router(part.routes())
    return router


def render_error(error: TunesmithError, path: str) -> tuple[int, dict[str, Any]]:
    """The error as it is; a path of the spec as requests for jobs have it."""
    error = explained(error)
    if path.startswith(_JOBS):
        error = renamed(error, _FIELDS)
    return status_of(error, invalid=422), {"error": error.info.model_dump()}


__all__ = ["PREFIXES", "render_error", "render_job", "routes"]
