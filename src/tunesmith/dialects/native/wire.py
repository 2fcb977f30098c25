"""Bodies of requests for jobs.

`spec` is a `JobSpec` of which most may be left out: the defaults stand here and nowhere else.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import (
    ALL_LINEAR,
    MAX_BATCH_SIZE,
    MAX_COUNT,
    MAX_EPOCHS,
    AdapterSpec,
    CadenceSpec,
    ImagesSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    Prompt,
    ResourcesSpec,
    SamplingSpec,
    SelectionSpec,
    StartSpec,
    Turn,
)
from tunesmith.spec.reading import Reading, SplitSpec

Text = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"\S")]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
LabelValue = Annotated[str, StringConstraints(max_length=512)]
DECAY_RATIO = 0.1
"""Share of the steps over which the schedule `wsd` decays, where nothing is said."""

SourceKind = Literal["file", "dataset", "s3", "gcs", "http", "hub", "images"]


def _epoch_or_steps(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One sentence instead of one for each half of the union."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError(f"must be 'epoch' or a whole number from 1 to {MAX_COUNT}") from None


Steps = Annotated[Annotated[int, Field(ge=1, le=MAX_COUNT)] | Literal["epoch"], WrapValidator(_epoch_or_steps)]


class ModelRequest(ModelSpec):
    """The base model."""

    base: Text
    """Name of the base model: an alias, a folder below a model root, a produced model, or a hub repository."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of frozen weights and of the arithmetic. Trained weights are always kept in float32."""


class SourceRequest(Frozen):
    """Where rows come from: exactly one of `file`, `dataset` and `address`, or `kind` and `id` as answers have them."""

    file: Text | None = None
    """Id of an uploaded file."""

    dataset: Text | None = None
    """A registered dataset: `name` for its newest version, or `name@version`."""

    address: Text | None = None
    """`s3://bucket/key`, `gs://bucket/key`, `https://…`, or `owner/name[/path/to/file]` on the hub."""

    region: Text | None = None
    """Region of an S3 bucket; none = us-east-1."""

    revision: Text | None = None
    """Branch, tag or commit on the hub; none = main."""

    secret: Text | None = None
    """Id or name of the stored credentials for the address."""

    kind: SourceKind | None = None
    """What `id` is, in a spec that came from an answer. `images` fits the modality `image` only."""

    id: Text | None = None
    """A file's id, `name@version` of a dataset, or an address."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest that the content of a file or dataset must have."""

    pictures: Text | None = None
    """Without effect, in a spec that came from an answer: the pictures that rows show are gathered anew."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        named = [each for each in (self.file, self.dataset, self.address, self.kind) if each is not None]
        if len(named) != 1 or (self.kind is None) != (self.id is None):
            raise ValueError("name the rows by exactly one of `file`, `dataset` and `address`, or by `kind` with `id`")
        has_address = self.address or self.kind not in (None, "file", "dataset")
        if not has_address and (self.region or self.revision or self.secret):
            raise ValueError("`region`, `revision` and `secret` belong to an address")
        return self


class DataRequest(Frozen):
    """The rows and how they become token sequences."""

    train: SourceRequest
    validation: SourceRequest | None = None

    max_length: int = Field(default=2048, ge=8, le=1_048_576)
    """Tokens per sequence. A model with a shorter context lowers it; the job says so in an event."""

    over_long: Literal["drop", "truncate", "refuse"] = "drop"
    """What happens to rows of more than `max_length` tokens. They are counted and named in an event. Unless said,
    `truncate` for captions of pictures."""

    packing: bool = False
    """Whether `batch_size` counts packed sequences of up to `max_length` tokens (true) or rows (false)."""

    max_samples: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Use at most this many rows, the first of the file; none = all."""

    sample_ratio: float = Field(default=1.0, gt=0, le=1)
    """Use this share of the rows, drawn by the job's seed."""

    reading: Reading = Field(default_factory=Reading)
    """How rows are to be understood; unless said, their keys decide."""

    split: SplitSpec | None = None
    """How `train` is shared out when no validation data is given; none = all of it is trained on."""

    images: ImagesSpec | None = None
    """Pictures, for image training."""


