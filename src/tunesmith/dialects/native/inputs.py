"""What a request names, looked up among the caller's own things."""

from tunesmith.assets.datasets import reference
from tunesmith.dialects import Services
from tunesmith.dialects.native.effects import refuse_contradictions
from tunesmith.dialects.native.translate import filled, kind_of
from tunesmith.dialects.native.wire import SourceRequest, SpecRequest
from tunesmith.spec.errors import CheckpointNotFoundError, InvalidRequestError, JobNotFoundError
from tunesmith.spec.job import DataSource, JobSpec, StartSpec

_BEST = "best"


def to_spec(services: Services, request: SpecRequest) -> JobSpec:
    """The canonical description of a request.

    Raises:
        TunesmithError: parts of the request rule each other out, or a file, dataset or secret is not there; `param` is
            the path in the request.
    """
    refuse_contradictions(request)
    if request.init_from is not None:
        request = request.model_copy(update={"init_from": _start(services, request.init_from)})
    data = request.data
    return filled(
        request,
        train=_source(services, data.train, "spec.data.train"),
        validation=_source(services, data.validation, "spec.data.validation") if data.validation else None,
        secrets=_secrets(services, request),
    )


def _start(services: Services, start: StartSpec) -> StartSpec:
    """The start with the id of the best checkpoint, where `JOB@best` asks for that."""
    job_id, _, wish = start.id.rpartition("@")
    if start.kind != "checkpoint" or wish != _BEST:
        return start
    try:
        best = services.jobs.best_checkpoint(job_id)
    except JobNotFoundError as error:
        raise JobNotFoundError(error.message, param="spec.init_from.id") from error
    if best is None:
        raise CheckpointNotFoundError(
            f"The job {job_id!r} has no checkpoint that was evaluated, so none is its best.",
            param="spec.init_from.id",
            hint="Name one of its checkpoints by its id.",
        )
    return start.model_copy(update={"id": best.id})


def _source(services: Services, source: SourceRequest, param: str) -> DataSource:
    kind = kind_of(source)
    if kind == "file":
        file = services.files.get(source.file or source.id or "", param=param)
        _require_digest(source, file.sha256, param)
        return DataSource(kind=kind, id=file.id, sha256=file.sha256)
    if kind == "dataset":
        dataset = services.datasets.get(source.dataset or source.id or "", param=param)
        _require_digest(source, dataset.sha256, param)
        return DataSource(kind=kind, id=reference(dataset), sha256=dataset.sha256)
    address = source.address or source.id or ""
    secret = _secret(services, source.secret, f"{param}.secret") if source.secret else None
    # A digest would name the content to the store, whoever's it is; it is known only after the fetching.
    revision = source.revision if kind == "hub" else None
    return DataSource(kind=kind, id=address, sha256=None, region=source.region, revision=revision, secret=secret)


def _secrets(services: Services, request: SpecRequest) -> dict[str, str]:
    named = {"spec.model.secret": request.model.secret}
    if request.init_from is not None:
        named["spec.init_from.secret"] = request.init_from.secret
    return {name: _secret(services, name, param) for param, name in named.items() if name is not None}


def _secret(services: Services, name: str, param: str) -> str:
    return services.secrets.find(services.caller.org, name, param=param).id


def _require_digest(source: SourceRequest, sha256: str, param: str) -> None:
    if source.sha256 not in (None, sha256):
        raise InvalidRequestError(
            f"{param}.sha256 is {source.sha256!r}, and the content has {sha256!r}.", param=f"{param}.sha256"
        )
