"""From HTTP to values: what every dialect needs of it, whatever its words are."""

import json
import math
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, Never

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from tunesmith.data.examples import kind_of
from tunesmith.spec.errors import (
    BusyError,
    ConflictError,
    DatasetError,
    DiskFullError,
    ForbiddenError,
    InvalidRequestError,
    JobNotFoundError,
    NotFoundError,
    TooLargeError,
    TunesmithError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from tunesmith.spec.faults import path_of, place, reason, sentence

MAX_JSON_BYTES = 1024 * 1024
"""Largest body of a route that reads JSON. Uploads are streamed and have a limit of their own."""

WHOLE_CONTEXT = 1_048_576
"""Tokens of a sequence that nobody bounded: the engine lowers them to what the model can read, and says so."""

DTYPES: dict[str, Literal["bfloat16", "float32"]] = {
    "float16": "bfloat16",
    "bfloat16": "bfloat16",
    "float32": "float32",
}
"""Number formats that vendors offer, and those that they are carried out as."""

_STATUS: tuple[tuple[type[TunesmithError], int], ...] = (
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (BusyError, 409),
    (ConflictError, 409),
    (TooLargeError, 413),
    (UnsupportedMediaTypeError, 415),
    (UnavailableError, 503),
    (DiskFullError, 507),
)

# What is elsewhere and cannot be had is a fault of the request that named it.
_REFUSALS = {
    "invalid_request",
    "unsupported",
    "model_load",
    "invalid_adapter",
    "does_not_fit",
    "source_credentials",
    "address_refused",
    "download_failed",
    "push_failed",
}


# An escaped U+0000, whose own backslash is not escaped.
_MAX_DIGITS = 1_000
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Wire(BaseModel):
    """What requests are made of: values are of the very type that is asked for, and every field is a known one."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
    )


def to_job_id(wire: str, *, param: str) -> str:
    """Our id of a job that goes by a UUID, with or without dashes.

    Raises:
        JobNotFoundError: no job can have this id.
    """
    try:
        return uuid.UUID(wire).hex
    except ValueError:
        raise JobNotFoundError(f"No training job has the {param} {wire[:100]!r}.", param=param) from None


def status_of(error: TunesmithError, *, invalid: int) -> int:
    """The HTTP status of an error. `invalid` is the dialect's own for a request that cannot be accepted."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return invalid if isinstance(error, DatasetError) or error.code in _REFUSALS else 500


def renamed(error: TunesmithError, names: Mapping[str, str]) -> TunesmithError:
    """The same error with its field called as the dialect's users call it."""
    return type(error)(error.message, param=renamed_path(error.param, names), hint=error.hint)


def renamed_path(param: str | None, names: Mapping[str, str]) -> str | None:
    """A path of the spec as the dialect's users call it; one that they have no name for stays."""
    for path, name in names.items():
        if param is not None and (param == path or param.startswith(f"{path}.")):
            return name + param[len(path) :]
    return param


class StrictRoute(APIRoute):
    """A route whose JSON bodies have a size limit, repeat no key and hold no NaN or Infinity."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's seam for an own request class."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def stream(self) -> AsyncGenerator[bytes, None]:
        if self.headers.get("content-length", "0").rjust(20, "0") > f"{MAX_JSON_BYTES:020}":
            raise HTTPException(413)
        received = 0
        async for piece in super().stream():
            received += len(piece)
            if received > MAX_JSON_BYTES:
                raise HTTPException(413)
            yield piece

    async def json(self) -> Any:
        body = await self.body()
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise json.JSONDecodeError("it is not UTF-8", "", 0) from None
        return parse_json(text)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: it is no JSON, repeats a key, holds NaN or Infinity, U+0000, half of a surrogate pair or
            an integer of more than 1,000 digits, or is nested too deeply.
    """
    if _NUL.search(text):
        raise json.JSONDecodeError("it holds the character U+0000", "", 0)
    try:
        parsed = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_short
        )
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise json.JSONDecodeError("it holds half of a surrogate pair", "", 0) from None
    except RecursionError:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from None
    return parsed


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise json.JSONDecodeError(f"key {repeated!r} appears twice in one object", "", 0)
    return mapping


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise json.JSONDecodeError(f"{text[:40]} is not a finite number", "", 0)
    return number


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise json.JSONDecodeError(f"an integer of more than {_MAX_DIGITS:,} digits is too long", "", 0)
    return int(text)


def _no_constant(name: str) -> Never:
    raise json.JSONDecodeError(f"{name} is not a JSON number", "", 0)


def to_error(raised: RequestValidationError, content_type: str | None) -> TunesmithError:
    """One sentence for what FastAPI found wrong with a request, by the path the user typed."""
    first = raised.errors()[0]
    if first["type"] == "json_invalid":
        return InvalidRequestError(f"The body is not valid JSON: {first['ctx']['error']}.", hint=_place(raised))
    if first["loc"] == ("body",) and first["type"] == "value_error":
        return InvalidRequestError(f"The request is not valid: {reason(first)}.")
    if first["loc"] == ("body",) and not _is_json(content_type) and first["type"] != "missing":
        return UnsupportedMediaTypeError(
            f"Content-Type is {content_type!r}; this route reads application/json.",
            hint="Set the header Content-Type: application/json.",
        )
    if first["loc"] == ("body",):
        what = "missing" if first["type"] == "missing" else kind_of(first["input"])
        return InvalidRequestError(f"The body is {what}; it must be a JSON object.")
    param = _param(first, raised.body)
    return InvalidRequestError(sentence(first, param), param=param)


def _param(problem: Mapping[str, Any], body: object) -> str:
    part, *where = problem["loc"]
    if part != "body":
        return ".".join(map(str, where))
    if isinstance(body, dict):
        return ".".join(map(str, place({**problem, "loc": where}, body)))
    field, *inner = where  # of a form
    return ".".join(filter(None, [str(field), path_of(inner)]))


def _place(raised: RequestValidationError) -> str | None:
    position, text = raised.errors()[0]["loc"][-1], raised.body
    if not isinstance(text, str) or not text or not isinstance(position, int):
        return None
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"The fault is at line {line}, column {column}."


def _is_json(content_type: str | None) -> bool:
    media_type = (content_type or "").split(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
