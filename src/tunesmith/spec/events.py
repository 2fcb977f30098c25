"""Facts that a worker reports, one JSON object per line of `events.jsonl`, in the order in which they happened."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.exactness import Exactness, Fingerprints
from tunesmith.spec.export import Verification
from tunesmith.spec.job import Frozen
from tunesmith.spec.plan import Plan


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

    sampled_rows: int | None = None
    """Rows that were looked at before the first step, if the others are prepared as the training goes on. `rows` are
    then those of the file, what was dropped or cut and `lengths` are of these rows, and other figures are estimates."""

    receipt: str | None = None
    """File with the mask receipt, relative to the attempt's run directory."""


class Checked(_Event):
    """Answer of a `check` or a `plan`: at least one row can be trained."""

    kind: Literal["checked"] = "checked"
    plan: Plan | None
    """None where the pictures that rows show are not here yet: nothing else speaks against the job."""


class Captioned(_Event):
    """Answer of a `caption`: what the captioning model says of one picture."""

    kind: Literal["captioned"] = "captioned"
    picture: str
    """File name in the folder of the pictures."""

    caption: str


class Resumed(_Event):
    """A later attempt of a job begins to train: from a checkpoint, or anew because none can be used."""

    kind: Literal["resumed"] = "resumed"
    step: int
    """Of the checkpoint; 0 without one."""

    exactness: Exactness = "approximate"
    differences: tuple[str, ...] = ()
    """What is not as it was when the checkpoint was saved, or why no checkpoint can be used."""

    fingerprints: Fingerprints | None = None
    """Of this attempt; none from a worker of a version that did not compare."""


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


class Progressed(_Event):
    """How far the training is between two reports of metrics; at most once a second."""

    kind: Literal["progressed"] = "progressed"
    step: int
    total_steps: int
    tokens_total: int
    eta_seconds: float


class Anomaly(_Event):
    """Something looks wrong. Nothing is done about it."""

    kind: Literal["anomaly"] = "anomaly"
    what: Literal["spike", "divergence"]
    """`spike`: one step's figure stands far above those before it. `divergence`: the smoothed loss has been far above
    its best for long."""

    step: int
    figure: Literal["loss", "grad_norm"]
    value: float
    usual: float
    """What it is held against: the median of the steps before, or the lowest smoothed loss."""

    lines: tuple[int, ...]
    """Lines (at most 20) of the training file that the step's rows come from."""


class Evaluated(_Event):
    """The validation rows were scored."""

    kind: Literal["evaluated"] = "evaluated"
    step: int
    loss: float
    token_accuracy: float | None
    extra: dict[str, float] = Field(default={})
    is_best: bool = False
    """Whether this is the best evaluation so far, by the job's `selection`."""


class StoppedEarly(_Event):
    """The training is over before its last step: the evaluations have not improved for as long as was asked for."""

    kind: Literal["stopped_early"] = "stopped_early"
    step: int
    best_step: int
    best_value: float
    metric: str
    evaluations: int
    """Those in a row without improvement."""


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
    """Of the picture's noise, the same at every step; none for a text."""

    base: str | None = None
    """What the base model wrote; none at step 0, and for a picture."""

    tokens: int | None = None
    """Of the answer, the one that ends it included; none for a picture."""

    seconds: float


class Portion(Frozen):
    """How much goes through the model at once, which changes speed and memory and never the loss."""

    micro_batch_size: int | None
    """Sequences per forward pass of the training; none = as many as `token_budget` allows."""

    token_budget: int
    """Tokens per forward pass, but at least one sequence."""

    recomputing: bool
    """Whether activations are computed again instead of kept."""


class Healed(_Event):
    """Memory did not suffice. The step is done again in smaller portions, as are all later ones."""

    kind: Literal["healed"] = "healed"
    step: int
    """The step at which it happened."""

    phase: str
    """What was done at that moment, such as `forward` or `backward`."""

    again_from: int
    """The step at which the training goes on: the same, or the one behind the last checkpoint."""

    before: Portion
    after: Portion
    lines: tuple[int, ...]
    """First lines (at most 20) of the forward pass."""

    tokens: int | None
    """Of the forward pass."""


class CheckpointSaved(_Event):
    """A whole checkpoint lies on disk."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    path: str
    """Folder, relative to the attempt's run directory."""

    offered: bool
    """True for checkpoints of the requested cadence; false for those kept only to survive a crash, or because their
    weights may become the result."""

    score: float | None = None
    """The figure of the job's `selection`, if the validation rows were scored after this step."""


class CheckpointRemoved(_Event):
    """A checkpoint was deleted because newer ones replace it."""

    kind: Literal["checkpoint_removed"] = "checkpoint_removed"
    step: int
    path: str
    """Folder, relative to the attempt's run directory; absolute for one of an earlier attempt."""


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

    weights_of: int | None = None
    """The step that the weights are of, if it is not the last one."""

    logit_change: float
    """Largest absolute change of a logit, on a probe, between the base model and the reloaded result."""


class Exporting(_Event):
    """An export has come so far."""

    kind: Literal["exporting"] = "exporting"
    stage: Literal["asking", "merging", "writing", "verifying"]
    done: int
    total: int
    """Of `done`: prompts, tensors or whatever the stage counts."""


class Exported(_Event):
    """The export is written and was read again by plain libraries."""

    kind: Literal["exported"] = "exported"
    path: str
    """Folder, relative to the run directory."""

    verification: Verification


WorkerEvent = Annotated[
    Started
    | Prepared
    | Checked
    | Captioned
    | Resumed
    | Metrics
    | Progressed
    | Anomaly
    | Evaluated
    | StoppedEarly
    | Sampled
    | Healed
    | CheckpointSaved
    | CheckpointRemoved
    | Note
    | Stopped
    | Failed
    | Succeeded
    | Exporting
    | Exported,
    Field(discriminator="kind"),
]

WORKER_EVENT: TypeAdapter[WorkerEvent] = TypeAdapter(WorkerEvent)