class MethodRequest(MethodSpec):
    """The training objective."""

    kind: Text = "sft"
    """Name of the method."""


class AdapterRequest(AdapterSpec):
    """Low-rank adapter (LoRA)."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    """Scale numerator: the update is multiplied by `alpha / rank`."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field(default_factory=lambda: ALL_LINEAR, min_length=1)
    """Names of linear layers, such as `q_proj` or `self_attn.q_proj`, or the single entry `all-linear` for every one
    but the head."""


class OptimizationRequest(OptimizationSpec):
    """The optimizer and its schedule."""

    learning_rate: float = Field(default=2e-4, gt=0, le=10)
    """Peak rate, absolute. Unless said, 0.00001 where `adapter` is null."""

    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt", "wsd"] = "linear"
    """After warm-up: decay to zero at the last step; none; decay with the root of the step, which does not reach zero;
    or none until a decay at the end (warm-up, stable, decay)."""

    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of all steps over which the rate climbs from zero."""

    decay_ratio: float | None = Field(default=None, gt=0, le=1)
    """Of the schedule `wsd`, and of no other: share of all steps over which the rate falls to zero at the end. Unless
    said, 0.1."""

    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Clip the global gradient norm to this; null = do not clip."""

    epochs: float = Field(default=3.0, gt=0, le=MAX_EPOCHS)
    """Passes over the data; a fraction ends part-way through a pass. Unless said, 10000 where `max_steps` is given."""

    max_steps: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """End after this many optimizer steps, if earlier than `epochs`."""

    batch_size: int = Field(default=8, ge=1, le=MAX_BATCH_SIZE)
    """Sequences per optimizer step, over all devices and accumulation steps."""

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Sequences per forward pass; none = the engine chooses. Changes speed and memory, never the loss."""

    seed: int = Field(default=42, ge=0, le=2**63 - 1)

    @model_validator(mode="before")
    @classmethod
    def _decay_unless_said(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("schedule") == "wsd" and given.get("decay_ratio") is None:
            return given | {"decay_ratio": DECAY_RATIO}
        return given


class CadenceRequest(CadenceSpec):
    """How often the job evaluates and saves. The end of training always does both."""

    eval_steps: Steps = "epoch"
    """Evaluate every so many steps, or at the end of each epoch. Without effect when there is no validation data."""

    save_steps: Steps = "epoch"
    """Offer a checkpoint every so many steps, or at the end of each epoch."""

    keep_checkpoints: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Keep the newest so many offered checkpoints, and the best; none = all."""


_Prompt = (
    Annotated[str, StringConstraints(min_length=1, max_length=32_768)]
    | Annotated[tuple[Turn, ...], Field(min_length=1, max_length=64)]
)
_PROMPT: TypeAdapter[Prompt] = TypeAdapter(_Prompt)


def _text_or_turns(value: Any, _check: ValidatorFunctionWrapHandler) -> Prompt:
    """One sentence instead of one for each half of the union. Read as JSON: there, lists are tuples."""
    try:
        return _PROMPT.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        raise ValueError(
            "must be a text of 1 to 32768 characters, or a list of 1 to 64 turns, each with a `role` (system, user or "
            "assistant) and a text as `content`"
        ) from None


PromptRequest = Annotated[_Prompt, WrapValidator(_text_or_turns)]


class SamplingRequest(SamplingSpec):
    """What the model is asked during training, to see how it changes. It is also asked before and after."""

    prompts: tuple[PromptRequest, ...] = Field(min_length=1, max_length=64)


