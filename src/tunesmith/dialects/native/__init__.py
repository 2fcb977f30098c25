"""Our own words: what the command line uses, and whatever no other dialect has a path for."""

from typing import Any

from tunesmith.dialects._wire import status_of
from tunesmith.dialects.native.render import render_job
from tunesmith.dialects.native.routes import routes
from tunesmith.spec.errors import TunesmithError

PREFIXES = ("/tunesmith/v1",)


def render_error(error: TunesmithError) -> tuple[int, dict[str, Any]]:
    """The error as it is."""
    return status_of(error, invalid=422), {"error": error.info.model_dump()}


__all__ = ["PREFIXES", "render_error", "render_job", "routes"]
