"""The canonical description of a fine-tuning job. Every dialect translates into it; the engine reads nothing else.

All values are filled in by the dialect before the spec is stored: the engine has no defaults of its own. Two equal
trainings have equal specs; who asked, and through which dialect, travels beside it in `Submission`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tunesmith.spec.frozen import Frozen as Frozen  # noqa: PLC0414 - marks it as a name of this module, too
from tunesmith.spec.reading import Reading, SplitSpec

MAX_COUNT = 10**12
"""Above any number of steps or rows that can be had."""


class QuantizationSpec(Frozen):
    """Frozen weights in fewer bits, through bitsandbytes. Arithmetic stays in the model's `dtype`."""

    bits: Literal[4, 8]
    kind: Literal["nf4", "fp4"] = "nf4"
    """Code of 4-bit weights; without effect on 8 bits."""

    double: bool = True
    """Whether the scales of 4-bit blocks are quantized too."""

    int8_threshold: float = Field(default=6.0, ge=0)
    """Activations above this are multiplied in full precision; without effect on 4 bits."""


class ModelSpec(Frozen):
    """The base model."""

    base: str
    """Name of the base model: an alias, a folder below a model root, a produced model, or a hub repository."""

    dtype: Literal["bfloat16", "float32"]
    """Number format of frozen weights and of the arithmetic. Trained weights are always kept in float32."""

    modality: Literal["text", "vision_language", "image"] = "text"
    task: Literal["causal_lm", "sequence_classification"] = "causal_lm"
    source: Literal["any", "local", "hub"] = "any"
    """Where the name is looked up: on this server first and then on the hub, or only in one of them."""

    revision: str | None = None
    """Branch, tag or commit on the hub; once fetched, the commit."""

    secret: str | None = None
    """Id of the stored token for the hub."""

    quantization: QuantizationSpec | None = None


class StartSpec(Frozen):
    """Trained weights to continue from."""

    kind: Literal["model", "checkpoint", "hub"]
    id: str
    """Id of a produced model or of a checkpoint, or a repository on the hub."""

    revision: str | None = None
    """Branch, tag or commit on the hub; once fetched, the commit."""

    secret: str | None = None
    """Id of the stored token for the hub."""


class DataSource(Frozen):
    """Where rows come from."""

    kind: Literal["file", "dataset", "s3", "gcs", "http", "hub", "images"]

    id: str
    """An uploaded file's id, `name@version` of a registered dataset, or an address elsewhere. For `images`, the
    addresses are in `ImagesSpec.sources`."""

    sha256: str | None
    """Digest of the content, so that equal specs mean equal data; none until it has been fetched."""

    region: str | None = None
    revision: str | None = None
    secret: str | None = None
    """Id of the stored credentials."""


class ImagesSpec(Frozen):
    """Pictures for image training and what is done to them first."""

    sources: tuple[str, ...]
    """Addresses of pictures or of archives of pictures."""

    trigger_word: str
    captioning: Literal["trigger_only", "filename", "existing", "custom", "auto"]
    caption_prompt: str | None = None
    transforms: tuple[dict[str, Any], ...] = ()
    resolution: tuple[int, ...]
    """Edge lengths of the squares whose area a picture is scaled to, in pixels."""


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

    max_samples: int | None = Field(ge=1, le=MAX_COUNT)
    """Use at most this many rows, the first of the file."""

    sample_ratio: float = Field(default=1.0, gt=0, le=1)
    """Use this share of the rows, drawn by the job's seed."""

    reading: Reading = Reading()
    """How rows are to be understood."""

    split: SplitSpec | None = None
    """How `train` is shared out when no validation data is given; none = all of it is trained on."""

    images: ImagesSpec | None = None


class MethodSpec(Frozen):
    """The training objective: a plug-in's name and the parameters it defines."""

    kind: str
    parameters: dict[str, Any] = Field(default={})


class AdapterSpec(Frozen):
    """Low-rank adapter (LoRA). Absent from the job for full fine-tuning."""

    rank: int = Field(ge=1, le=1024)
    alpha: float = Field(gt=0)
    """Scale numerator: the update is multiplied by `alpha / rank`."""

    dropout: float = Field(ge=0, lt=1)
    targets: tuple[str, ...]
    """Names of linear layers, or the single entry `all-linear` for every one but the head."""


MAX_BATCH_SIZE = 65_536

MAX_EPOCHS = 10_000
"""The most passes. A dialect whose steps alone end a training asks for so many."""


