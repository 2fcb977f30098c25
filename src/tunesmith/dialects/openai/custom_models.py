"""Nebius's `/v0/models`: adapters that are brought in as models."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import BaseModel, ConfigDict, StringConstraints

from tunesmith.assets.adapters import MAX_ADAPTER_BYTES
from tunesmith.assets.custom_models import CustomModel, Wanted
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._forms import FilePart, FormRoute, Upload
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers, checkpoints, ids
from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.scope import Project
from tunesmith.spec.errors import (
    AdapterError,
    InvalidRequestError,
    ModelNotFoundError,
    TooLargeError,
    TunesmithError,
)
from tunesmith.store.files import File

ADAPTER_PURPOSE = "adapter"
"""Purpose of an uploaded archive, as the list of files shows it."""


class CreateModel(Wire):
    """Body of `POST /v0/models`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    base_model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """`ftjob-…:ftckpt_…`, `file-…`, or `owner/name` on the hub, also as an address."""

    description: Annotated[str, StringConstraints(max_length=4096)] | None = None


class UploadAdapter(BaseModel):
    """The form of `POST /v0/models/upload`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    file: FilePart
    """A ZIP archive."""


def routes(mount: Mount) -> APIRouter:
    """The endpoints of custom models."""
    prefix = f"{mount.prefix}/v0/models"
    router = APIRouter(tags=["custom models"])
    forms = APIRouter(prefix=prefix, route_class=FormRoute)
    strict = APIRouter(prefix=prefix, route_class=StrictRoute)

    @strict.post("", response_model=answers.CustomModel)
    def create(services: Opened, body: CreateModel, _project: Project) -> dict[str, Any]:
        """Bring an adapter in as a model. The answer comes when it is there and was checked."""
        return _render(_bring_in(services, body), services)

    @strict.get("", response_model=list[answers.CustomModel])
    def list_models(services: Opened, _project: Project) -> list[dict[str, Any]]:
        """List the models that were brought in, newest first."""
        return [_render(each, services) for each in services.custom_models.listed()]

    @forms.post("/upload", response_model=answers.UploadedAdapter)
    def upload(
        services: Opened, form: Annotated[UploadAdapter, Form(media_type="multipart/form-data")]
    ) -> dict[str, Any]:
        """Upload a ZIP archive with an adapter, to be the `source` of a model."""
        return {"id": f"file-{_keep(services, form.file).id}"}

    @strict.get("/{name:path}", response_model=answers.CustomModel)
    def retrieve(services: Opened, name: str) -> dict[str, Any]:
        """Get a model by its short name or its whole name."""
        return _render(services.custom_models.get(name), services)

    @strict.delete("/{name:path}", response_model=answers.CustomModel)
    def delete(services: Opened, name: str) -> dict[str, Any]:
        """Delete a model and its weights."""
        custom = services.custom_models.get(name)
        services.produced_models.delete(custom.model.id)
        return {**_render(custom, services), "status": "deleted"}

    router.include_router(forms)
    router.include_router(strict)
    return router


def _bring_in(services: Services, body: CreateModel) -> CustomModel:
    wanted = Wanted(name=body.name, base=body.base_model, base_revision=None, description=body.description)
    try:
        if body.source.startswith("ftjob-"):
            return _from_checkpoint(services, wanted, body.source)
        _require_base(services, body.base_model)
        if body.source.startswith("file-"):
            file = services.files.get(ids.file_id(body.source, param="source"), param="source")
            return services.custom_models.from_file(wanted, file)
        return services.custom_models.from_hub(wanted, _repository(services, body.source))
    except TunesmithError as error:
        if error.param is None:
            error.param = "source"
        raise


def _from_checkpoint(services: Services, wanted: Wanted, source: str) -> CustomModel:
    job, checkpoint = checkpoints.by_pair(services, source, param="source")
    below = checkpoints.base_below(services, job)
    if wanted.base != below.base:
        raise InvalidRequestError(
            f"base_model is {wanted.base!r}, but the checkpoint belongs on {below.base!r}.", param="base_model"
        )
    wanted = wanted.model_copy(update={"base_revision": below.revision})
    return services.custom_models.from_checkpoint(wanted, checkpoint)


def _require_base(services: Services, name: str) -> None:
    produced = services.produced_models.find(name)
    if (produced is None or produced.kind != "full") and not services.base_models.has(name):
        raise ModelNotFoundError(
            f"No base model of this server is called {name!r}.", param="base_model", hint="List the models."
        )


def _repository(services: Services, source: str) -> str:
    """`owner/name`, also where it was named by its address."""
    for address in (services.hub_url, "https://huggingface.co"):
        if address and source.startswith(f"{address.rstrip('/')}/"):
            source = source[len(address.rstrip("/")) + 1 :]
    return source.rstrip("/")


def _keep(services: Services, archive: Upload) -> File:
    if archive.content.bytes > MAX_ADAPTER_BYTES:
        raise TooLargeError(f"The archive has more than {MAX_ADAPTER_BYTES:,} bytes.", param="file")
    try:
        services.custom_models.check_archive(archive.content.path)
    except AdapterError as error:
        error.param = "file"
        raise
    return services.files.add(archive.content, filename=archive.filename, purpose=ADAPTER_PURPOSE)


def _render(custom: CustomModel, services: Services) -> dict[str, Any]:
    model, origin = custom.model, custom.origin
    first, _, last = origin.source_id.partition(":")
    job_id, checkpoint_id, file_id, url = None, None, None, None
    match origin.source:
        case "checkpoint":
            job_id, checkpoint_id = f"ftjob-{first}", ids.render_checkpoint_id(last)
            source = f"{job_id}:{checkpoint_id}"
        case "file":
            source = file_id = f"file-{origin.source_id}"
        case "hub":
            source = origin.source_id
            url = f"{services.hub_url}/{source.partition('@')[0]}"
    return {
        "name": model.id,
        "base_model": model.base,
        "source": source,
        "description": model.description,
        "created_at": int(model.created_at),
        "status": "active",
        "status_reason": None,
        "type": "lora",
        "checkpoint_id": checkpoint_id,
        "job_id": job_id,
        "file_id": file_id,
        "url": url,
    }
