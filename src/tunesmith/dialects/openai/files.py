"""`/v1/files`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query
from fastapi.responses import FileResponse

from tunesmith.dialects import Opened
from tunesmith.dialects._forms import FilePart, FormRoute
from tunesmith.dialects.openai import answers, ids, lifetimes
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.paging import After, page
from tunesmith.dialects.openai.render import render_file

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class NewFile(lifetimes.FormLifetime):
    """The form of `POST /v1/files`."""

    file: FilePart
    """The content, with a filename."""

    purpose: Purpose


def routes(mount: Mount) -> APIRouter:
    """The endpoints of files."""
    router = APIRouter(prefix=f"{mount.prefix}/v1/files", tags=["files"], route_class=FormRoute)

    @router.post("", response_model=answers.File)
    def upload(services: Opened, form: Annotated[NewFile, Form(media_type="multipart/form-data")]) -> dict[str, Any]:
        """Upload a file. It is written to disk as it comes in; training data is then read through."""
        lifetime = form.lifetime()
        file = services.files.add(
            form.file.content, filename=form.file.filename, purpose=form.purpose, lifetime=lifetime
        )
        return render_file(file)

    @router.get("", response_model=answers.Page[answers.File])
    def list_files(
        services: Opened,
        purpose: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: After = None,
    ) -> dict[str, Any]:
        """List files."""
        behind = ids.file_id(after, param="after") if after else None
        found = services.files.listed(limit=limit + 1, after=behind, newest_first=order == "desc", purpose=purpose)
        return page(found, limit, render_file)

    @router.get("/{file_id}", response_model=answers.File)
    def retrieve(services: Opened, file_id: str) -> dict[str, Any]:
        """Get a file's description."""
        return render_file(services.files.get(ids.file_id(file_id)))

    @router.get("/{file_id}/content", response_class=FileResponse)
    def content(services: Opened, file_id: str) -> FileResponse:
        """Get a file's bytes."""
        file = services.files.get(ids.file_id(file_id))
        return FileResponse(
            services.files.path(file),
            media_type="application/octet-stream",
            filename=file.filename.rsplit("/", 1)[-1],
            headers={"X-Content-Type-Options": "nosniff"},
        )

    @router.delete("/{file_id}", response_model=answers.Deleted)
    def delete(services: Opened, file_id: str) -> dict[str, Any]:
        """Delete a file. Jobs that already use it are not disturbed."""
        services.files.delete(ids.file_id(file_id))
        return {"id": file_id, "object": "file", "deleted": True}

    return router
