"""Hyperparameters of each method, with the ranges of the vendors' own schemas.

Sources: OpenAI's OpenAPI document, `CreateFineTuningJobRequest`; Nebius's, `FineTuningRequest`.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class Wire(BaseModel):
    """What every part of a request is made of: no value is converted, no key is passed over."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _auto_or(check: Callable[[Any], bool], allowed: str) -> BeforeValidator:
    def validate(value: Any) -> Any:
        if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and check(value)):
            return value
        raise ValueError(f"must be 'auto' or {allowed}")

    return BeforeValidator(validate)


def _auto_schema(**number: Any) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": "auto", "type": "string"}, number], "default": "auto"})


AutoBatchSize = Annotated[
    Any,
    _auto_or(lambda value: isinstance(value, int) and 1 <= value <= 256, "a whole number from 1 to 256"),
    _auto_schema(type="integer", minimum=1, maximum=256),
]
AutoEpochs = Annotated[
    Any,
    _auto_or(lambda value: isinstance(value, int) and 1 <= value <= 50, "a whole number from 1 to 50"),
    _auto_schema(type="integer", minimum=1, maximum=50),
]
AutoMultiplier = Annotated[
    Any,
    _auto_or(lambda value: 1e-9 <= value <= 10_000, "a number above 0 (at least 1e-9), at most 10000"),
    _auto_schema(type="number", minimum=1e-9, maximum=10_000),
]
AutoBeta = Annotated[
    Any,
    _auto_or(lambda value: 0 < value <= 2, "a number above 0, at most 2"),
    _auto_schema(type="number", exclusiveMinimum=0, maximum=2),
]
AutoCompute = Annotated[
    Any,
    _auto_or(lambda value: 1e-5 < value <= 10, "a number above 0.00001, at most 10"),
    _auto_schema(type="number", exclusiveMinimum=1e-5, maximum=10),
]
AutoCount = Annotated[
    Any,
    _auto_or(lambda value: isinstance(value, int) and value >= 1, "a whole number from 1"),
    _auto_schema(type="integer", minimum=1),
]


class OpenAIHyperparameters(Wire):
    """What all of OpenAI's methods have."""

    batch_size: AutoBatchSize = "auto"
    learning_rate_multiplier: AutoMultiplier = "auto"
    n_epochs: AutoEpochs = "auto"

    dtype: Literal["bfloat16", "float32"] | None = None
    """Tunesmith's own: number format of the arithmetic; bfloat16 unless said."""


class Hyperparameters(OpenAIHyperparameters):
    """Settings of supervised fine-tuning."""

    learning_rate: float | None = Field(default=None, gt=0, le=1)
    """Nebius: peak rate, absolute. At 0 nothing would be learnt."""

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


NEBIUS_FIELDS = frozenset(Hyperparameters.model_fields) - frozenset(OpenAIHyperparameters.model_fields)


class DpoHyperparameters(OpenAIHyperparameters):
    """Settings of preference tuning."""

    beta: AutoBeta = "auto"
    """How firmly the result is held near the model that it starts from; larger is firmer."""


class ReinforcementHyperparameters(OpenAIHyperparameters):
    """Settings of reinforcement."""

    reasoning_effort: Literal["default", "low", "medium", "high"] = "default"
    compute_multiplier: AutoCompute = "auto"
    eval_interval: AutoCount = "auto"
    eval_samples: AutoCount = "auto"


class DraftLoss(Wire):
    """Loss of a drafter."""

    type: Literal["kl", "lk_alpha", "lk_hybrid"] = "kl"


class DraftHyperparameters(Wire):
    """Nebius: settings of a drafter for speculative decoding."""

    batch_size: int = Field(default=8, ge=1, le=64)
    learning_rate: float = Field(default=0.0075, gt=0, lt=1)
    n_epochs: int = Field(default=1, ge=1, le=20)
    warmup_ratio: float = Field(default=0, ge=0, le=1)
    weight_decay: float = Field(default=0, ge=0)
    packing: bool = True
    max_grad_norm: float = Field(default=1, gt=0)
    context_length: int = Field(default=8192, ge=8192, le=131072)
    architecture: str = "eagle3_original"
    num_decoding_heads: int = Field(default=3, ge=1, le=10)
    loss: DraftLoss | None = None
