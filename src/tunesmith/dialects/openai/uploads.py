"""`/v1/uploads`: files in parts."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from tunesmith.assets.upload import Form, receive
from tunesmith.assets.uploads import MAX_PART_BYTES, MAX_UPLOAD_BYTES
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers, ids
from tunesmith.dialects.openai.files import Purpose
from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.dialects.openai.lifetimes import ExpiresAfter
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.render import render_part, render_upload
from tunesmith.spec.errors import InvalidRequestError, TooLargeError
from tunesmith.store.uploads import Part

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class BeginUpload(Wire):
    """Body of `POST /v1/uploads`."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    purpose: Purpose
    bytes: int = Field(ge=1, le=MAX_UPLOAD_BYTES)
    mime_type: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Wire):
    """Body of `POST /v1/uploads/{upload_id}/complete`."""

    part_ids: list[str] = Field(min_length=1, max_length=10_000)
    md5: Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{32}$")] | None = None


def routes(mount: Mount) -> APIRouter:
    """The endpoints of uploads."""
    prefix = f"{mount.prefix}/v1/uploads"
    router = APIRouter(tags=["uploads"])
    forms, strict = APIRouter(prefix=prefix), APIRouter(prefix=prefix, route_class=StrictRoute)

    @strict.post("", response_model=answers.Upload)
    def begin(services: Opened, body: BeginUpload) -> dict[str, Any]:
        """Announce a file that will come in parts within an hour."""
        if body.bytes > services.max_upload_bytes:
            raise TooLargeError(
                f"bytes is {body.bytes:,}; this server takes files of up to {services.max_upload_bytes:,}.",
                param="bytes",
            )
        lifetime = float(body.expires_after.seconds) if body.expires_after else None
        upload = services.uploads.begin(
            filename=_plain(body.filename),
            purpose=body.purpose,
            mime_type=body.mime_type,
            bytes=body.bytes,
            lifetime=lifetime,
        )
        return render_upload(upload)

    @forms.post("/{upload_id}/parts", openapi_extra=_FORM, response_model=answers.UploadPart)
    async def add_part(services: Opened, upload_id: str, request: Request) -> dict[str, Any]:
        """Send a part. It is written to disk as it comes in."""
        id = ids.upload_id(upload_id)
        await anyio.to_thread.run_sync(services.uploads.require_pending, id)
        # Not by a FormRoute: parts lie in a storage of their own and have a limit of their own.
        form = await receive(
            request.stream(),
            request.headers.get("content-type"),
            storage=services.uploads.parts,
            file_field="data",
            max_bytes=MAX_PART_BYTES,
        )
        return render_part(await anyio.to_thread.run_sync(_keep, services, id, form))

    @strict.post("/{upload_id}/complete", response_model=answers.Upload)
    def complete(services: Opened, upload_id: str, body: CompleteUpload) -> dict[str, Any]:
        """Join the parts, in the order of the list, to a file."""
        parts = [ids.part_id(id) for id in body.part_ids]
        return render_upload(*services.uploads.complete(ids.upload_id(upload_id), parts, body.md5))

    @strict.post("/{upload_id}/cancel", response_model=answers.Upload)
    def cancel(services: Opened, upload_id: str) -> dict[str, Any]:
        """Give an upload up."""
        return render_upload(services.uploads.cancel(ids.upload_id(upload_id)))

    router.include_router(forms)
    router.include_router(strict)
    return router


def _keep(services: Services, id: str, form: Form) -> Part:
    if form.file is None:
        raise InvalidRequestError("data is required: a part with a filename.", param="data")
    try:
        unknown = next(iter(form.fields), None)
        if unknown is not None:
            raise InvalidRequestError(f"{unknown[:100]!r} is not a field of this form.", param=unknown[:100])
        return services.uploads.add_part(id, form.file)
    finally:
        form.file.discard()


def _plain(filename: str) -> str:
    """A name is a label: nothing on disk is called by it."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable()) or "upload"
