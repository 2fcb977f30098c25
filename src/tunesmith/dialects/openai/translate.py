"""From a create request to a spec. Pure: what its names stand for is handed in."""

import math
from typing import Any, Literal

from tunesmith.dialects.openai import integrations
from tunesmith.dialects.openai.hyperparameters import DpoHyperparameters, Hyperparameters, OpenAIHyperparameters
from tunesmith.dialects.openai.reading import NebiusRequestError
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.integrations._door import notes_on
from tunesmith.spec.errors import InvalidRequestError, TooFewExamplesError, UnsupportedError
from tunesmith.spec.frozen import Frozen
from tunesmith.spec.job import (
    AdapterSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    IntegrationSpec,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    StartSpec,
    Submission,
)
from tunesmith.spec.reading import Reading

# OpenAI's own minimum.
MIN_EXAMPLES = 10

# What OpenAI leaves to its server is chosen here: a usual rate for LoRA on all linear layers.
OPENAI_BASE_RATE = 2e-4
"""Learning rate that OpenAI's multiplier is applied to."""

AUTO_BETA = 0.1

_OPENAI_ADAPTER = AdapterSpec(rank=16, alpha=32, dropout=0, targets=("all-linear",))
_OPENAI_LENGTH = 8192
_OPENAI_SEED, _NEBIUS_SEED = 42, 0

# A rate below this hardly changes a weight; it is usual only where an absolute rate was meant.
_LEAST_USUAL_RATE = 1e-7
_MOST_SHOWN = 20

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


class Resolved(Frozen):
    """What the names in a request stand for."""

    model: ModelSpec
    """The weights below; its number format is the request's to choose."""

    start: StartSpec | None
    """Trained weights to begin with."""

    train: DataSource
    validation: DataSource | None
    rows: int
    """Number of rows of the training file."""


def to_spec(request: CreateJob, names: Resolved) -> JobSpec:
    """The canonical description of the asked training.

    Raises:
        UnsupportedError: a field asks for something that is not available.
        InvalidRequestError: fields contradict each other, or exceed the range of the vendor they belong to.
        TooFewExamplesError: fewer rows than OpenAI takes.
    """
    kind = _kind(request)
    if kind == "dpo":
        return _preference_spec(request, names)
    asked = _supervised(request)
    if request.flavour == "nebius":
        return _nebius_spec(request, asked, names)
    return _openai_spec(request, asked, names, MethodSpec(kind="sft"), Reading())


def to_submission(
    request: CreateJob,
    *,
    asked: tuple[IntegrationSpec, ...] = (),
    project: str | None = None,
    idempotency_key: str | None = None,
) -> Submission:
    """What travels beside the spec; `asked` are the request's integrations as they are kept.

    Raises:
        InvalidRequestError: `extra_body` holds a field of the request itself, or the suffix is empty by OpenAI's rules.
    """
    if request.suffix == "" and request.flavour == "openai":
        raise InvalidRequestError("suffix must have 1 to 64 characters, got ''.", param="suffix", hint="Leave it out.")
    return Submission(
        dialect="openai",
        flavour=request.flavour,
        request=request.model_dump(mode="json", exclude_unset=True, exclude={"extra_body"}),
        suffix=request.suffix,
        labels=request.labels,
        project=project,
        idempotency_key=idempotency_key,
        integrations=asked,
        notes=(*_notes(request), *notes_on(asked)),
    )


def _notes(request: CreateJob) -> tuple[str, ...]:
    extra = request.extra_body or {}
    misplaced = next((name for name in extra if name in CreateJob.model_fields), None)
    if misplaced is not None:
        raise NebiusRequestError(
            f"extra_body.{misplaced} has a place of its own in the request.",
            param=f"extra_body.{misplaced}",
            hint=f"Send it as {misplaced!r} at the top.",
        )
    unknown = [*request.unknown, *(f"extra_body.{name}" for name in extra)]
    notes = [_unknown_note(unknown)] if unknown else []
    supervised = _supervised(request)
    if request.flavour == "nebius" and "learning_rate_multiplier" in supervised.model_fields_set:
        notes.append("learning_rate_multiplier has no effect beside Nebius's fields, whose learning_rate is absolute.")
    if request.flavour == "nebius" and not supervised.lora:
        notes += [
            f"{name} has no effect: all weights are tuned, as lora is not true."
            for name in ("lora_r", "lora_alpha", "lora_dropout")
            if getattr(supervised, name) not in (None, getattr(_NEBIUS, name))
        ]
    preference = request.method is not None and request.method.type == "dpo"
    if preference or request.flavour == "openai":
        notes += _rate_notes(_preference(request) if preference else supervised)
    notes += integrations.notes_on(request.integrations or ())
    return tuple(notes)


def _rate_notes(asked: OpenAIHyperparameters) -> list[str]:
    rate = _openai_rate(asked)
    if rate >= _LEAST_USUAL_RATE:
        return []
    return [
        f"learning_rate_multiplier {asked.learning_rate_multiplier:g} times the base rate of {OPENAI_BASE_RATE:g} is a "
        f"learning rate of {rate:g}, at which hardly anything is learnt. It is not an absolute rate; 1 is usual."
    ]


def _unknown_note(paths: list[str]) -> str:
    shown = ", ".join(repr(path[:100]) for path in paths[:_MOST_SHOWN])
    more = f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else ""
    return f"Keys that are not known here and have no effect: {shown}{more}."


