"""What a form names: where its rows are, and which stored credentials belong to them."""

from pathlib import PurePosixPath

from tunesmith.assets.datasets import reference
from tunesmith.data.validate import DatasetReport
from tunesmith.dialects import Services
from tunesmith.dialects.simplismart.ids import file_id
from tunesmith.dialects.simplismart.wire import CreateJob, DatasetDetails, ModelDetails
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import DataSource
from tunesmith.store.secrets import Purpose

_PATH = "dataset_details.dataset_path"
_TYPE = "dataset_details.dataset_type"


def find_rows(services: Services, request: CreateJob) -> DataSource:
    """Where the rows are.

    Raises:
        InvalidRequestError: what the source needs is missing, or the kind of file is not the declared one.
        NotFoundError: there is no such dataset, file or secret.
    """
    details = request.dataset_details
    if details.source_type == "local":
        return _local(services, details)
    _require_type(details, PurePosixPath(details.dataset_path).suffix.removeprefix(".").lower() or None)
    kind: Purpose = "hub" if details.source_type == "hf" else details.source_type
    _require_credentials(details)
    secret = _secret(services, details.secret_id, kind, param="dataset_details.secret_id")
    region = details.region if kind == "s3" else None
    return DataSource(kind=kind, id=details.dataset_path, sha256=None, region=region, secret=secret)


def find_hub_token(services: Services, details: ModelDetails) -> str | None:
    """Id of the token that a private base model is fetched with.

    Raises:
        InvalidRequestError: none is named, or it is a secret for something else.
        SecretNotFoundError: there is no such secret.
    """
    param = "model_details.secret_id"
    if details.ownership == "private" and details.source_type == "hf" and details.secret_id is None:
        raise InvalidRequestError(
            f"{param} is required where ownership is 'private'.",
            param=param,
            hint="Store the hub's token with POST /secret, purpose 'hub', and name it here.",
        )
    return _secret(services, details.secret_id, "hub", param=param)


def has_model(services: Services, details: ModelDetails) -> bool:
    """Whether this server itself has a base model, or one that a job produced, of the asked name."""
    return services.base_models.has(details.base_model) or services.produced_models.find(details.base_model) is not None


def _local(services: Services, details: DatasetDetails) -> DataSource:
    uploaded = file_id(details.dataset_path)
    if uploaded is not None:
        file = services.files.get(uploaded, param=_PATH)
        if file.report is None:
            raise InvalidRequestError(
                f"{_PATH}: file {details.dataset_path!r} has the purpose {file.purpose!r}, not 'fine-tune'.",
                param=_PATH,
                hint="Upload it again with that purpose.",
            )
        _require_type(details, _container(file.report))
        return DataSource(kind="file", id=file.id, sha256=file.sha256)
    dataset = services.datasets.get(details.dataset_path, param=_PATH)
    _require_type(details, _container(dataset.report))
    return DataSource(kind="dataset", id=reference(dataset), sha256=dataset.sha256)


def _container(report: DatasetReport) -> str:
    return report.container.partition(" ")[0]  # such as `csv in zip`


def _require_type(details: DatasetDetails, found: str | None) -> None:
    """See that a file is of the declared kind, as far as its content or its name tells."""
    if details.dataset_type is None or found not in ("jsonl", "json", "csv", "parquet"):
        return
    if details.dataset_type != found:
        raise InvalidRequestError(
            f"{_TYPE} is {details.dataset_type!r}, and {details.dataset_path!r} is {found}.",
            param=_TYPE,
            hint="Correct it or leave it out: the content tells.",
        )


def _require_credentials(details: DatasetDetails) -> None:
    if details.ownership == "public":
        return
    needed = ("secret_id", "region") if details.source_type == "s3" else ("secret_id",)
    for name in needed:
        if getattr(details, name) is None:
            raise InvalidRequestError(
                f"dataset_details.{name} is required where ownership is 'private' and source_type "
                f"{details.source_type!r}.",
                param=f"dataset_details.{name}",
                hint="Store credentials with POST /secret and name them by id or name."
                if name == "secret_id"
                else None,
            )


def _secret(services: Services, named: str | None, purpose: Purpose, *, param: str) -> str | None:
    if named is None:
        return None
    secret = services.secrets.find(services.caller.org, named, param=param)
    if secret.purpose != purpose:
        raise InvalidRequestError(
            f"{param}: this secret is for {secret.purpose!r}; here one for {purpose!r} is needed.", param=param
        )
    return secret.id
