"""From our values to answers."""

from collections.abc import Sequence
from typing import Any, TypeVar

from tunesmith.assets import datasets
from tunesmith.assets.models import BaseModel
from tunesmith.dialects import Services
from tunesmith.dialects.native.access_answers import KeyAnswer, MemberAnswer, ProjectAnswer, SecretAnswer
from tunesmith.dialects.native.answers import (
    CheckpointAnswer,
    CheckpointFile,
    DatasetAnswer,
    EventAnswer,
    FileAnswer,
    JobAnswer,
    ModelAnswer,
    Remote,
    SampleAnswer,
    Validation,
)
from tunesmith.dialects.native.translate import without_query
from tunesmith.jobs.admission import Admitted
from tunesmith.spec.errors import FileNotFoundInStoreError
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import JobSpec
from tunesmith.store.api_keys import ApiKey
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.datasets import Dataset
from tunesmith.store.events import Event
from tunesmith.store.files import File
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel
from tunesmith.store.organisations import Member, Project
from tunesmith.store.secrets import Secret

Answer = TypeVar("Answer", bound=Frozen)


def render_job(job: Job, _services: object = None) -> dict[str, Any]:
    """A job as JSON."""
    return to_job(job).model_dump(mode="json")


def to_job(job: Job) -> JobAnswer:
    """A job with its whole spec."""
    return JobAnswer(
        id=job.id,
        state=job.state,
        dialect=job.submission.dialect,
        name=job.submission.name,
        suffix=job.submission.suffix,
        labels=job.submission.labels,
        project=job.project,
        priority=job.priority,
        created_by=job.created_by,
        notes=list(job.submission.notes),
        spec=_shown_spec(job.spec),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        estimated_finish=job.estimated_finish,
        step=job.step,
        total_steps=job.total_steps,
        trained_tokens=job.trained_tokens,
        attempts=job.attempts,
        resumes=list(job.resumes),
        error=job.error,
        model=job.model_id,
        tracking_url=job.tracking_url,
    )


def _shown_spec(spec: JobSpec) -> JobSpec:
    """The spec without the queries of addresses, which a job keeps until it has fetched its rows."""
    rows = {name: getattr(spec.data, name) for name in ("train", "validation")}
    shown = {
        name: source.model_copy(update={"id": without_query(source.id)}) for name, source in rows.items() if source
    }
    return spec.model_copy(update={"data": spec.data.model_copy(update=shown)})


def to_remote(spec: JobSpec) -> list[Remote]:
    """The parts of a spec that lie elsewhere."""
    found = []
    for field, source in (("train", spec.data.train), ("validation", spec.data.validation)):
        if source is not None and source.kind not in ("file", "dataset", "images"):
            address = without_query(source.id)
            found.append(Remote(field=f"spec.data.{field}", address=address, revision=source.revision))
    for number, address in enumerate(spec.data.images.sources if spec.data.images else ()):
        if "://" in address:  # else it is an uploaded file
            shown = without_query(address)
            found.append(Remote(field=f"spec.data.images.sources.{number}", address=shown, revision=None))
    if spec.model.source == "hub":
        found.append(Remote(field="spec.model.base", address=spec.model.base, revision=spec.model.revision))
    if spec.init_from is not None and spec.init_from.kind == "hub":
        found.append(Remote(field="spec.init_from.id", address=spec.init_from.id, revision=spec.init_from.revision))
    return found


def to_validation(admitted: Admitted, notes: Sequence[str]) -> Validation:
    """A request that would be accepted, with `notes` on what of it has no effect."""
    return Validation(
        spec=admitted.spec,
        notes=[*notes, *admitted.notes],
        complete=admitted.is_complete,
        remote=to_remote(admitted.spec),
    )


def to_event(event: Event) -> EventAnswer:
    """An event."""
    return _shown(EventAnswer, event)


def to_sample(event: Event) -> SampleAnswer:
    """What the event `sampled` tells."""
    return SampleAnswer(id=event.id, attempt=event.attempt, at=event.at, **event.data)


def to_checkpoint(checkpoint: Checkpoint, services: Services, *, best: Checkpoint | None) -> CheckpointAnswer:
    """A checkpoint with its files; `best` is the best of the job's."""
    files = [_shown(CheckpointFile, file) for file in checkpoint_files(checkpoint, services)]
    return _shown(CheckpointAnswer, checkpoint, files=files, is_best=checkpoint == best)


def checkpoint_files(checkpoint: Checkpoint, services: Services) -> list[File]:
    """A checkpoint's files, without those that were deleted."""
    found = []
    for id in checkpoint.files:
        try:
            found.append(services.files.get(id))
        except FileNotFoundInStoreError:
            continue
    return found


def to_file(file: File) -> FileAnswer:
    """A file."""
    return _shown(FileAnswer, file)


def to_dataset(dataset: Dataset) -> DatasetAnswer:
    """A registered dataset."""
    report = dataset.report
    return _shown(
        DatasetAnswer,
        dataset,
        reference=datasets.reference(dataset),
        format=report.format,
        rows=report.rows,
        unusable_rows=report.problem_count,
        problems=list(report.problems),
    )


def to_base_model(model: BaseModel) -> ModelAnswer:
    """A model to start from."""
    return ModelAnswer(
        id=model.name,
        kind="base",
        path=str(model.path),
        base=None,
        job=None,
        name=None,
        version=None,
        created_at=None,
    )


def to_produced_model(model: ProducedModel) -> ModelAnswer:
    """A model that a job produced."""
    return _shown(ModelAnswer, model, job=model.job_id)


def to_secret(secret: Secret) -> SecretAnswer:
    """Stored credentials without their values."""
    return _shown(SecretAnswer, secret)


def to_member(member: Member) -> MemberAnswer:
    """A listed user."""
    return _shown(MemberAnswer, member)


def to_project(project: Project) -> ProjectAnswer:
    """A project."""
    return _shown(ProjectAnswer, project)


def to_key(key: ApiKey) -> KeyAnswer:
    """An API key without the key."""
    return _shown(KeyAnswer, key)


def _shown(kind: type[Answer], record: Frozen, **more: Any) -> Answer:
    """The fields of a record that an answer has, and some more."""
    values = {name: getattr(record, name) for name in kind.model_fields if hasattr(record, name)}
    return kind.model_validate(values | more)