def _kind(request: CreateJob) -> Literal["supervised", "dpo"]:
    """The method, with all that belongs to another one refused."""
    method = request.method
    if method is None:
        return "supervised"
    own = method.type.replace("-", "_")
    for part in ("supervised", "dpo", "reinforcement", "spec_draft"):
        if part != own and getattr(method, part) is not None:
            raise InvalidRequestError(
                f"method.{part} does not belong to method.type {method.type!r}.", param=f"method.{part}"
            )
    if method.type in ("reinforcement", "spec-draft"):
        raise UnsupportedError(
            f"method.type {method.type!r} is well formed, but this version has no such method yet.",
            param="method.type",
        )
    if method.type == "dpo" and request.hyperparameters is not None and request.hyperparameters.model_fields_set:
        raise InvalidRequestError(
            "hyperparameters are those of method.type 'supervised'.",
            param="hyperparameters",
            hint="Put them into method.dpo.hyperparameters.",
        )
    return "dpo" if method.type == "dpo" else "supervised"


def _supervised(request: CreateJob) -> Hyperparameters:
    supervised = request.method.supervised if request.method else None
    in_method = supervised.hyperparameters if supervised else None
    on_top = request.hyperparameters
    given = [each for each in (in_method, on_top) if each is not None and each.model_fields_set]
    if len(given) > 1 and in_method != on_top:
        raise InvalidRequestError(
            "hyperparameters and method.supervised.hyperparameters differ; send only one of them.",
            param="hyperparameters",
        )
    return given[0] if given else Hyperparameters()


def _preference(request: CreateJob) -> DpoHyperparameters:
    part = request.method.dpo if request.method else None
    return (part.hyperparameters if part else None) or DpoHyperparameters()


def _preference_spec(request: CreateJob, names: Resolved) -> JobSpec:
    asked = _preference(request)
    beta = AUTO_BETA if asked.beta == "auto" else asked.beta
    method = MethodSpec(kind="dpo", parameters={"beta": beta})
    return _openai_spec(request, asked, names, method, Reading(format="preference"))


def _openai_spec(
    request: CreateJob, asked: OpenAIHyperparameters, names: Resolved, method: MethodSpec, reading: Reading
) -> JobSpec:
    rows = names.rows
    if rows < MIN_EXAMPLES:
        raise TooFewExamplesError(
            f"training_file has {rows} examples, but must have at least {MIN_EXAMPLES}.", param="data.train"
        )
    batch_size = _auto_batch_size(rows) if asked.batch_size == "auto" else asked.batch_size
    epochs = _auto_epochs(rows) if asked.n_epochs == "auto" else asked.n_epochs
    return JobSpec(
        model=_model(names, asked),
        init_from=names.start,
        data=DataSpec(
            train=names.train,
            validation=names.validation,
            max_length=_OPENAI_LENGTH,
            over_long="drop",
            packing=False,
            max_samples=None,
            reading=reading,
        ),
        method=method,
        adapter=_OPENAI_ADAPTER,
        optimization=OptimizationSpec(
            learning_rate=_openai_rate(asked),
            schedule="linear",
            warmup_ratio=0.03,
            weight_decay=0.0,
            max_grad_norm=1.0,
            epochs=epochs,
            max_steps=None,
            batch_size=batch_size,
            micro_batch_size=None,
            seed=_OPENAI_SEED if request.seed is None else request.seed,
        ),
        cadence=_PER_EPOCH,
    )


def _nebius_spec(request: CreateJob, asked: Hyperparameters, names: Resolved) -> JobSpec:
    given = {name: getattr(asked, name) for name in asked.model_fields_set}
    ours = {name: value for name, value in given.items() if value is not None and value != "auto"}
    chosen = _NEBIUS.model_copy(update=ours)
    _check_nebius_range("batch_size", chosen.batch_size, 64)
    _check_nebius_range("n_epochs", chosen.n_epochs, 20)
    adapter = AdapterSpec(
        rank=_set(chosen.lora_r), alpha=_set(chosen.lora_alpha), dropout=_set(chosen.lora_dropout),
        targets=("all-linear",),
    )  # fmt: skip
    return JobSpec(
        model=_model(names, asked),
        init_from=names.start,
        data=DataSpec(
            train=names.train,
            validation=names.validation,
            max_length=_set(chosen.context_length),
            over_long="refuse",
            packing=_set(chosen.packing),
            max_samples=None,
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
            seed=_NEBIUS_SEED if request.seed is None else request.seed,
        ),
        cadence=_PER_EPOCH,
    )


_PER_EPOCH = CadenceSpec(eval_steps="epoch", save_steps="epoch", keep_checkpoints=None)


def _model(names: Resolved, asked: OpenAIHyperparameters) -> ModelSpec:
    return names.model.model_copy(update={"dtype": asked.dtype or "bfloat16"})


def _openai_rate(asked: OpenAIHyperparameters) -> float:
    multiplier: float = 1.0 if asked.learning_rate_multiplier == "auto" else asked.learning_rate_multiplier
    return OPENAI_BASE_RATE * multiplier


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
        raise NebiusRequestError(
            f"{name} must be from 1 to {maximum} by Nebius's rules, got {value}.", param=f"optimization.{name}"
        )


def _set(value: Any) -> Any:
    assert value is not None  # every field of the defaults is filled
    return value
