"""From a request to a spec. Pure: the rows and secrets that it names are handed in."""

from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.dialects.native.wire import JobRequest, SourceKind, SourceRequest, SpecRequest
from tunesmith.integrations import Wish
from tunesmith.integrations._door import notes_on
from tunesmith.spec.job import MAX_EPOCHS, DataSource, IntegrationSpec, JobSpec, Submission

FULL_LEARNING_RATE = 1e-5
"""Where all weights are tuned and no rate is given."""

_SCHEMES: dict[str, SourceKind] = {"s3://": "s3", "gs://": "gcs", "https://": "http", "http://": "http"}


def filled(
    request: SpecRequest, *, train: DataSource, validation: DataSource | None, secrets: Mapping[str, str]
) -> JobSpec:
    """The canonical description, every value of it filled in.

    Args:
        request: as it came over the wire.
        train: the rows that `data.train` names.
        validation: the rows that `data.validation` names.
        secrets: ids of the secrets that `model.secret` and `init_from.secret` name, by id or name.
    """
    values = request.model_dump()
    values["data"] |= {"train": train, "validation": validation}
    for part in (values["model"], values["init_from"]):
        if part and part["secret"] is not None:
            part["secret"] = secrets[part["secret"]]
    optimization, given = values["optimization"], request.optimization.model_fields_set
    if request.adapter is None and "learning_rate" not in given:
        optimization["learning_rate"] = FULL_LEARNING_RATE
    if request.model.modality == "image" and "over_long" not in request.data.model_fields_set:
        values["data"]["over_long"] = "truncate"
    if request.optimization.max_steps is not None and "epochs" not in given:
        optimization["epochs"] = MAX_EPOCHS
    return JobSpec.model_validate(values)


def kind_of(source: SourceRequest) -> SourceKind:
    """What a request's rows are, told by its words or by the address."""
    if source.kind is not None:
        return source.kind
    if source.address is not None:
        return _kind_of_address(source.address)
    return "file" if source.file is not None else "dataset"


def to_wishes(request: JobRequest) -> list[Wish]:
    """The integrations that a request asks for."""
    asked = request.integrations
    wishes = {"mlflow": asked.mlflow, "wandb": asked.wandb, "hub": asked.hub} if asked is not None else {}
    return [
        Wish(kind, wish.model_dump(mode="json", exclude={"secret"}), f"integrations.{kind}", secret=wish.secret)
        for kind, wish in wishes.items()
        if wish is not None
    ]


def to_submission(
    request: JobRequest,
    *,
    notes: Iterable[str],
    idempotency_key: str | None,
    integrations: tuple[IntegrationSpec, ...] = (),
) -> Submission:
    """What travels beside the spec. `notes` tell what has no effect; `integrations` are those of the request as they
    are kept."""
    return Submission(
        dialect="native",
        request=_kept(request),
        name=request.name,
        suffix=request.suffix,
        labels=request.labels,
        project=request.project,
        priority=request.priority,
        when_busy=request.when_busy,
        idempotency_key=idempotency_key,
        integrations=integrations,
        notes=(*notes, *notes_on(integrations)),
    )


def without_query(address: str) -> str:
    """An address without its query, where a signature may stand."""
    return address.partition("?")[0] if _kind_of_address(address) == "http" else address


def _kind_of_address(address: str) -> SourceKind:
    return next((kind for scheme, kind in _SCHEMES.items() if address.lower().startswith(scheme)), "hub")


def _kept(request: JobRequest) -> dict[str, Any]:
    """The request as it may be stored."""
    kept = request.model_dump(mode="json", exclude_unset=True)
    data = kept["spec"]["data"]
    for source in (data["train"], data.get("validation")):
        for name in ("address", "id"):
            if source and source.get(name):
                source[name] = without_query(source[name])
    if data.get("images"):
        data["images"]["sources"] = [without_query(address) for address in data["images"]["sources"]]
    return kept
