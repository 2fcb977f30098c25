"""Bodies of answers. Times are seconds since 1970, UTC, with fractions."""

from typing import Any, Generic, Literal, TypeVar

from tunesmith.data.validate import DatasetReport, RowProblem
from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.events import Evaluated, Metrics
from tunesmith.spec.exactness import Resume
from tunesmith.spec.export import Format, Number, Quantization, Verification
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import JobSpec
from tunesmith.spec.lifecycle import State
from tunesmith.spec.plan import Plan
from tunesmith.store.exports import ExportFile, ExportProgress
from tunesmith.store.pushes import PushFormat, PushState

Item = TypeVar("Item")


class ErrorAnswer(Frozen):
    """What is wrong and what to do."""

    error: ErrorInfo
    detail: str | None = None
    """The same in one sentence, where a request did not get as far as this API: its address is faulty."""


class Listing(Frozen, Generic[Item]):
    """All of them."""

    data: list[Item]


class Page(Frozen, Generic[Item]):
    """A part of a list. The id of the last entry is `after` of the next page."""

    data: list[Item]
    has_more: bool


class Deleted(Frozen):
    """It is gone."""

    id: str
    deleted: Literal[True] = True


class JobAnswer(Frozen):
    """A job as it stands."""

    id: str
    """32 hexadecimal digits."""

    state: State
    dialect: str
    """The API that it came by."""

    name: str | None
    suffix: str | None
    labels: dict[str, str]
    project: str | None
    priority: int
    created_by: str | None
    notes: list[str]
    """Sentences about requested things that have no effect or were adjusted."""

    spec: JobSpec
    """The training with all its values. It can be submitted again as it is."""

    created_at: float
    started_at: float | None
    finished_at: float | None
    estimated_finish: float | None
    step: int
    """Finished optimizer steps."""

    total_steps: int | None
    trained_tokens: int
    """All tokens seen so far."""

    attempts: int
    resumes: list[Resume]
    """How each later attempt went on: exactly, approximately, or from the first step again."""

    error: ErrorInfo | None
    """Why it failed; `param` is a path within `spec`."""

    model: str | None
    """Id of the produced model."""

    tracking_url: str | None
    """Where the job can be followed in a tracker."""


class Remote(Frozen):
    """A part of a spec that lies elsewhere."""

    field: str
    """Path of the request."""

    address: str
    revision: str | None
    """The exact version that a job would use, where the other side tells one."""


class Validation(Frozen):
    """A request that would be accepted."""

    spec: JobSpec
    """With all values filled in, as the job would have it."""

    notes: list[str]
    complete: bool
    """Whether everything is on this server, prepared and checked. Else a job would begin as `validating`."""

    remote: list[Remote]
    """Fetched before the training, unless this server has them already."""


class Planned(Validation):
    """What a request would cost."""

    plan: Plan | None
    """None while something is elsewhere: its rows and model are not known, and `remote` names it. None for pictures,
    also those that rows show: what they come to is known once a job has gathered them, and stands in its plan."""


class Waiting(Frozen):
    """A job that waits."""

    ahead: int
    """How many jobs, of whomever, wait or hold a device before its turn comes."""

    job: JobAnswer


class Queue(Frozen):
    """Your jobs that have not ended and are not paused."""

    active: list[JobAnswer]
    """Those that hold a device."""

    waiting: list[Waiting]
    """In the order in which they get a device."""


class EventAnswer(Frozen):
    """One fact."""

    id: str
    job_id: str
    attempt: int | None
    at: float
    level: Literal["info", "warn", "error"]
    kind: str
    """A kind of `spec/events.py`, or `state`, `note`, `fetch`, `pictures` and `plan` for what the server itself
    reports."""

    message: str
    data: dict[str, Any]


class MetricsAnswer(Frozen):
    """What training and validation brought. Of steps that were run again after a crash, the last run counts."""

    training: list[Metrics]
    """By step; evenly thinned out to the limit, the first and the last one included."""

    training_count: int
    """How many there are before thinning out."""

    validation: list[Evaluated]
    validation_count: int


