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

Modality = Literal["text", "vision_language", "image"]
"""What a model reads or draws: text alone, text and pictures, or pictures that it draws."""


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

    modality: Modality = "text"
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
    """Id of a produced model or of a checkpoint, or a repository on the hub. In a request of the native dialect,
    `JOB@best` is the checkpoint of that job with the best evaluation."""

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

    pictures: str | None = None
    """Digest of the pictures that its rows show, gathered for a vision-language model; none until that is done."""


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


ALL_LINEAR = ("all-linear",)
"""The targets of an adapter on every linear layer but the head."""


class AdapterSpec(Frozen):
    """Low-rank adapter (LoRA). Absent from the job for full fine-tuning."""

    rank: int = Field(ge=1, le=1024)
    alpha: float = Field(gt=0)
    """Scale numerator: the update is multiplied by `alpha / rank`."""

    dropout: float = Field(ge=0, lt=1)
    targets: tuple[str, ...] = Field(min_length=1)
    """Names of linear layers, such as `q_proj` or `self_attn.q_proj`, or the single entry `all-linear` for every one
    but the head."""

    scaling: Literal["standard", "rank_stabilized"] = "standard"
    """What the update is multiplied by: `alpha / rank`, or `alpha / sqrt(rank)` (rsLoRA, arXiv 2312.03732)."""

    decomposed: bool = False
    """Whether each weight's magnitude is trained apart from its direction (DoRA, arXiv 2402.09353)."""

    init: Literal["random", "pissa"] = "random"
    """What is trained at first: random numbers without effect, or the principal parts of the base model's weights
    (PiSSA, arXiv 2404.02948)."""

    @model_validator(mode="after")
    def _parts_are_compatible(self) -> Self:
        if self.decomposed and self.init == "pissa":
            raise ValueError(
                "init 'pissa' and decomposed true exclude each other: the magnitudes of what is left of a weight say "
                "nothing about the whole; use one of them."
            )
        return self


MAX_BATCH_SIZE = 65_536

MAX_EPOCHS = 10_000
"""The most passes. A dialect whose steps alone end a training asks for so many."""


class OptimizationSpec(Frozen):
    """The optimizer and its schedule."""

    optimizer: Literal["adamw", "adamw_8bit", "adam", "adafactor", "sgd"] = "adamw"
    learning_rate: float = Field(gt=0, le=10)
    """Peak rate, absolute."""

    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt", "wsd"]
    """After warm-up: decay to zero at the last step; none; decay with the root of the step, which does not reach zero;
    or none until a decay at the end (warm-up, stable, decay)."""

    warmup_ratio: float = Field(ge=0, le=1)
    """Share of all steps over which the rate climbs from zero."""

    decay_ratio: float | None = Field(default=None, gt=0, le=1)
    """Of the schedule `wsd`, and of no other: share of all steps over which the rate falls to zero at the end."""

    weight_decay: float = Field(ge=0)
    max_grad_norm: float | None = Field(gt=0)
    """Clip the global gradient norm to this; none = do not clip."""

    neftune_noise_alpha: float | None = Field(default=None, gt=0)
    """Size of the noise on the embeddings of training rows (NEFTune, arXiv 2310.05914); none = no noise."""

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

    on_out_of_memory: Literal["fail", "shrink"] = "fail"
    """What follows when memory does not suffice: the job fails, or the step is done again with fewer sequences per
    forward pass, as are all later ones. Changes speed and memory, never the loss."""

    seed: int = Field(ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} exceeds batch_size {self.batch_size}.")
        return self

    @model_validator(mode="after")
    def _decay_fits(self) -> Self:
        if self.schedule != "wsd":
            if self.decay_ratio is not None:
                raise ValueError(f"decay_ratio {self.decay_ratio} belongs to the schedule 'wsd', not to this one.")
        elif self.decay_ratio is None:
            raise ValueError("the schedule 'wsd' needs a decay_ratio.")
        elif self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError(f"warmup_ratio {self.warmup_ratio} and decay_ratio {self.decay_ratio} exceed 1 together.")
        return self


class CadenceSpec(Frozen):
    """How often the job evaluates and saves. The end of training always does both."""

    eval_steps: Annotated[int, Field(ge=1, le=MAX_COUNT)] | Literal["epoch"]
    """Evaluate every so many steps, or at the end of each epoch. Without effect when there is no validation data."""

    save_steps: Annotated[int, Field(ge=1, le=MAX_COUNT)] | Literal["epoch"]
    """Offer a checkpoint to the user every so many steps, or at the end of each epoch."""

    keep_checkpoints: int | None = Field(ge=1, le=MAX_COUNT)
    """Keep the newest so many offered checkpoints, over all attempts, and the best; none = all."""

    log_steps: int = Field(default=1, ge=1, le=MAX_COUNT)
    """Report metrics every so many steps."""

    evaluate_first: bool = False
    """Whether the validation rows are also scored before the first step."""


