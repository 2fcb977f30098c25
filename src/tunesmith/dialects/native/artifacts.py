"""The files that a job left: a list, each of them, and most of them as one archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse, StreamingResponse

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import NOT_ONLY_JSON, ArtifactAnswer, Listing
from tunesmith.dialects.native.archive import zipped
from tunesmith.dialects.native.render import checkpoint_files
from tunesmith.rundir import model_files
from tunesmith.spec.errors import FileNotFoundInStoreError, NotFoundError
from tunesmith.store.files import File
from tunesmith.store.jobs import Job

NOSNIFF = {"X-Content-Type-Options": "nosniff"}
"""A browser must never run what somebody uploaded."""

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_WORDS = {"text/plain": {"schema": {"type": "string"}}}

DOWNLOAD: dict[int | str, dict[str, Any]] = {
    **NOT_ONLY_JSON,
    200: {"description": "The whole file.", "content": _BYTES},
    206: {"description": "The bytes that the header `Range` asks for.", "content": _BYTES},
    400: {"description": "The header `Range` is malformed.", "content": _WORDS},
    416: {"description": "The file has no such bytes.", "content": _WORDS},
}
"""Answers of a route that sends a file."""

ARCHIVE: dict[int | str, dict[str, Any]] = {
    **NOT_ONLY_JSON,
    200: {"description": "A ZIP archive.", "content": {"application/zip": _BYTES["application/octet-stream"]}},
}
"""Answers of a route that sends an archive."""


@dataclass(frozen=True)
class _Artifact:
    """A file under its name."""

    name: str
    kind: Literal["model", "checkpoint", "metrics", "log"]
    path: Path
    sha256: str | None

    def answer(self) -> ArtifactAnswer:
        return ArtifactAnswer(name=self.name, kind=self.kind, bytes=self.path.stat().st_size, sha256=self.sha256)


def routes() -> APIRouter:
    """The endpoints of artifacts."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["artifacts"], route_class=StrictRoute)

    @router.get("/artifacts", summary="List artifacts")
    def list_artifacts(services: Opened, job_id: str) -> Listing[ArtifactAnswer]:
        """The files that a job left so far: the model, the checkpoints, the table of metrics and the logs."""
        return Listing(data=[artifact.answer() for artifact in _artifacts(services, job_id)])

    @router.get(
        "/artifacts/{name:path}",
        summary="Download an artifact",
        response_class=FileResponse,
        responses=DOWNLOAD,
    )
    def download(services: Opened, job_id: str, name: str) -> FileResponse:
        """One of the listed files. The header `Range` asks for a part of it."""
        for artifact in _artifacts(services, job_id):
            if artifact.name == name:
                return sent(artifact.path, name.rsplit("/", 1)[-1])
        raise NotFoundError(f"The job has no artifact {name!r}.", param="name", hint="List its artifacts.")

    @router.get("/archive", summary="Download all", response_class=StreamingResponse, responses=ARCHIVE)
    def archive(services: Opened, job_id: str) -> StreamingResponse:
        """The model, the table of metrics and the logs as one ZIP archive without compression; checkpoints are left
        out. It is made while it is sent, so its length is not known before."""
        found = [each for each in _artifacts(services, job_id) if each.kind != "checkpoint"]
        if not found:
            raise NotFoundError("The job has left no files yet.", hint="Wait until its worker has started.")
        return StreamingResponse(
            zipped([(artifact.name, artifact.path) for artifact in found]),
            media_type="application/zip",
            headers={**NOSNIFF, "Content-Disposition": f'attachment; filename="{job_id}.zip"'},
        )

    return router


def sent(path: Path, filename: str) -> FileResponse:
    """A file as a download under a name."""
    return FileResponse(path, media_type="application/octet-stream", filename=filename, headers=NOSNIFF)


def _artifacts(services: Services, job_id: str) -> list[_Artifact]:
    """Those whose content is there."""
    job = services.jobs.get(job_id)
    parts = (_of_model(services, job), _of_checkpoints(services, job), _of_metrics(services, job), _logs(services, job))
    return [artifact for part in parts for artifact in part if artifact.path.is_file()]


def _of_model(services: Services, job: Job) -> Iterator[_Artifact]:
    model = services.produced_models.find(job.model_id) if job.model_id else None
    if model is not None:
        folder = Path(model.path)
        for name, sha256 in sorted(model_files(folder).items()):
            yield _Artifact(f"model/{name}", "model", folder / name, sha256)


def _of_checkpoints(services: Services, job: Job) -> Iterator[_Artifact]:
    for checkpoint in services.jobs.checkpoints(job.id):
        for file in checkpoint_files(checkpoint, services):
            yield _stored(services, file, f"checkpoints/{file.filename}", "checkpoint")


def _of_metrics(services: Services, job: Job) -> Iterator[_Artifact]:
    if job.result_file_id is None:
        return
    try:
        file = services.files.get(job.result_file_id)
    except FileNotFoundInStoreError:
        return  # deleted by its owner
    yield _stored(services, file, "metrics.csv", "metrics")


def _logs(services: Services, job: Job) -> Iterator[_Artifact]:
    for path in services.jobs.logs(job.id):
        yield _Artifact(f"logs/attempt-{path.parent.name}.log", "log", path, None)


def _stored(services: Services, file: File, name: str, kind: Literal["checkpoint", "metrics"]) -> _Artifact:
    return _Artifact(name, kind, services.files.path(file), file.sha256)
