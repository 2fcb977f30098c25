"""From a create request to a spec. Pure: what it must know about the files is handed in."""

import math
from typing import Any, Literal

from tunesmith.dialects.openai.wire import NEBIUS_FIELDS, CreateJob, Hyperparameters
from tunesmith.spec.errors import InvalidRequestError, TooFewExamplesError, UnsupportedError
from tunesmith.spec.job import (
    AdapterSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    Submission,
)

# OpenAI's own minimum.
MIN_EXAMPLES = 10

# What OpenAI leaves to its server is chosen here: a usual rate for LoRA on all linear layers.
OPENAI_BASE_RATE = 2e-4
"""Learning rate that OpenAI's multiplier is applied to."""

_OPENAI_ADAPTER = AdapterSpec(rank=16, alpha=32, dropout=0, targets=("all-linear",))
_OPENAI_LENGTH = 8192
_DEFAULT_SEED = 42

# Nebius's documented defaults.
_NEBIUS = Hyperparameters(
    batch_size=8,
    learning_rate=1e-5,
    n_epochs=3,
    warmup_ratio=0.0,
    weight_decay=0.0,
    packing=True,
    max_grad_norm=1.0,
    context_length=8192,
    lora=False,
    lora_r=8,
    lora_alpha=8,
    lora_dropout=0.0,
)


def to_spec(request: CreateJob, *, train: DataSource, validation: DataSource | None, rows: int) -> JobSpec:
    """The canonical description of the asked training.

    Args:
        request: as it came over the wire.
        train: the training file.
        validation: the validation file, if one was named.
        rows: number of rows of the training file.

    Raises:
        UnsupportedError: a field asks for something that is not available.
        InvalidRequestError: fields contradict each other, or exceed the range of the dialect they belong to.
        TooFewExamplesError: fewer rows than OpenAI takes.
    """
    _refuse_unavailable(request)
    asked = _hyperparameters(request)
    seed = request.seed if request.seed is not None else _DEFAULT_SEED
    if is_nebius(request):
        return _nebius_spec(request, asked, train, validation, seed)
    if rows < MIN_EXAMPLES:
        raise TooFewExamplesError(
            f"training_file has {rows} examples, but must have at least {MIN_EXAMPLES}.", param="data.train"
        )
    return _openai_spec(request, asked, train, validation, seed, rows)


def to_submission(request: CreateJob) -> Submission:
    """What travels beside the spec."""
    return Submission(
        dialect="openai",
        request=request.model_dump(mode="json", exclude_unset=True, exclude={"integrations", "extra_body"}),
        suffix=request.suffix,
        labels=request.metadata or {},
    )


def is_nebius(request: CreateJob) -> bool:
    """Whether the request uses a field that only Nebius has."""
    asked = _hyperparameters(request)
    return bool(asked.model_fields_set & NEBIUS_FIELDS) or request.tags is not None


def _hyperparameters(request: CreateJob) -> Hyperparameters:
    supervised = request.method.supervised if request.method else None
    in_method = supervised.hyperparameters if supervised else None
    on_top = request.hyperparameters
    if in_method is not None and on_top is not None and in_method != on_top:
        raise InvalidRequestError(
            "hyperparameters and method.supervised.hyperparameters differ; send only one of them.",
            param="hyperparameters",
        )
    return in_method or on_top or Hyperparameters()


def _refuse_unavailable(request: CreateJob) -> None:
    if request.method and request.method.type != "supervised":
        raise UnsupportedError(
            f"method.type {request.method.type!r} is not available; available: 'supervised'.", param="method.type"
        )
    method = request.method
    unavailable = {
        "method.dpo": method and method.dpo,
        "method.reinforcement": method and method.reinforcement,
        "method.spec_draft": method and method.spec_draft,
        "integrations": request.integrations,
        "from_checkpoint": request.from_checkpoint,
        "extra_body": request.extra_body,
    }
    for name, value in unavailable.items():
        if value:
            raise UnsupportedError(f"{name} is not available in this version.", param=name, hint="Leave it out.")


