"""The body of `POST /train`.

Source: `api/const.py` of the origin; where its page shows no default, the code's.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from tunesmith.dialects._wire import WHOLE_CONTEXT, Wire
from tunesmith.spec.job import MAX_BATCH_SIZE


def _number(value: Any) -> Any:
    """The page shows the learning rate as a string in requests and as a number in answers."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("must be a number, or a number written as text such as '2.0e-5'") from None
    return value


def _none_text(value: Any) -> Any:
    return None if value == "None" else value


Rate = Annotated[
    float,
    BeforeValidator(_number),
    Field(gt=0, le=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}]}),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class TrainingRequest(Wire):
    """What to train."""

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "Qwen/Qwen2.5-1.5B-Instruct"
    dataset_version: Name = "v1.0"
    """Name of a registered dataset."""

    template: Name = "qwen"
    """LLaMA-Factory's name of a chat template. The model's own template is used; the job says so."""

    cutoff_len: int = Field(default=2048, ge=8, le=WHOLE_CONTEXT)
    max_samples: int = Field(default=10_000, ge=1)
    batch_size: int = Field(default=1, ge=1, le=1024)
    gradient_accumulation_steps: int = Field(default=8, ge=1, le=1024)
    training_type: Literal["pt", "sft", "rm", "ppo", "dpo", "kto"] = "sft"
    """LLaMA-Factory's stages."""

    learning_rate: Rate = 2.0e-5
    num_epochs: float = Field(default=3.0, gt=0, le=1000)
    save_steps: int = Field(default=1000, ge=1)
    lora_name: Annotated[Name | None, BeforeValidator(_none_text)] = "initial-sft"
    """Registered adapter to continue from, where there is one."""

    lora_version: Annotated[str | None, BeforeValidator(_none_text)] = None
    """Version of it; none = the newest."""

    lora_hf_repo: Annotated[Name | None, BeforeValidator(_none_text)] = None
    """Repository of the hub that holds the adapter to continue from, instead of `lora_name`."""

    adapter_path: str | None = None
    tracking_backend: Literal["wandb", "mlflow"] = Field(
        default="wandb", validation_alias=AliasChoices("tracking_backend", "logging_backend")
    )
    save_name: Name | None = None
    """Name to register the result under; none = `lora_name`."""

    webhook_url: Annotated[AnyHttpUrl, Field(strict=False)] | None = None
    """Told once when the job has succeeded or failed."""

    @property
    def adapter_name(self) -> str | None:
        """`lora_name`, but not its default for a reward model: that neither goes on from an adapter of texts, nor may
        be taken for one by later requests."""
        is_default = "lora_name" not in self.model_fields_set
        return None if self.training_type == "rm" and is_default else self.lora_name

    @model_validator(mode="after")
    def _step_is_possible(self) -> Self:
        rows = self.batch_size * self.gradient_accumulation_steps
        if rows > MAX_BATCH_SIZE:
            raise ValueError(
                f"batch_size x gradient_accumulation_steps must be at most {MAX_BATCH_SIZE} rows a step, got {rows}"
            )
        return self


class TrainingStatus(BaseModel):
    """A training job."""

    job_id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    config: dict[str, Any]
    """The request with its defaults; for a job of another dialect the nearest words."""

    start_time: float
    """Seconds since the epoch: the submission until the job starts, then the start."""

    end_time: float | None
    tracking_url: str | None
    error: str | None
    output_path: str | None


class TrainingAnswer(BaseModel):
    """Answer to a submission."""

    job_id: str
    status: Literal["started", "queued"]
    message: str


class Cancelled(BaseModel):
    """Answer to a cancel."""

    status: Literal["cancelled"]
    message: str


class QueueState(BaseModel):
    """State of the queue."""

    is_training_running: bool
    queue_length: int
    queued_jobs: list[str]


class Information(BaseModel):
    """What this API is."""

    name: str
    version: str
    description: str
    endpoints: dict[str, str]


class Fault(BaseModel):
    """What is wrong with one part of a request."""

    loc: list[str]
    msg: str
    type: str


class InvalidRequest(BaseModel):
    """Answer to a request that cannot be accepted."""

    detail: list[Fault]


class Refusal(BaseModel):
    """Any other error."""

    detail: str