class SelectionSpec(Frozen):
    """Which evaluation counts as the best, and what follows from that. An evaluation before the first step takes no
    part."""

    metric: str = Field(default="loss", min_length=1, max_length=64)
    """Figure of the evaluations: `loss`, or another one that the method reports."""

    best: Literal["lowest", "highest"] = "lowest"
    """Which value of it is the best."""

    patience: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """End after this many evaluations in a row without improvement; none = train all steps."""

    min_improvement: float = Field(default=0.0, ge=0)
    """An evaluation that is better than the best before it by no more than this counts as one without improvement."""

    result: Literal["last", "best"] = "last"
    """Whether the result has the weights of the last step or those of the best evaluation."""

    @property
    def is_asked_for(self) -> bool:
        """Whether anything follows from evaluations, which then there must be."""
        return self.patience is not None or self.result == "best"


class Turn(Frozen):
    """A part of a conversation that the model is to go on with."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | tuple[Turn, ...]
"""A text, which is one turn of a user where the model has a chat template; or a conversation."""


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


class SamplingSpec(Frozen):
    """What the model is asked during training, to see how it changes. It is also asked before and after."""

    prompts: tuple[Prompt, ...]
    every: int = Field(ge=1, le=MAX_COUNT)
    """In optimizer steps."""

    denoising_steps: int | None = Field(default=None, ge=1)
    """For pictures."""

    max_new_tokens: int = Field(default=128, ge=1, le=4096)
    """Most tokens of an answer."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 = always the likeliest token."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the likeliest tokens that together have this probability."""

    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    """Of drawn answers, the same at every step; none = the job's."""

    @model_validator(mode="after")
    def _drawing_has_effect(self) -> Self:
        if not self.temperature and (self.top_p < 1 or self.seed is not None):
            name = "top_p" if self.top_p < 1 else "seed"
            value = getattr(self, name)
            raise ValueError(f"{name} {value} has no effect at temperature 0; set a temperature, or leave it out.")
        return self


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
    selection: SelectionSpec = SelectionSpec()
    sampling: SamplingSpec | None = None
    resources: ResourcesSpec | None = None
    """None = what the server gives a job by itself."""


class IntegrationSpec(Frozen):
    """A service that is to be told of the training, or to get its result."""

    kind: Literal["wandb", "mlflow", "hub", "webhook"]
    settings: dict[str, Any]
    """What the service is to call things and where it is; nothing in it is secret."""

    secret: str | None = None
    """Id of the stored credentials; of a webhook, of its URL."""


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

    rows: Path | None = None
    """Folder in which prepared rows are kept for later trainings, and looked for; none = nowhere."""

    cache: Path | None = None
    """Folder for what follows from content alone and takes long to compute, shared by jobs; none = nothing is kept."""

    pictures: Path | None = None
    """The pictures that the training rows show, gathered; none if they are not looked at."""

    validation_pictures: Path | None = None
    """Those of the validation rows."""


class DeviceFacts(Frozen):
    """The device that an attempt runs on, or is planned for."""

    name: str
    """`cpu`, or what its maker calls a GPU."""

    memory: int = Field(ge=1)
    """Bytes that a job may use on it."""


class AttemptSpec(Frozen):
    """What one attempt's worker is told: the content of `spec.json`."""

    job_id: str
    attempt: int = Field(ge=1)
    purpose: Literal["train", "check", "plan", "caption"]
    """`check` and `plan` load no weights: they look at rows and report what the training will cost. A `check` takes
    less time, and refuses what cannot fit. A `caption` has the model of `inputs` describe the PNG files in the folder
    `inputs.train`."""

    spec: JobSpec
    inputs: Inputs
    name: str | None = None
    """The user's name for the result, for the names of files."""

    resume_from: tuple[Path, ...] = ()
    """Checkpoint folders of earlier attempts, newest first. The first whole one is resumed."""

    device: DeviceFacts | None = None
    """None = not told: plans are then for all the memory of this machine's processor."""

    rows: int | None = None
    """Rows of the training file, in a check or a plan; none = not known, so as many as possible are read."""

    classes: tuple[int, ...] = ()
    """Classes of the training file's rows, in a check or a plan, as far as they are known: the first ones found."""
