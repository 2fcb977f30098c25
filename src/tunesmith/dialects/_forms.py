"""Multipart forms whose parts hold JSON as text, beside plain text and at most one file: what their dialects share.

A handler declares one parameter, `Annotated[Model, Form(media_type="multipart/form-data")]`. The model's fields are the
parts; those that hold JSON are marked with `JSON_PART`, the file has the type `FilePart`. Faults are told by the path
within the part, which begins with the part's name. Files are written and removed, and JSON is parsed, in threads.
"""

import json
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, InstanceOf, WithJsonSchema
from starlette.datastructures import FormData

from tunesmith.assets.upload import Form, receive
from tunesmith.dialects import Services
from tunesmith.dialects._wire import parse_json, renamed, status_of
from tunesmith.spec.errors import InvalidRequestError, TunesmithError, UnsupportedMediaTypeError
from tunesmith.storage import BlobWriter


@dataclass(frozen=True)
class Upload:
    """A file that came with a form."""

    filename: str
    content: BlobWriter
    """Finished and not yet committed. What the handler does not commit is forgotten after the answer."""


FilePart = Annotated[InstanceOf[Upload], WithJsonSchema({"type": "string", "format": "binary"})]


class _JsonPart:
    """The kind of the mark."""


JSON_PART = _JsonPart()
"""Marks a field whose part is the text of a JSON value."""


class FormRoute(APIRoute):
    """A route that takes a form. Its file goes straight to disk, its texts have a size limit and hold no U+0000."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's seam for an own request class."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        # Where no file is wanted, one of this name is received as well, to be refused as a part that is not known.
        model = self.body_field.field_info.annotation
        file_field, json_fields = _file_field(model) or "file", _json_fields(model)

        async def receiving(request: Request) -> Response:
            form = await _receive(request, file_field)
            try:
                parts = await anyio.to_thread.run_sync(_parts, form, file_field, json_fields)
                return await handle(_FormRequest(request, parts))
            finally:
                if form.file is not None:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(form.file.discard)

        return receiving


class _FormRequest(Request):
    def __init__(self, request: Request, parts: FormData) -> None:
        super().__init__(request.scope, request.receive)
        self._parts = parts

    async def form(self, **_limits: Any) -> FormData:  # type: ignore[override]  # FastAPI only awaits it
        return self._parts


def _read_json(text: str, param: str) -> Any:
    """The value of a part, as strictly as bodies are read."""
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        place = f"The fault is at line {error.lineno}, column {error.colno} of the part." if error.doc else None
        raise InvalidRequestError(f"{param} is not valid JSON: {error.msg}.", param=param, hint=place) from None


class Fault(BaseModel):
    """Any error: the same sentence twice, for clients of either key."""

    error: str
    detail: str


FAULTS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Fault, "description": "The request cannot be accepted."},
    "5XX": {"model": Fault, "description": "The server cannot do it now."},
}
"""The errors of every route, for its description."""


def fault(error: TunesmithError, names: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and body of an error. There is no key for the field that is wrong, so the sentence begins with it.

    Args:
        error: what was met.
        names: what the spec calls a field, and what the dialect's users call it.
    """
    error = renamed(error, names)
    told = error.info.sentence()
    if error.param is not None and error.param not in told:
        told = f"{error.param}: {told}"
    return status_of(error, invalid=400), {"error": told, "detail": told}


def _file_field(model: Any) -> str | None:
    return next((name for name, field in model.model_fields.items() if field.annotation is Upload), None)


def _json_fields(model: Any) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if JSON_PART in field.metadata)


async def _receive(request: Request, file_field: str) -> Form:
    content_type = request.headers.get("content-type")
    if (content_type or "").split(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"Content-Type is {content_type!r}; this route reads multipart/form-data.",
            hint="Send each field as a part of a form, as curl does with --form.",
        )
    services: Services = request.state.services
    return await receive(
        request.stream(),
        content_type,
        storage=services.storage,
        file_field=file_field,
        max_bytes=services.max_upload_bytes,
    )


def _parts(form: Form, file_field: str, json_fields: Collection[str]) -> FormData:
    for name, text in form.fields.items():
        if "\0" in text:
            raise InvalidRequestError(f"The part {name!r} holds the character U+0000.", param=name)
    parts: dict[str, Any] = {
        name: _read_json(text, name) if name in json_fields and text else text for name, text in form.fields.items()
    }
    if form.file is not None:
        parts[file_field] = Upload(form.filename or "upload", form.file)
    return FormData(parts)
