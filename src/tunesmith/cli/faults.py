"""From what went wrong between client and server to a sentence and an exit code."""

import json
from typing import Any

from tunesmith.cli.outcome import CommandError, ExitCode

_CODES = {
    401: ExitCode.AUTH,
    403: ExitCode.AUTH,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    429: ExitCode.CONFLICT,
}

_OTHER_SERVER = "Check the address that --url or TUNESMITH_URL names."


class UnreachableError(CommandError):
    """No answer came."""


def unreachable(url: str, error: Exception) -> UnreachableError:
    """No connection, or it broke."""
    reason = str(error).rstrip(".") or type(error).__name__
    return UnreachableError(
        f"No Tunesmith server answers at {url} ({reason}).",
        hint="Start one with `tunesmith serve`, or name another address with --url or TUNESMITH_URL.",
        code=ExitCode.UNREACHABLE,
    )


def not_tunesmith(url: str) -> CommandError:
    """An answer that no Tunesmith server gives."""
    return CommandError(f"What answers at {url} is not a Tunesmith server.", hint=_OTHER_SERVER)


def refused(url: str, status: int, body: str) -> CommandError:
    """An answer with an error, in whatever dialect's shape."""
    code = _CODES.get(status, ExitCode.FAILURE)
    message, hint = _read(body)
    if status == 401:
        hint = "Set TUNESMITH_API_KEY to an API key of this server."
    if message is None:
        return CommandError(f"{url} answered with HTTP status {status} and no reason.", hint=_OTHER_SERVER, code=code)
    return CommandError(message, hint=hint, code=code)


def _read(body: str) -> tuple[str | None, str | None]:
    """Message and hint: `error` is an object for OpenAI's and our own dialect, `detail` is FastAPI's word."""
    try:
        value = json.loads(body)
    except ValueError:
        return None, None
    if not isinstance(value, dict):
        return None, None
    error = value.get("error")
    if isinstance(error, dict) and error.get("message"):
        return str(error["message"]), _text(error.get("hint"))
    for found in (error, value.get("detail"), value.get("message")):
        if found:
            return _sentence(found), None
    return None, None


def _sentence(found: Any) -> str:
    if isinstance(found, list):
        return " ".join(str(each.get("msg", each)) if isinstance(each, dict) else str(each) for each in found)
    return str(found)


def _text(value: Any) -> str | None:
    return str(value) if value else None