class OptimizationSpec(Frozen):
    """The optimizer and its schedule."""

    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    learning_rate: float = Field(gt=0, le=10)
    """Peak rate, absolute."""

    schedule: Literal["linear", "cosine", "constant"]
    """Decay after warm-up, to zero at the last step."""

    warmup_ratio: float = Field(ge=0, le=1)
    """Share of all steps over which the rate climbs from zero."""

    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)
    """Clip the global gradient norm to this; none = do not clip."""

    epochs: float = Field(gt=0, le=MAX_EPOCHS)
    """Passes over the data; a fraction ends part-way through a pass."""

    max_steps: int | None = Field(ge=1, le=MAX_COUNT)
    """End after this many optimizer steps, if earlier than `epochs`."""

    batch_size: int = Field(ge=1, le=MAX_BATCH_SIZE)
    """Sequences per optimizer step, over all devices and accumulation steps."""

    micro_batch_size: int | None = Field(ge=1)
    """Sequences per forward pass; none = the engine chooses. Changes speed and memory, never the loss."""

    gradient_checkpointing: bool | None = None
    """Whether activations are computed again instead of kept; none = the engine chooses. Changes speed and memory,
    never the loss."""

    seed: int = Field(ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} exceeds batch_size {self.batch_size}.")
        return self


class CadenceSpec(Frozen):
    """How often the job evaluates and saves. The end of training always does both."""

    eval_steps: Annotated[int, Field(ge=1, le=MAX_COUNT)] | Literal["epoch"]
    """Evaluate every so many steps, or at the end of each epoch. Without effect when there is no validation data."""

    save_steps: Annotated[int, Field(ge=1, le=MAX_COUNT)] | Literal["epoch"]
    """Offer a checkpoint to the user every so many steps, or at the end of each epoch."""

    keep_checkpoints: int | None = Field(ge=1, le=MAX_COUNT)
    """Keep the newest so many offered checkpoints; none = all."""

    log_steps: int = Field(default=1, ge=1, le=MAX_COUNT)
    """Report metrics every so many steps."""


class SamplingSpec(Frozen):
    """What the model is asked during training, to see how it changes."""

    prompts: tuple[str, ...]
    every: int = Field(ge=1, le=MAX_COUNT)
    """In optimizer steps."""

    denoising_steps: int | None = Field(default=None, ge=1)
    """For pictures."""


class ResourcesSpec(Frozen):
    """What the training may use."""

    gpus_per_node: int = Field(ge=1, le=1024)
    nodes: int = Field(ge=1, le=1024)
    gpu_type: str | None = None
    distribution: Literal["ddp", "fsdp", "deepspeed"] | None = None
    """How several GPUs share the work; none for one."""


class JobSpec(Frozen):
    """Everything that determines one training."""

    model: ModelSpec
    init_from: StartSpec | None
    data: DataSpec
    method: MethodSpec
    adapter: AdapterSpec | None
    optimization: OptimizationSpec
    cadence: CadenceSpec
    sampling: SamplingSpec | None = None
    resources: ResourcesSpec | None = None
    """None = what the server gives a job by itself."""


class IntegrationSpec(Frozen):
    """A service that is to be told of the training, or to get its result."""

    kind: Literal["wandb", "mlflow", "hub"]
    settings: dict[str, Any]
    """What the service is to call things and where it is; nothing in it is secret."""


class Submission(Frozen):
    """What travels beside the spec: who asked, how, and what could not be honoured."""

    dialect: str
    """The dialect that took the request. Orders, clocks and defaults of its answers follow from it."""

    request: dict[str, Any]
    """The original request without secrets, for dialects that echo it."""

    flavour: str | None = None
    """By which vendor's rules the request was read, in a dialect that several vendors speak."""

    name: str | None = None
    """The user's name for the result."""

    suffix: str | None = None
    """The user's part of the produced model's name."""

    labels: dict[str, str] = Field(default={})
    """The user's own key-value pairs, for filters."""

    project: str | None = None
    """Id of the project within the organisation."""

    priority: int = Field(default=1, ge=0, le=3)
    """0 low, 1 normal, 2 high, 3 urgent: higher ones leave the queue first, equal ones in order of arrival."""

    when_busy: Literal["queue", "reject"] = "queue"
    idempotency_key: str | None = Field(default=None, max_length=255)
    """A second submission with the same key of the same organisation is answered with the first one's job."""

    integrations: tuple[IntegrationSpec, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about requested things that are not honoured or were adjusted. Each becomes a warning event."""


class Inputs(Frozen):
    """Local paths that a worker reads. Everything remote was fetched before."""

    model: Path
    train: Path
    validation: Path | None
    adapter: Path | None
    """Folder of the adapter to continue from, in PEFT format. Weights that replace the model's stand in `model`."""

    cache: Path | None = None
    """Folder for what follows from content alone and takes long to compute, shared by jobs; none = nothing is kept."""


class AttemptSpec(Frozen):
    """What one attempt's worker is told: the content of `spec.json`."""

    job_id: str
    attempt: int = Field(ge=1)
    purpose: Literal["train", "check"]
    """`check` only prepares data and reports whether anything can be trained; it loads no weights."""

    spec: JobSpec
    inputs: Inputs
    name: str | None = None
    """The user's name for the result, for the names of files."""

    resume_from: tuple[Path, ...] = ()
    """Checkpoint folders of earlier attempts, newest first. The first whole one is resumed."""
