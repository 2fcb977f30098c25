"""Exports of produced models: asked for, followed, downloaded."""

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import ConfigDict, Field

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import Deleted, ExportAnswer, Listing
from tunesmith.dialects.native.archive import zipped
from tunesmith.dialects.native.artifacts import ARCHIVE, DOWNLOAD, NOSNIFF, sent
from tunesmith.spec.errors import ConflictError, NotFoundError
from tunesmith.spec.export import Format, Number, Quantization
from tunesmith.spec.frozen import Frozen
from tunesmith.store.exports import Export


class ExportRequest(Frozen):
    """Body of `POST /models/{model_id}/exports`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Format
    """`merged`: safetensors with the adapter worked in. `gguf`: one file for llama.cpp."""

    dtype: Annotated[
        Number | None, Field(description="Of merged weights; without it that of the training. Not for `gguf`.")
    ] = None
    quantization: Annotated[
        Quantization | None, Field(description="Of a GGUF file; `f16` without it. Not for `merged`.")
    ] = None


def routes() -> APIRouter:
    """The endpoints of exports."""
    router = APIRouter(prefix="/models/{model_id:path}/exports", tags=["exports"], route_class=StrictRoute)

    @router.post("", summary="Export a model")
    def create(services: Opened, model_id: str, body: ExportRequest) -> ExportAnswer:
        """Make another form of a model. It is `ready` once it was read again and answers as the trained model does."""
        return to_export(
            services.exports.create(model_id, body.format, dtype=body.dtype, quantization=body.quantization)
        )

    @router.get("", summary="List exports")
    def list_exports(services: Opened, model_id: str) -> Listing[ExportAnswer]:
        """A model's exports, newest first."""
        return Listing(data=[to_export(export) for export in services.exports.listed(model_id)])

    @router.get("/{export_id}", summary="Get an export")
    def retrieve(services: Opened, model_id: str, export_id: str) -> ExportAnswer:
        """One export and how far it is."""
        return to_export(services.exports.get(model_id, export_id))

    @router.delete("/{export_id}", summary="Delete an export")
    def delete(services: Opened, model_id: str, export_id: str) -> Deleted:
        """Delete an export and its files. One that waits or is being made is broken off."""
        services.exports.delete(model_id, export_id)
        return Deleted(id=export_id)

    @router.get(
        "/{export_id}/files/{name:path}", summary="Download a file", response_class=FileResponse, responses=DOWNLOAD
    )
    def download(services: Opened, model_id: str, export_id: str, name: str) -> FileResponse:
        """One of the export's files. The header `Range` asks for a part of it."""
        export = _ready(services, model_id, export_id)
        if name not in [file.name for file in export.files]:
            raise NotFoundError(f"The export has no file {name!r}.", param="name", hint="The export lists them.")
        return sent(services.exports.path(export) / name, name)

    @router.get(
        "/{export_id}/archive", summary="Download all files", response_class=StreamingResponse, responses=ARCHIVE
    )
    def archive(services: Opened, model_id: str, export_id: str) -> StreamingResponse:
        """All files of an export as one ZIP archive without compression, made while it is sent."""
        export = _ready(services, model_id, export_id)
        folder = services.exports.path(export)
        return StreamingResponse(
            zipped([(file.name, folder / file.name) for file in export.files]),
            media_type="application/zip",
            headers={**NOSNIFF, "Content-Disposition": f'attachment; filename="{export_id}.zip"'},
        )

    return router


def to_export(export: Export) -> ExportAnswer:
    """An export as the API tells it."""
    assert export.state != "removed"
    return ExportAnswer(
        id=export.id,
        model=export.model_id,
        format=export.options.format,
        dtype=export.options.dtype,
        quantization=export.options.quantization,
        state=export.state,
        progress=export.progress,
        bytes=sum(file.bytes for file in export.files),
        files=list(export.files),
        verification=export.verification,
        error=export.error,
        created_at=export.created_at,
        finished_at=export.finished_at,
    )


def _ready(services: Services, model_id: str, export_id: str) -> Export:
    export = services.exports.get(model_id, export_id)
    if export.state != "ready":
        raise ConflictError(
            f"The export is {export.state}; it has files once it is ready.", param="export_id", hint="Look at it again."
        )
    return export
