"""OpenAI's fine-tuning, files and models API, with Nebius Token Factory's additions on the same paths."""

from typing import Any

from fastapi import APIRouter

from tunesmith.dialects import Services
from tunesmith.dialects._wire import renamed, status_of
from tunesmith.dialects.openai import files, jobs, models
from tunesmith.dialects.openai.fields import FIELDS
from tunesmith.dialects.openai.render import render_job
from tunesmith.spec.errors import TunesmithError

PREFIXES = ("/v1",)

# What the codes of section 3.12 of OpenAI's surface are called there; all others keep our own.
_CODES = {"job_not_found": "fine_tune_not_found"}


def routes(services: Services) -> APIRouter:
    """All endpoints."""
    router = APIRouter()
    for part in (files, jobs, models):
        router.include_router(part.routes(services))
    return router


def render_error(error: TunesmithError) -> tuple[int, dict[str, Any]]:
    """OpenAI's envelope, and the `detail` list that Nebius's clients read."""
    error = renamed(error, FIELDS)
    status = status_of(error, invalid=400)
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
