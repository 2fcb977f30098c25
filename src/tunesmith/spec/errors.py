"""Every error that a user can meet, with its stable code.

A message says what is wrong, the value, what is allowed and what to do. `param` is the path of the field as the user
typed it. Codes are part of the API: they are never renamed, and `docs/errors.md` lists them all.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class ErrorInfo(BaseModel):
    """An error as plain data: what a worker reports, what the store keeps and what a dialect renders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    message: str
    param: str | None = None
    hint: str | None = None

    def sentence(self) -> str:
        """The message with its hint, as one text for dialects that have no field for hints."""
        return f"{self.message} {self.hint}" if self.hint else self.message


class TunesmithError(Exception):
    """Root of all expected errors."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.param, self.hint))

    @property
    def info(self) -> ErrorInfo:
        """The error as plain data."""
        return ErrorInfo(code=self.code, message=self.message, param=self.param, hint=self.hint)


def _rebuild(kind: type[TunesmithError], message: str, param: str | None, hint: str | None) -> TunesmithError:
    return kind(message, param=param, hint=hint)


# --- the request -----------------------------------------------------------------------------------------------------


class InvalidRequestError(TunesmithError):
    """The request cannot be understood: its body, a field's type, range or name."""

    code = "invalid_request"


class UnsupportedError(TunesmithError):
    """The request is well formed, and asks for something that this version cannot do."""

    code = "unsupported"


class UnsupportedMediaTypeError(TunesmithError):
    """The body has a content type that this route does not read."""

    code = "unsupported_media_type"


class TooLargeError(TunesmithError):
    """The body or file exceeds a limit."""

    code = "too_large"


class ForbiddenError(TunesmithError):
    """The request is addressed to another host than this server."""

    code = "forbidden"


class RoleError(ForbiddenError):
    """The caller's role does not allow this."""

    code = "role"


class UnauthenticatedError(TunesmithError):
    """The request carries no credential that this server accepts."""

    code = "unauthenticated"


class NotFoundError(TunesmithError):
    """No such thing for this caller."""

    code = "not_found"


class JobNotFoundError(NotFoundError):
    """No job has this id."""

    code = "job_not_found"


class FileNotFoundInStoreError(NotFoundError):
    """No file has this id, or it was deleted."""

    code = "file_not_found"


class CheckpointNotFoundError(NotFoundError):
    """The job has no checkpoint with this id."""

    code = "checkpoint_not_found"


class ModelNotFoundError(NotFoundError):
    """No base model or produced model answers to this name."""

    code = "model_not_found"


class ExportNotFoundError(NotFoundError):
    """The model has no export with this id."""

    code = "export_not_found"


class PushNotFoundError(NotFoundError):
    """The model has no push with this id."""

    code = "push_not_found"


class DatasetNotFoundError(NotFoundError):
    """No registered dataset answers to this name."""

    code = "dataset_not_found"


class OrganisationNotFoundError(NotFoundError):
    """No organisation has this id, or it is not the caller's."""

    code = "organisation_not_found"


class ProjectNotFoundError(NotFoundError):
    """The organisation has no project with this id."""

    code = "project_not_found"


class ApiKeyNotFoundError(NotFoundError):
    """The organisation has no API key with this id."""

    code = "key_not_found"


class SecretNotFoundError(NotFoundError):
    """The organisation has no secret with this id, or it is for another purpose or host."""

    code = "secret_not_found"


class WebhookNotFoundError(NotFoundError):
    """The organisation has no webhook with this id."""

    code = "webhook_not_found"


class DeliveryNotFoundError(NotFoundError):
    """The organisation has no delivery with this id, or it was forgotten."""

    code = "delivery_not_found"


class ConflictError(TunesmithError):
    """The request does not fit the present state of what it names."""

    code = "conflict"


class JobStateError(ConflictError):
    """The job is in a state in which this cannot be done."""

    code = "job_state"


class BusyError(ConflictError):
    """A job is running, and the request asked to be refused in that case."""

    code = "busy"


class DiskFullError(TunesmithError):
    """The volume that holds the server's home has no room left."""

    code = "disk_full"


class UnavailableError(TunesmithError):
    """The server cannot do this now and may be able to later."""

    code = "unavailable"


class SourceNotFoundError(NotFoundError):
    """Nothing lies at the remote address: no bucket, object, repository, revision or file of this name."""

    code = "source_not_found"


class SourceCredentialsError(TunesmithError):
    """The other side refuses the credentials, or asks for some where none were given."""

    code = "source_credentials"


class AddressRefusedError(TunesmithError):
    """A remote address leads to where no request of this server may go."""

    code = "address_refused"


class DownloadError(TunesmithError):
    """A remote content could not be had: cut off, changed, damaged or too slow. It may be tried again."""

    code = "download_failed"


class PushError(TunesmithError):
    """A repository could not be written: cut off, refused by the hub, or too slow. It may be tried again."""

    code = "push_failed"


# --- the data --------------------------------------------------------------------------------------------------------


class DatasetError(TunesmithError):
    """The training rows cannot be used; the message names lines."""

    code = "invalid_dataset"


class TooFewExamplesError(DatasetError):
    """Fewer rows than the dialect allows."""

    code = "invalid_n_examples"


class NothingToTrainError(DatasetError):
    """After the chat template and the length limit, no token of any row carries loss."""

    code = "nothing_to_train"


class RowTooLongError(DatasetError):
    """A row exceeds the length limit, and the job asked to be refused in that case."""

    code = "row_too_long"


class ChatTemplateError(DatasetError):
    """The model's chat template is missing, fails, or hides which tokens the assistant wrote."""

    code = "chat_template"


# --- the model and the training --------------------------------------------------------------------------------------


class ModelLoadError(TunesmithError):
    """The base model is incomplete, of an unknown architecture, or would need remote code or pickle."""

    code = "model_load"


class AdapterError(TunesmithError):
    """The adapter does not fit the base model."""

    code = "invalid_adapter"


class OutOfMemoryError(TunesmithError):
    """The device has too little memory for this job."""

    code = "out_of_memory"


class DoesNotFitError(TunesmithError):
    """The job surely needs more memory than any device of this server has."""

    code = "does_not_fit"


class NonFiniteError(TunesmithError):
    """The loss or a gradient became NaN or infinite."""

    code = "non_finite"


class CheckpointError(TunesmithError):
    """No checkpoint could be written or read."""

    code = "checkpoint"


class ArtifactError(TunesmithError):
    """The finished weights failed their check: missing, not finite, not loadable, or without effect."""

    code = "artifact"


class WorkerLostError(TunesmithError):
    """The training process died without a word, more often than it may."""

    code = "worker_lost"


class InternalError(TunesmithError):
    """A fault of Tunesmith itself; the log has the traceback."""

    code = "internal_error"


# --- the server ------------------------------------------------------------------------------------------------------


class SettingsError(TunesmithError):
    """The server cannot start with these settings."""

    code = "settings"


def _tree(kind: type[TunesmithError]) -> list[type[TunesmithError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _tree(child))]


def subject(error: ErrorInfo) -> str | None:
    """The path in the spec that an error is about, also where whoever raised it did not know that path."""
    kind = ERRORS[error.code]
    if error.param is not None:
        return error.param
    if issubclass(kind, DatasetError):
        return "data.train"
    return "model.base" if issubclass(kind, ModelLoadError) else None


ERRORS: dict[str, type[TunesmithError]] = {kind.code: kind for kind in _tree(TunesmithError)[1:]}
"""Every error by its code, to raise again what another process reported."""
