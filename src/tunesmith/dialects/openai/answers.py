"""Bodies of answers: OpenAI's objects, with Nebius's fields always present. Times are whole seconds since 1970, UTC."""

from typing import Any, Generic, Literal, TypeVar

from tunesmith.spec.frozen import Frozen

Item = TypeVar("Item")


class Page(Frozen, Generic[Item]):
    """A part of a list. `last_id` is `after` of the next page."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ErrorBody(Frozen):
    """OpenAI's description of an error."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    """Path of the field as the user typed it."""

    code: str


class Fault(Frozen):
    """FastAPI's description of a fault, which Nebius's clients read."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorAnswer(Frozen):
    """What is wrong and what to do, in the words of both vendors."""

    error: ErrorBody
    detail: list[Fault]


class JobError(Frozen):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class Job(Frozen):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"]
    model: str
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    validation_file: str | None
    training_file: str
    hyperparameters: dict[str, Any]
    trained_tokens: int | None
    trained_steps: int
    total_steps: int | None
    error: JobError | None
    seed: int
    suffix: str | None
    user_provided_suffix: str | None
    integrations: list[dict[str, Any]]
    method: dict[str, Any] | None
    from_checkpoint: dict[str, Any] | None
    metadata: dict[str, str]
    tags: list[str] | str | None
    notes: list[str]
    """Sentences about requested things that are not honoured or were adjusted."""


class Event(Frozen):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class CheckpointMetrics(Frozen):
    """Figures of a checkpoint's step, as far as they were measured."""

    step: float | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class Checkpoint(Frozen):
    """Weights of a job at a step."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics
    result_files: list[str]


class Permission(Frozen):
    """A project's leave to use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"]
    created_at: int
    project_id: str


class Deleted(Frozen):
    """It is gone."""

    id: str
    object: str
    deleted: Literal[True]


class WebhookEndpoint(Frozen):
    """A receiver that is told of jobs."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: int
    updated_at: int
    event_types: list[str]
    name: str
    signing_secret_hint: str | None
    url: str
    """Scheme and host of the URL."""


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A receiver whose signing secret was just made."""

    signing_secret: str
    """What messages are signed with. It is not shown again."""


class WebhookEndpointTest(Frozen):
    """What a receiver answered to a sample."""

    object: Literal["webhook_endpoint.test"]
    event_type: str
    status_code: int
    success: Literal[True]
    webhook_endpoint_id: str


class EventTypes(Frozen):
    """What receivers can be told of."""

    object: Literal["list"]
    data: list[str]


class File(Frozen):
    """A file's description."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: str | None


class Upload(Frozen):
    """A file that arrives in parts."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None
    """The file that it became."""


class UploadPart(Frozen):
    """A piece of an upload."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class Model(Frozen):
    """A model that can be trained or was produced."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Frozen):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class CustomModel(Frozen):
    """Nebius: an adapter that was brought in as a model."""

    name: str
    base_model: str
    source: str
    description: str | None
    created_at: int
    status: Literal["active", "deleted"]
    status_reason: str | None
    type: Literal["lora"]
    checkpoint_id: str | None
    job_id: str | None
    file_id: str | None
    url: str | None


class UploadedAdapter(Frozen):
    """Nebius: an archive that can be the source of a model."""

    id: str


class CheckedGrader(Frozen):
    """A grader that is well formed, as it was sent."""

    grader: dict[str, Any]


def _refusal(description: str) -> dict[str, Any]:
    return {"model": ErrorAnswer, "description": description}


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refusal("The request cannot be understood or carried out as it stands."),
    401: _refusal("No credential, or none that this server accepts."),
    403: _refusal("The caller's role does not allow this, or the request is addressed to another host."),
    404: _refusal("What the request names is not there."),
    409: _refusal("The request does not fit the present state of what it names."),
    413: _refusal("The body exceeds a limit."),
    415: _refusal("The body has another content type than the route reads."),
    422: _refusal("The request cannot be understood, by Nebius's rules."),
    503: _refusal("The server cannot do this now."),
    507: _refusal("The server's disk is full."),
}
"""Statuses of all routes."""
