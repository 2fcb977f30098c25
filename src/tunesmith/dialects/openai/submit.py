"""From a create request to a job: what its names stand for is looked up, and its token is put away."""

from tunesmith.access.hosts import host_of
from tunesmith.data.validate import DatasetReport
from tunesmith.dialects import Services
from tunesmith.dialects._wire import renamed
from tunesmith.dialects.openai import checkpoints, ids, integrations
from tunesmith.dialects.openai.fields import fields_of
from tunesmith.dialects.openai.translate import Resolved, to_spec, to_submission
from tunesmith.dialects.openai.wire import CreateJob, FromCheckpoint
from tunesmith.spec.errors import DatasetError, InvalidRequestError, TunesmithError
from tunesmith.spec.job import DataSource, ModelSpec, StartSpec
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.jobs import Job


def submit(services: Services, request: CreateJob, *, project: str | None, idempotency_key: str | None) -> Job:
    """Submit a job. If it is refused, nothing of the request stays.

    Raises:
        TunesmithError: the request is refused; `param` is the path as the user typed it.
    """
    wishes = integrations.to_wishes(request.integrations or ())
    secret, used = _put_away(services, request.from_checkpoint), None
    try:
        with services.integrations.kept(wishes) as kept:
            submission = to_submission(request, asked=kept, project=project, idempotency_key=idempotency_key)
            job = services.jobs.submit(to_spec(request, _resolved(services, request, secret)), submission)
        used = job.spec.init_from.secret if job.spec.init_from else None  # another one, if an earlier job is the answer
    except TunesmithError as error:
        raise renamed(error, fields_of(request.model_dump(exclude_unset=True))) from error
    finally:
        if secret is not None and secret != used:
            services.secrets.delete(services.caller.org, secret)
    return job


def _put_away(services: Services, start: FromCheckpoint | None) -> str | None:
    """Keep the token that came with a request, for this server's hub. Returns the secret's id, or none without one."""
    if start is None or start.token is None:
        return None
    param = "from_checkpoint.token"
    try:
        host = host_of(services.hub_url, param=param) if services.hub_url else None
        return services.secrets.put_for_request(services.caller.org, "hub", {"token": start.token}, host)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{param}: {error.message}", param=param, hint=error.hint) from None


def _resolved(services: Services, request: CreateJob, secret: str | None) -> Resolved:
    train, report = _rows(services, request.training_file, "training_file")
    validation = _rows(services, request.validation_file, "validation_file")[0] if request.validation_file else None
    model = ModelSpec(base=request.model, dtype="bfloat16", modality=report.modality)
    start = None
    if checkpoints.is_checkpoint_name(request.model):
        if request.from_checkpoint is not None:
            raise InvalidRequestError(
                "model is a checkpoint already; from_checkpoint would be a second one to begin with.",
                param="from_checkpoint",
                hint="Name the base model in model, or leave from_checkpoint out.",
            )
        job, checkpoint = checkpoints.by_name(services, request.model, param="model")
        model, start = checkpoints.base_below(services, job), _start(checkpoint)
    elif request.from_checkpoint is not None:
        start = _from_checkpoint(services, request.from_checkpoint, secret)
    return Resolved(model=model, start=start, train=train, validation=validation, rows=report.rows)


def _from_checkpoint(services: Services, wanted: FromCheckpoint, secret: str | None) -> StartSpec:
    if wanted.type == "ft":
        return _start(checkpoints.by_ids(services, wanted)[1])
    assert wanted.repo is not None  # its validator saw to that
    return StartSpec(kind="hub", id=wanted.repo, revision=wanted.revision, secret=secret)


def _start(checkpoint: Checkpoint) -> StartSpec:
    return StartSpec(kind="checkpoint", id=checkpoint.id)


def _rows(services: Services, wire_id: str, param: str) -> tuple[DataSource, DatasetReport]:
    file = services.files.get(ids.file_id(wire_id, param=param), param=param)
    if file.report is None:
        raise InvalidRequestError(
            f"{param}: file {wire_id!r} has the purpose {file.purpose!r}; it must be 'fine-tune'.",
            param=param,
            hint="Upload it again with purpose='fine-tune'.",
        )
    if file.report.rows == 0:
        raise DatasetError(f"{param}: file {wire_id!r} has no rows.", param=param)
    return DataSource(kind="file", id=file.id, sha256=file.sha256), file.report
