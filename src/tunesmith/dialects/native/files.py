"""Uploaded and produced files."""

from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import FileResponse
from pydantic import Field

from tunesmith.assets.files import TRAINING_PURPOSE
from tunesmith.dialects import Opened
from tunesmith.dialects._forms import JSON_PART, FilePart, FormRoute
from tunesmith.dialects._wire import Wire
from tunesmith.dialects.native.answers import Deleted, FileAnswer, Page
from tunesmith.dialects.native.artifacts import DOWNLOAD, sent
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.render import to_file
from tunesmith.spec.reading import Reading


class FileForm(Wire):
    """The form of `POST /files`."""

    file: FilePart
    """The content, with a filename."""

    reading: Annotated[Reading, JSON_PART] = Field(default_factory=Reading)
    """How its rows are to be understood, as JSON."""


def routes() -> APIRouter:
    """The endpoints of files."""
    router = APIRouter(prefix="/files", tags=["files"], route_class=FormRoute)

    @router.post("", summary="Upload a file")
    def upload(services: Opened, form: Annotated[FileForm, Form(media_type="multipart/form-data")]) -> FileAnswer:
        """Keep a file of rows to train on. It is written to disk as it comes in, then read through once."""
        content, filename = form.file.content, form.file.filename
        return to_file(services.files.add(content, filename=filename, purpose=TRAINING_PURPOSE, reading=form.reading))

    @router.get("", summary="List files")
    def list_files(
        services: Opened,
        limit: Limit = 100,
        after: After = None,
        purpose: Annotated[str | None, Query(max_length=32, description="Only files of this purpose.")] = None,
    ) -> Page[FileAnswer]:
        """Uploaded files (purpose `fine-tune`) and those that jobs produced (`fine-tune-results`), newest first."""
        return page(services.files.listed(limit=limit + 1, after=after, purpose=purpose), limit, to_file)

    @router.get("/{file_id}", summary="Get a file")
    def retrieve(services: Opened, file_id: str) -> FileAnswer:
        """What is known of a file."""
        return to_file(services.files.get(file_id))

    @router.get("/{file_id}/content", summary="Download a file", response_class=FileResponse, responses=DOWNLOAD)
    def content(services: Opened, file_id: str) -> FileResponse:
        """A file's bytes. The header `Range` asks for a part of them."""
        file = services.files.get(file_id)
        return sent(services.files.path(file), file.filename.rsplit("/", 1)[-1])

    @router.delete("/{file_id}", summary="Delete a file")
    def delete(services: Opened, file_id: str) -> Deleted:
        """Hide a file. Jobs that already use it are not disturbed."""
        services.files.delete(file_id)
        return Deleted(id=file_id)

    return router
