"""Facts that a worker reports, one JSON object per line of `events.jsonl`, in the order in which they happened."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.job import Frozen


class _Event(Frozen):
    at: datetime
    """UTC."""


class Started(_Event):
    """The worker runs and has read its spec."""

    kind: Literal["started"] = "started"
    pid: int
    host: str
    device: str
    """`cpu`, or a GPU's name."""


class Prepared(_Event):
    """The rows were rendered, tokenised, masked and packed."""

    kind: Literal["prepared"] = "prepared"
    rows: int
    """Rows that take part in the training."""

    dropped_lines: tuple[int, ...]
    """First lines (at most 20) left out because they exceed the length limit."""

    dropped: int
    truncated_lines: tuple[int, ...]
    """First lines (at most 20) cut to the length limit."""

    truncated: int
    sequences: int
    """Packed sequences if the job packs, else rows."""

    tokens: int
    """Tokens of one epoch."""

    trained_tokens: int
    """Tokens of one epoch that carry loss."""

    total_steps: int
    sample: str
    """The first row as the model sees it, trained spans between `⟦` and `⟧`; at most 2,000 characters."""

    validation_rows: int = 0
    """Rows that are scored at each evaluation."""

    test_rows: int = 0
    """Rows that a split keeps apart and that take no part."""

    trained_share: float | None = None
    """Share of an epoch's tokens that carry loss."""

    lengths: tuple[tuple[int, int], ...] = ()
    """Rows by length: a power of two, and the rows of at most so many tokens and more than half as many."""

    receipt: str | None = None
    """File with the mask receipt, relative to the attempt's run directory."""


class Checked(_Event):
    """Answer of a `check`: at least one row can be trained."""

    kind: Literal["checked"] = "checked"


class Resumed(_Event):
    """Training goes on from a checkpoint."""

    kind: Literal["resumed"] = "resumed"
    step: int


class Metrics(_Event):
    """The optimizer steps since the last such event: one, or as many as the job asked for (`cadence.log_steps`)."""

    kind: Literal["metrics"] = "metrics"
    step: int
    """1-based."""

    total_steps: int
    epoch: float
    """Passes over the data completed after this step."""

    loss: float
    """Mean over what the method trains in these steps, each counting alike: for `sft` the negative log-likelihood in
    nats of a trained token, else the loss of a pair, an answer or a text."""

    token_accuracy: float | None
    """Share of the trained tokens of these steps that were the model's first choice; none if no tokens are learnt."""

    learning_rate: float
    """Of the last of these steps."""

    grad_norm: float
    """Mean over these steps of the global L2 norm before clipping."""

    tokens_total: int
    """Tokens processed since the job began, over all attempts that count."""

    tokens_per_second: float
    """Over these steps, without the time of evaluating and saving."""

    memory_bytes: int
    """Peak so far: allocated device memory on a GPU, resident memory on a CPU."""

    eta_seconds: float | None
    extra: dict[str, float] = Field(default={})
    """Means of what else the method measures, by TRL's names, such as `rewards/margins`."""


class Evaluated(_Event):
    """The validation rows were scored."""

    kind: Literal["evaluated"] = "evaluated"
    step: int
    loss: float
    token_accuracy: float | None
    extra: dict[str, float] = Field(default={})


class Sampled(_Event):
    """The model was asked one of the job's prompts."""

    kind: Literal["sampled"] = "sampled"
    step: int
    """0 = before training: the base model was asked."""

    number: int
    """Place of the prompt in the spec, from 0."""

    prompt: str
    """At most 2,000 characters."""

    text: str | None = None
    """What the model wrote, at most 8,000 characters; none where it drew a picture."""

    file: str | None = None
    """The picture, relative to the attempt's run directory."""

    seed: int | None = None
    """Of the picture's noise, the same at every step."""

    seconds: float


class CheckpointSaved(_Event):
    """A whole checkpoint lies on disk."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    path: str
    """Folder, relative to the attempt's run directory."""

    offered: bool
    """True for checkpoints of the requested cadence; false for those kept only to survive a crash."""


class CheckpointRemoved(_Event):
    """A checkpoint was deleted because newer ones replace it."""

    kind: Literal["checkpoint_removed"] = "checkpoint_removed"
    step: int
    path: str


class Note(_Event):
    """Something the user should know."""

    kind: Literal["note"] = "note"
    level: Literal["info", "warn"]
    message: str


class Stopped(_Event):
    """The worker obeyed a request to stop. A checkpoint holds everything done so far."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Failed(_Event):
    """The training cannot succeed."""

    kind: Literal["failed"] = "failed"
    error: ErrorInfo


class Succeeded(_Event):
    """The artifact is written, was reloaded by plain libraries, and changes the model's output."""

    kind: Literal["succeeded"] = "succeeded"
    step: int
    path: str
    """Folder of the artifact, relative to the attempt's run directory."""

    logit_change: float
    """Largest absolute change of a logit, on a probe, between the base model and the reloaded result."""


WorkerEvent = Annotated[
    Started
    | Prepared
    | Checked
    | Resumed
    | Metrics
    | Evaluated
    | Sampled
    | CheckpointSaved
    | CheckpointRemoved
    | Note
    | Stopped
    | Failed
    | Succeeded,
    Field(discriminator="kind"),
]

WORKER_EVENT: TypeAdapter[WorkerEvent] = TypeAdapter(WorkerEvent)