def _openai_spec(
    request: CreateJob,
    asked: Hyperparameters,
    train: DataSource,
    validation: DataSource | None,
    seed: int,
    rows: int,
) -> JobSpec:
    batch_size = _auto_batch_size(rows) if asked.batch_size == "auto" else asked.batch_size
    epochs = _auto_epochs(rows) if asked.n_epochs == "auto" else asked.n_epochs
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else asked.learning_rate_multiplier
    return JobSpec(
        model=_model(request, asked),
        init_from=None,
        data=_data(train, validation, length=_OPENAI_LENGTH, over_long="drop", packing=False),
        method=MethodSpec(kind="sft"),
        adapter=_OPENAI_ADAPTER,
        optimization=OptimizationSpec(
            learning_rate=OPENAI_BASE_RATE * multiplier,
            schedule="linear",
            warmup_ratio=0.03,
            weight_decay=0.0,
            max_grad_norm=1.0,
            epochs=epochs,
            max_steps=None,
            batch_size=batch_size,
            micro_batch_size=None,
            seed=seed,
        ),
        cadence=_PER_EPOCH,
    )


def _nebius_spec(
    request: CreateJob, asked: Hyperparameters, train: DataSource, validation: DataSource | None, seed: int
) -> JobSpec:
    given = {name: getattr(asked, name) for name in asked.model_fields_set}
    ours = {name: value for name, value in given.items() if value is not None and value != "auto"}
    if "learning_rate_multiplier" in ours:
        raise InvalidRequestError(
            "hyperparameters.learning_rate_multiplier cannot stand beside Nebius's fields, whose learning_rate is "
            "absolute.",
            param="hyperparameters.learning_rate_multiplier",
        )
    chosen = _NEBIUS.model_copy(update=ours)
    _check_nebius_range("batch_size", chosen.batch_size, 64)
    _check_nebius_range("n_epochs", chosen.n_epochs, 20)
    adapter = AdapterSpec(
        rank=_set(chosen.lora_r), alpha=_set(chosen.lora_alpha), dropout=_set(chosen.lora_dropout),
        targets=("all-linear",),
    )  # fmt: skip
    return JobSpec(
        model=_model(request, asked),
        init_from=None,
        data=_data(
            train, validation, length=_set(chosen.context_length), over_long="refuse", packing=_set(chosen.packing)
        ),
        method=MethodSpec(kind="sft"),
        adapter=adapter if chosen.lora else None,
        optimization=OptimizationSpec(
            learning_rate=_set(chosen.learning_rate),
            schedule="linear",
            warmup_ratio=_set(chosen.warmup_ratio),
            weight_decay=_set(chosen.weight_decay),
            max_grad_norm=chosen.max_grad_norm,
            epochs=chosen.n_epochs,
            max_steps=None,
            batch_size=chosen.batch_size,
            micro_batch_size=None,
            seed=seed,
        ),
        cadence=_PER_EPOCH,
    )


_PER_EPOCH = CadenceSpec(eval_steps="epoch", save_steps="epoch", keep_checkpoints=None)


def _model(request: CreateJob, asked: Hyperparameters) -> ModelSpec:
    return ModelSpec(base=request.model, dtype=asked.dtype or "bfloat16")


def _data(
    train: DataSource,
    validation: DataSource | None,
    *,
    length: int,
    over_long: Literal["drop", "refuse"],
    packing: bool,
) -> DataSpec:
    return DataSpec(
        train=train,
        validation=validation,
        max_length=length,
        over_long=over_long,
        packing=packing,
        max_samples=None,
    )


def _auto_batch_size(rows: int) -> int:
    """About 0.2 % of the rows."""
    return max(1, min(256, round(0.002 * rows)))


def _auto_epochs(rows: int) -> int:
    """Three, moved so that between 100 and 25,000 examples are seen."""
    if rows * 3 < 100:
        return min(25, math.ceil(100 / rows))
    if rows * 3 > 25_000:
        return max(1, 25_000 // rows)
    return 3


def _check_nebius_range(name: str, value: int, maximum: int) -> None:
    if value > maximum:
        raise InvalidRequestError(
            f"hyperparameters.{name} must be from 1 to {maximum} beside Nebius's fields, got {value}.",
            param=f"hyperparameters.{name}",
        )


def _set(value: Any) -> Any:
    assert value is not None  # every field of the defaults is filled
    return value
