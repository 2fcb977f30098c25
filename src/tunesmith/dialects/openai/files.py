"""`/v1/files`."""

from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse

from tunesmith.assets.upload import Form, receive
from tunesmith.dialects import Services
from tunesmith.dialects.openai import ids
from tunesmith.dialects.openai.paging import After, page
from tunesmith.dialects.openai.render import render_file
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
from tunesmith.store.files import File

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def routes(services: Services) -> APIRouter:
    """The endpoints of files."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    files = services.files

    @router.post(
        "",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "required": ["file", "purpose"],
                            "properties": {
                                "file": {"type": "string", "format": "binary"},
                                "purpose": {"type": "string", "enum": list(_PURPOSES)},
                            },
                        }
                    }
                },
            }
        },
    )
    async def upload(request: Request) -> dict[str, Any]:
        """Upload a file. It is written to disk as it comes in; training data is then read through."""
        form = await _receive(services, request)
        return render_file(await anyio.to_thread.run_sync(_keep, services, form))

    @router.get("")
    def list_files(
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: After = None,
    ) -> dict[str, Any]:
        """List files."""
        behind = ids.file_id(after, param="after") if after else None
        found = files.listed(limit=limit + 1, after=behind, newest_first=order == "desc", purpose=purpose)
        return page(found, limit, render_file)

    @router.get("/{file_id}")
    def retrieve(file_id: str) -> dict[str, Any]:
        """Get a file's description."""
        return render_file(files.get(ids.file_id(file_id)))

    @router.get("/{file_id}/content", response_class=FileResponse)
    def content(file_id: str) -> FileResponse:
        """Get a file's bytes."""
        file = files.get(ids.file_id(file_id))
        return FileResponse(
            files.path(file),
            media_type="application/octet-stream",
            filename=file.filename.rsplit("/", 1)[-1],
            headers={"X-Content-Type-Options": "nosniff"},
        )

    @router.delete("/{file_id}")
    def delete(file_id: str) -> dict[str, Any]:
        """Delete a file. Jobs that already use it are not disturbed."""
        files.delete(ids.file_id(file_id))
        return {"id": file_id, "object": "file", "deleted": True}

    return router


async def _receive(services: Services, request: Request) -> Form:
    return await receive(
        request.stream(),
        request.headers.get("content-type"),
        storage=services.storage,
        file_field="file",
        max_bytes=services.max_upload_bytes,
    )


def _keep(services: Services, form: Form) -> File:
    if form.file is None or form.filename is None:
        raise InvalidRequestError("file is required: a part with a filename.", param="file")
    try:
        purpose = form.fields.get("purpose")
        if purpose not in _PURPOSES:
            allowed = ", ".join(repr(each) for each in _PURPOSES)
            raise InvalidRequestError(f"purpose must be one of {allowed}, got {purpose!r}.", param="purpose")
        if any(name.startswith("expires_after") for name in form.fields):
            raise UnsupportedError("expires_after is not available in this version.", param="expires_after")
        return services.files.add(form.file, filename=form.filename, purpose=purpose)
    finally:
        form.file.discard()
