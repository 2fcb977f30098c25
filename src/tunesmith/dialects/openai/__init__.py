"""OpenAI's fine-tuning, files, uploads and models API, with Nebius Token Factory's additions on the same paths.

Below `/nebius` the same is served by Nebius's rules alone.
"""

from typing import Any

from fastapi import APIRouter, Depends

from tunesmith.dialects import Services
from tunesmith.dialects._wire import renamed, status_of
from tunesmith.dialects.openai import (
    custom_models,
    files,
    grading,
    jobs,
    models,
    permissions,
    render,
    uploads,
    webhook_endpoints,
)
from tunesmith.dialects.openai.answers import REFUSALS
from tunesmith.dialects.openai.fields import FIELDS
from tunesmith.dialects.openai.mounts import MOUNTS, NEBIUS, mount_of
from tunesmith.dialects.openai.reading import NebiusRequestError
from tunesmith.dialects.openai.scope import require_own
from tunesmith.spec.errors import InvalidRequestError, TunesmithError
from tunesmith.store.jobs import Job

PREFIXES = ("/v1", "/v0", "/nebius/v1", "/nebius/v0")

# What the codes of section 3.12 of OpenAI's surface are called there; all others keep our own.
_CODES = {"job_not_found": "fine_tune_not_found"}

_INVALID = 400
_NEBIUS_INVALID = 422


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter(responses=REFUSALS, dependencies=[Depends(require_own)])
    for mount in MOUNTS:
        for part in (files, uploads, jobs, permissions, grading, models, custom_models):
            router.include_router(part.routes(mount))
    router.include_router(webhook_endpoints.routes())
    return router


def render_job(job: Job, _services: Services) -> dict[str, Any]:
    """A `fine_tuning.job`."""
    return render.render_job(job)


def render_error(error: TunesmithError, path: str) -> tuple[int, dict[str, Any]]:
    """OpenAI's envelope, and the `detail` list that Nebius's clients read."""
    error = renamed(error, FIELDS)
    by_nebius = isinstance(error, NebiusRequestError) or mount_of(path) is NEBIUS
    status = status_of(error, invalid=_INVALID)
    if by_nebius and isinstance(error, InvalidRequestError):
        status = _NEBIUS_INVALID
    info = error.info
    body = {
        "message": info.sentence(),
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": info.param,
        "code": _CODES.get(info.code, info.code),
    }
    location = ["body", *info.param.split(".")] if info.param else ["body"]
    return status, {"error": body, "detail": [{"loc": location, "msg": info.sentence(), "type": body["code"]}]}


__all__ = ["PREFIXES", "render_error", "render_job", "routes"]