class SpecRequest(Frozen):
    """A training. A spec that an answer showed is accepted as it is."""

    model: ModelRequest
    data: DataRequest
    init_from: StartSpec | None = None
    """Trained weights to continue from."""

    method: MethodRequest = Field(default_factory=MethodRequest)
    adapter: AdapterRequest | None = Field(default_factory=AdapterRequest)
    """Null = tune all weights; left out = an adapter with the defaults below."""

    optimization: OptimizationRequest = Field(default_factory=OptimizationRequest)
    cadence: CadenceRequest = Field(default_factory=CadenceRequest)
    selection: SelectionSpec = Field(default_factory=SelectionSpec)
    """Which evaluation counts as the best, and what follows from that."""

    sampling: SamplingRequest | None = None
    """What the model is asked during training."""

    resources: ResourcesSpec | None = None
    """None = what the server gives a job by itself."""


class MlflowRequest(Frozen):
    """A run on an MLflow server."""

    tracking_uri: Text
    """Address of the server."""

    experiment_name: Name = "tunesmith"
    run_name: Name | None = None
    """Unless said, the job's name."""

    tags: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)
    secret: Text | None = None
    """Stored credentials, by id or name; unless said, those called `mlflow` if they are for this server."""


class WandbRequest(Frozen):
    """A run at Weights & Biases."""

    project: Name = "tunesmith"
    entity: Name | None = None
    """User or team; unless said, the key's own."""

    name: Name | None = None
    """Unless said, the job's name."""

    tags: Annotated[tuple[LabelKey, ...], Field(max_length=64)] = ()
    secret: Text | None = None
    """Stored key, by id or name; unless said, the one called `wandb`. Without any, the run is written to files."""


class HubRequest(Frozen):
    """A repository on the hub for the result."""

    output_repo_name: Text
    """`owner/name`; made if there is none."""

    private: bool = True
    """Of a repository that has to be made."""

    secret: Text
    """Stored token, by id or name."""


class IntegrationsRequest(Frozen):
    """Services that are told of the job, or get its result."""

    mlflow: MlflowRequest | None = None
    wandb: WandbRequest | None = None
    hub: HubRequest | None = None


class JobRequest(Frozen):
    """A job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"spec": {"model": {"base": "smollm2"}, "data": {"train": {"dataset": "support@1"}}}},
                {
                    "name": "support",
                    "labels": {"team": "help desk"},
                    "spec": {
                        "model": {"base": "smollm2", "dtype": "float32"},
                        "data": {
                            "train": {"address": "s3://rows/support.jsonl", "region": "eu-west-1", "secret": "rows"}
                        },
                        "adapter": {"rank": 8},
                        "optimization": {"learning_rate": 0.0001, "epochs": 2},
                    },
                },
            ]
        }
    )

    spec: SpecRequest
    name: Name | None = None
    """Name to register the result under; a name that exists gets a new version."""

    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Your part of the produced model's id."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=16)
    """Your own keys and values, for filters."""

    priority: int = Field(default=1, ge=0, le=3)
    """0 low, 1 normal, 2 high, 3 urgent: higher ones leave the queue first, equal ones in order of arrival."""

    project: Text | None = None
    """Id of a project of the organisation."""

    when_busy: Literal["queue", "reject"] = "queue"
    """Whether to wait, or to be refused with 409 while another job waits or runs."""

    integrations: IntegrationsRequest | None = None
    """Services that are told of the job, or get its result."""


def _strictly(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """JSON's own types only: no number in quotes, no 1.0 for a whole number, at any depth."""
    if not isinstance(value, dict):
        return check(value)  # no JSON, or no object: refused
    return JobRequest.model_validate_json(json.dumps(value), strict=True)


JobBody = Annotated[JobRequest, WrapValidator(_strictly)]


class PriorityRequest(Frozen):
    """A place in the queue."""

    model_config = ConfigDict(strict=True)

    priority: int = Field(ge=0, le=3)
    """0 low, 1 normal, 2 high, 3 urgent."""