class SampleAnswer(Frozen):
    """What the model answered to a prompt."""

    id: str
    attempt: int | None
    at: float
    step: int
    """0 = before training: the base model was asked."""

    number: int
    """Place of the prompt in `spec.sampling.prompts`, from 0."""

    prompt: str
    """At most 2,000 characters."""

    text: str | None
    """At most 8,000 characters; none where the answer is a picture."""

    file: str | None
    """Name of the picture; `/samples/{sample_id}/picture` sends it."""

    seed: int | None
    """Of the picture's noise; none for a text."""

    base: str | None
    """What the base model answered; none at step 0."""

    tokens: int | None
    """Of the answer; none for a picture."""

    seconds: float


class CheckpointFile(Frozen):
    """A file of a checkpoint."""

    id: str
    """Id for `/files`."""

    filename: str
    bytes: int
    sha256: str


class CheckpointAnswer(Frozen):
    """A state from which training can go on: `init_from` with the kind `checkpoint` and this id."""

    id: str
    attempt: int
    step: int
    metrics: dict[str, float]
    score: float | None
    """The figure by which the job chooses the best; none if the validation rows were not scored after this step."""

    is_best: bool
    """Whether it has the best score of the job's checkpoints."""

    files: list[CheckpointFile]
    created_at: float


class ArtifactAnswer(Frozen):
    """A file that a job left."""

    name: str
    """Path below `/jobs/{job_id}/artifacts/`."""

    kind: Literal["model", "checkpoint", "metrics", "log"]
    bytes: int
    sha256: str | None
    """None for logs, which may grow."""


class FileAnswer(Frozen):
    """An uploaded or produced file."""

    id: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    report: DatasetReport | None
    """What its rows are, for training data."""

    created_at: float
    expires_at: float | None


class DatasetAnswer(Frozen):
    """One version of a registered dataset."""

    reference: str
    """`name@version`, what jobs call it."""

    name: str
    version: int
    filename: str
    bytes: int
    sha256: str
    format: str
    rows: int
    """Rows in all, including those that cannot be used."""

    unusable_rows: int
    problems: list[RowProblem]
    """The first 20."""

    created_at: float


class ModelAnswer(Frozen):
    """A model to start from or to use."""

    id: str
    kind: Literal["base", "adapter", "full"]
    path: str
    """Folder on the server."""

    base: str | None
    """Name of the weights below, for produced models."""

    job: str | None
    name: str | None
    version: int | None
    created_at: float | None


class ExportAnswer(Frozen):
    """A model in another form, to take home."""

    id: str
    model: str
    format: Format
    dtype: Number | None
    """Number format of merged weights."""

    quantization: Quantization | None
    """Number format of a GGUF file's matrices."""

    state: Literal["queued", "running", "ready", "failed"]
    progress: ExportProgress | None
    """How far it is, while it is made."""

    bytes: int
    """Of all files; 0 until it is ready."""

    files: list[ExportFile]
    verification: Verification | None
    """How it answers beside the trained model. An export without is never ready."""

    error: ErrorInfo | None
    created_at: float
    finished_at: float | None


class PushAnswer(Frozen):
    """A model on its way to a hub."""

    id: str
    model: str
    repo: str
    private: bool
    format: PushFormat
    export: str | None
    state: PushState
    bytes_done: int
    bytes_total: int | None
    commit: str | None
    """Of the repository, once it is done."""

    error: ErrorInfo | None
    created_at: float
    finished_at: float | None


_REFUSALS = {
    400: "The address is malformed.",
    401: "No credential, or none that is valid.",
    403: "Your role does not allow this.",
    404: "No such thing.",
    409: "It does not fit the present state.",
    413: "The body or file exceeds a limit.",
    415: "The body has another content type than this route reads.",
    422: "The request cannot be understood, or asks for what is not available.",
    500: "A fault of the server.",
    503: "Not possible now; try again later.",
    507: "The server's disk is full.",
}
_JSON = {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}}}

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description} for status, description in _REFUSALS.items()
}
"""What any route may answer instead. `docs/errors.md` has every code."""

NOT_ONLY_JSON: dict[int | str, dict[str, Any]] = {
    status: {"content": _JSON, "description": description} for status, description in _REFUSALS.items()
}
"""The same for routes whose success is no JSON: FastAPI would describe their refusals as of that kind, too."""
