"""The canonical description of a fine-tuning job. Every dialect translates into it; the engine reads nothing else.

All values are filled in by the dialect before the spec is stored: the engine has no defaults of its own. Two equal
trainings have equal specs; who asked, and through which dialect, travels beside it in `Submission`.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """A value: immutable, without unknown fields, documented by the text under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSpec(Frozen):
    """The base model."""

    base: str
    """Name of the base model: an alias, or a folder below a model root."""

    dtype: Literal["bfloat16", "float32"]
    """Number format of frozen weights and of the arithmetic. Trained weights are always kept in float32."""


class AdapterSource(Frozen):
    """A produced adapter to continue from."""

    model: str
    """Id of the produced model."""


class DataSource(Frozen):
    """Where rows come from."""

    kind: Literal["file", "dataset"]

    id: str
    """An uploaded file's id, or `name` of a registered dataset."""

    sha256: str
    """Digest of the content at submission, so that equal specs mean equal data."""


class DataSpec(Frozen):
    """The rows and how they become token sequences."""

    train: DataSource
    validation: DataSource | None
    max_length: int = Field(ge=8, le=1_048_576)
    """Tokens per sequence. A model with a shorter context lowers it; the job says so in an event."""

    over_long: Literal["drop", "truncate", "refuse"]
    """What happens to rows of more than `max_length` tokens. Never silent: they are counted and named in an event."""

    packing: bool
    """Whether `batch_size` counts packed sequences of up to `max_length` tokens (true) or rows (false). Packed rows
    never see each other in either case."""

    max_samples: int | None = Field(ge=1)
    """Use at most this many rows, the first of the file."""


class MethodSpec(Frozen):
    """The training objective: a plug-in's name and the parameters it defines."""

    kind: str
    parameters: dict[str, Any] = {}


class AdapterSpec(Frozen):
    """Low-rank adapter (LoRA). Absent from the job for full fine-tuning."""

    rank: int = Field(ge=1, le=1024)
    alpha: float = Field(gt=0)
    """Scale numerator: the update is multiplied by `alpha / rank`."""

    dropout: float = Field(ge=0, lt=1)
    targets: tuple[str, ...]
    """Names of linear layers, or the single entry `all-linear` for every one but the head."""


MAX_BATCH_SIZE = 65_536


class OptimizationSpec(Frozen):
    """AdamW and its schedule."""

    learning_rate: float = Field(gt=0, le=10)
    """Peak rate, absolute."""

    schedule: Literal["linear", "cosine", "constant"]
    """Decay after warm-up, to zero at the last step."""

    warmup_ratio: float = Field(ge=0, le=1)
    """Share of all steps over which the rate climbs from zero."""

    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)
    """Clip the global gradient norm to this; none = do not clip."""

    epochs: float = Field(gt=0, le=10_000)
    """Passes over the data; a fraction ends part-way through a pass."""

    max_steps: int | None = Field(ge=1)
    """End after this many optimizer steps, if earlier than `epochs`."""

    batch_size: int = Field(ge=1, le=MAX_BATCH_SIZE)
    """Sequences per optimizer step, over all devices and accumulation steps."""

    micro_batch_size: int | None = Field(ge=1)
    """Sequences per forward pass; none = the engine chooses. Changes speed and memory, never the loss."""

    seed: int = Field(ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} exceeds batch_size {self.batch_size}.")
        return self


class CadenceSpec(Frozen):
    """How often the job evaluates and saves. The end of training always does both."""

    eval_steps: int | Literal["epoch"]
    """Evaluate every so many steps, or at the end of each epoch. Without effect when there is no validation data."""

    save_steps: int | Literal["epoch"]
    """Offer a checkpoint to the user every so many steps, or at the end of each epoch."""

    keep_checkpoints: int | None = Field(ge=1)
    """Keep the newest so many offered checkpoints; none = all."""


class JobSpec(Frozen):
    """Everything that determines one training."""

    model: ModelSpec
    init_from: AdapterSource | None
    data: DataSpec
    method: MethodSpec
    adapter: AdapterSpec | None
    optimization: OptimizationSpec
    cadence: CadenceSpec


class Submission(Frozen):
    """What travels beside the spec: who asked, how, and what could not be honoured."""

    dialect: str
    """The dialect that took the request. Orders, clocks and defaults of its answers follow from it."""

    request: dict[str, Any]
    """The original request without secrets, for dialects that echo it."""

    name: str | None = None
    """The user's name for the result."""

    suffix: str | None = None
    """The user's part of the produced model's name."""

    labels: dict[str, str] = {}
    """The user's own key-value pairs, for filters."""

    when_busy: Literal["queue", "reject"] = "queue"
    notes: tuple[str, ...] = ()
    """Sentences about requested things that are not honoured or were adjusted. Each becomes a warning event."""


class Inputs(Frozen):
    """Local paths that a worker reads. Everything remote was fetched before."""

    model: Path
    train: Path
    validation: Path | None
    adapter: Path | None
    """Folder of the adapter to continue from, in PEFT format."""


class AttemptSpec(Frozen):
    """What one attempt's worker is told: the content of `spec.json`."""

    job_id: str
    attempt: int = Field(ge=1)
    purpose: Literal["train", "check"]
    """`check` only prepares data and reports whether anything can be trained; it loads no weights."""

    spec: JobSpec
    inputs: Inputs
    resume_from: tuple[Path, ...] = ()
    """Checkpoint folders of earlier attempts, newest first. The first whole one is resumed."""
