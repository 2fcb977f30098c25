"""The create request: OpenAI's fields and Nebius's, whose ranges are those of the vendors' own schemas.

Sources: OpenAI's OpenAPI document, `CreateFineTuningJobRequest`; Nebius's, `FineTuningRequest`. A request that uses any
of Nebius's own fields is read by Nebius's rules: absolute learning rate, full tuning unless `lora` is true.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator


def _auto_or(check: Callable[[Any], bool], allowed: str) -> BeforeValidator:
    def validate(value: Any) -> Any:
        if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and check(value)):
            return value
        raise ValueError(f"must be 'auto' or {allowed}")

    return BeforeValidator(validate)


def _auto_schema(number: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": "auto", "type": "string"}, number], "default": "auto"})


AutoBatchSize = Annotated[
    Any,
    _auto_or(lambda value: isinstance(value, int) and 1 <= value <= 256, "a whole number from 1 to 256"),
    _auto_schema({"type": "integer", "minimum": 1, "maximum": 256}),
]
AutoEpochs = Annotated[
    Any,
    _auto_or(lambda value: isinstance(value, int) and 1 <= value <= 50, "a whole number from 1 to 50"),
    _auto_schema({"type": "integer", "minimum": 1, "maximum": 50}),
]
AutoMultiplier = Annotated[
    Any,
    _auto_or(lambda value: 1e-9 <= value <= 10_000, "a number above 0 (at least 1e-9), at most 10000"),
    _auto_schema({"type": "number", "minimum": 1e-9, "maximum": 10_000}),
]


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Hyperparameters(_Wire):
    """Settings of supervised fine-tuning."""

    batch_size: AutoBatchSize = "auto"
    learning_rate_multiplier: AutoMultiplier = "auto"
    n_epochs: AutoEpochs = "auto"

    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Nebius: peak rate, absolute."""

    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    weight_decay: float | None = Field(default=None, ge=0)
    packing: bool | None = None
    """Nebius: whether `batch_size` counts packed sequences (true) or rows (false)."""

    max_grad_norm: float | None = Field(default=None, gt=0)
    context_length: int | None = Field(default=None, ge=8192, le=131072)
    lora: bool | None = None
    """Nebius: an adapter instead of full weights."""

    lora_r: int | None = Field(default=None, ge=8, le=128)
    lora_alpha: int | None = Field(default=None, ge=8)
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)

    dtype: Literal["bfloat16", "float32"] | None = None
    """Tunesmith's own: number format of the arithmetic; bfloat16 unless said."""


NEBIUS_FIELDS = frozenset(
    {
        "learning_rate",
        "warmup_ratio",
        "weight_decay",
        "packing",
        "max_grad_norm",
        "context_length",
        "lora",
        "lora_r",
        "lora_alpha",
        "lora_dropout",
    }
)


class SupervisedMethod(_Wire):
    """The settings of `method.supervised`."""

    hyperparameters: Hyperparameters | None = None


class Method(_Wire):
    """How to train."""

    type: str
    supervised: SupervisedMethod | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None
    spec_draft: dict[str, Any] | None = None


class CreateJob(_Wire):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    training_file: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    validation_file: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    suffix: Annotated[str, StringConstraints(max_length=64)] | None = None
    seed: int | None = Field(default=None, ge=0, le=2147483647)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    metadata: dict[str, str] | None = None
    integrations: list[dict[str, Any]] | None = None
    tags: list[str] | str | None = None
    """Nebius: labels; a bare string counts as one."""

    from_checkpoint: dict[str, Any] | None = None
    extra_body: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _metadata_fits(self) -> "CreateJob":
        pairs = self.metadata or {}
        if len(pairs) > 16:
            raise ValueError(f"metadata may have at most 16 pairs, got {len(pairs)}")
        for key, value in pairs.items():
            if not 1 <= len(key) <= 64 or len(value) > 512:
                raise ValueError(
                    f"metadata keys have 1 to 64 characters and values at most 512; {key[:70]!r} does not fit"
                )
        return self
