"""Registered datasets: names with versions that never change."""

from typing import Annotated

from fastapi import APIRouter, Form
from pydantic import Field

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._forms import JSON_PART, FilePart, FormRoute
from tunesmith.dialects._wire import Wire
from tunesmith.dialects.native.answers import DatasetAnswer, Deleted, Listing
from tunesmith.dialects.native.render import to_dataset
from tunesmith.dialects.native.wire import Name, Text
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.reading import Reading
from tunesmith.storage import BlobWriter
from tunesmith.store.datasets import Dataset
from tunesmith.store.files import File

_PIECE = 1024 * 1024


class DatasetForm(Wire):
    """The form of `POST /datasets`: rows as `file`, or as `file_id`."""

    name: Name
    """What jobs call it."""

    file: FilePart | None = None
    """The content, with a filename."""

    file_id: Text | None = None
    """Id of a file that was uploaded before."""

    reading: Annotated[Reading, JSON_PART] = Field(default_factory=Reading)
    """How its rows are to be understood, as JSON."""


def routes() -> APIRouter:
    """The endpoints of datasets."""
    router = APIRouter(prefix="/datasets", tags=["datasets"], route_class=FormRoute)

    @router.post("", summary="Register a dataset")
    def add(services: Opened, form: Annotated[DatasetForm, Form(media_type="multipart/form-data")]) -> DatasetAnswer:
        """Register rows as the next version of a name: an upload, or a file that is here already. The newest version's
        content again is no new version."""
        return to_dataset(_register(services, form))

    @router.get("", summary="List datasets")
    def list_datasets(services: Opened) -> Listing[DatasetAnswer]:
        """All versions of all datasets by name, the newest version of each first."""
        return Listing(data=[to_dataset(dataset) for dataset in services.datasets.listed()])

    @router.get("/{reference:path}", summary="Get a dataset")
    def retrieve(services: Opened, reference: str) -> DatasetAnswer:
        """A version with its report: `name@version`, or `name` for the newest one."""
        return to_dataset(services.datasets.get(reference))

    @router.delete("/{reference:path}", summary="Delete a version of a dataset")
    def delete(services: Opened, reference: str) -> Deleted:
        """Hide `name@version`, or with `name` the newest version. Jobs that already use it are not disturbed."""
        services.datasets.delete(reference)
        return Deleted(id=reference)

    return router


def _register(services: Services, form: DatasetForm) -> Dataset:
    if (form.file is None) == (form.file_id is None):
        raise InvalidRequestError(
            "Either file or file_id is required: a part with a filename, or the id of an uploaded file.", param="file"
        )
    if form.file is not None:
        return services.datasets.add(form.name, form.file.content, filename=form.file.filename, reading=form.reading)
    file = services.files.get(form.file_id or "", param="file_id")
    content = _copy(services, file)
    try:
        filename = file.filename.rsplit("/", 1)[-1]
        return services.datasets.add(form.name, content, filename=filename, reading=form.reading)
    finally:
        content.discard()


def _copy(services: Services, file: File) -> BlobWriter:
    writer = services.storage.writer()
    try:
        with services.files.path(file).open("rb") as content:
            while piece := content.read(_PIECE):
                writer.write(piece)
        writer.finish()
    except BaseException:
        writer.discard()
        raise
    return writer
