"""What all tools ask of a spec, in the terms of transformers' Trainer, and what none of them can be told."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import DataSource, JobSpec

_MOST_SEQUENCES_AT_ONCE = 8

SELECTION = (
    "selection.metric",
    "selection.best",
    "selection.patience",
    "selection.min_improvement",
    "selection.result",
)
"""All about the best evaluation."""

_HANDLED = frozenset(
    {
        "model.base", "model.dtype", "model.task", "model.modality", "model.source", "model.revision",
        "model.quantization.bits", "model.quantization.kind", "model.quantization.double",
        "model.quantization.int8_threshold",
        "data.train", "data.validation", "data.max_length", "data.over_long", "data.packing", "data.max_samples",
        "method.kind", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets", "adapter.scaling",
        "adapter.decomposed", "adapter.init",
        "optimization.optimizer", "optimization.learning_rate", "optimization.schedule", "optimization.warmup_ratio",
        "optimization.decay_ratio", "optimization.neftune_noise_alpha",
        "optimization.weight_decay", "optimization.max_grad_norm", "optimization.epochs", "optimization.max_steps",
        "optimization.batch_size", "optimization.micro_batch_size", "optimization.gradient_checkpointing",
        "optimization.seed",
        "cadence.eval_steps", "cadence.save_steps", "cadence.keep_checkpoints", "cadence.log_steps",
        "cadence.evaluate_first",
        *SELECTION,
    }
)  # fmt: skip

_OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
    "adam": "adamw_torch_fused",  # the same without weight decay; with it, there is a note
    "adafactor": "adafactor",
    "sgd": "sgd",
}


def batches(spec: JobSpec) -> tuple[int, int]:
    """Sequences of a forward pass on one device, and passes of an optimizer step; their product is the batch size."""
    wanted = spec.optimization.micro_batch_size or _MOST_SEQUENCES_AT_ONCE
    size = spec.optimization.batch_size
    micro = next(count for count in range(min(wanted, size), 0, -1) if size % count == 0)
    return micro, size // micro


def schedule(spec: JobSpec) -> str:
    """The name of the schedule in transformers, whose `constant` knows no warm-up."""
    match spec.optimization.schedule:
        case "constant" if spec.optimization.warmup_ratio > 0:
            return "constant_with_warmup"
        case "wsd":
            return "warmup_stable_decay"
        case other:
            return other


def schedule_arguments(spec: JobSpec) -> dict[str, int] | None:
    """The lengths of `warmup_stable_decay`, which transformers takes in steps; none where these are not known."""
    steps, optimization = spec.optimization.max_steps, spec.optimization
    if steps is None or optimization.decay_ratio is None:
        return None
    warmup = math.ceil(steps * optimization.warmup_ratio)
    decay = min(math.ceil(steps * optimization.decay_ratio), steps - warmup)
    return {"num_stable_steps": steps - warmup - decay, "num_decay_steps": decay}


def schedule_notes(spec: JobSpec) -> Iterator[str]:
    """What somebody who knows how many steps there are must add."""
    if spec.optimization.schedule == "wsd" and schedule_arguments(spec) is None:
        yield (
            f"lr_scheduler_kwargs: add num_decay_steps, which are {spec.optimization.decay_ratio:g} of all steps, and "
            "num_stable_steps, which are what lies between the warm-up and these."
        )


def optimizer(spec: JobSpec) -> str:
    """The name of the optimizer in transformers."""
    return _OPTIMIZERS[spec.optimization.optimizer]


def rhythm(spec: JobSpec) -> dict[str, Any]:
    """When transformers' Trainer evaluates and saves; none for what is not said."""
    evaluation, saving = spec.cadence.eval_steps, spec.cadence.save_steps
    values: dict[str, Any] = {"eval_strategy": None, "eval_steps": None}
    if spec.data.validation is not None:
        values = _strategy("eval", evaluation) | {"eval_on_start": spec.cadence.evaluate_first or None}
    return values | _strategy("save", saving)


def _strategy(name: str, every: int | Literal["epoch"]) -> dict[str, Any]:
    if every == "epoch":
        return {f"{name}_strategy": "epoch", f"{name}_steps": None}
    return {f"{name}_strategy": "steps", f"{name}_steps": every}


def chooses(spec: JobSpec) -> bool:
    """Whether the job goes by its best evaluation, and by a figure that all tools have."""
    return spec.selection.is_asked_for and spec.selection.metric == "loss" and spec.data.validation is not None


def choice(spec: JobSpec) -> dict[str, Any]:
    """By what transformers' Trainer knows the best evaluation, where the job goes by it. It saves at each, as it can
    take back only what it saved."""
    if not chooses(spec):
        return {}
    return _strategy("save", spec.cadence.eval_steps) | {
        "metric_for_best_model": "loss",
        "greater_is_better": spec.selection.best == "highest",
        "load_best_model_at_end": spec.selection.result == "best",
    }


def begins_with_principal_parts(spec: JobSpec) -> bool:
    """Whether PEFT's PiSSA does what the job asks for. It changes the base, which then is no longer the reference of
    preference training, and which must not be quantized."""
    return (
        spec.adapter is not None
        and spec.adapter.init == "pissa"
        and spec.model.quantization is None
        and spec.method.kind not in ("dpo", "kto")
    )


def parameter(spec: JobSpec, name: str, default: Any) -> Any:
    """A parameter of the method, which has a default of its own."""
    return spec.method.parameters.get(name, default)


def train_on(spec: JobSpec) -> str:
    """Which part of a row carries loss in supervised fine-tuning: `assistant`, `last` or `all`."""
    return str(parameter(spec, "train_on", "assistant"))


def refuse_others(spec: JobSpec, tool: str, kinds: Collection[str]) -> None:
    """Raises UnsupportedError unless the job trains text by one of these methods."""
    if spec.method.kind not in kinds:
        raise UnsupportedError(
            f"{tool} has no counterpart of the method {spec.method.kind!r} here; there is one of: {', '.join(kinds)}.",
            param="format",
        )
    if spec.model.modality != "text":
        raise UnsupportedError(
            f"Recipes for {tool} are of models of text, and this job trains a model of the kind "
            f"{spec.model.modality!r}.",
            param="format",
        )


def data_notes(spec: JobSpec) -> Iterator[str]:
    """Where the rows are, which no tool can fetch by their digest."""
    for name, source in (("train", spec.data.train), ("validation", spec.data.validation)):
        if source is not None:
            yield f"{file_of(name)} stands for {_shown(source)}."
    if spec.model.source != "hub":
        yield f"{spec.model.base!r} is how Tunesmith's server calls the base model: put its folder or hub name there."


def open_notes(spec: JobSpec, missing: Collection[str] = ()) -> Iterator[str]:
    """A sentence for each part of a spec that is neither in the file nor at its default, and for what differs there.

    `missing` names parts that this tool, unlike others, has no word for in this job.
    """
    absent = {*missing, *_missing_everywhere(spec)}
    known = (_HANDLED - absent) | {f"method.parameters.{name}" for name in spec.method.parameters}
    for path, value in _leaves(spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True), ""):
        if not any(path == name or path.startswith(f"{name}.") for name in known):
            yield f"Not expressed here: {path} = {value!r}."
    yield from _differences(spec)
    if "selection.result" not in absent and spec.cadence.save_steps != spec.cadence.eval_steps:
        yield f"Saved at each evaluation, instead of by cadence.save_steps = {spec.cadence.save_steps!r}."


def _missing_everywhere(spec: JobSpec) -> Iterator[str]:
    if not chooses(spec):
        yield from SELECTION
    if not begins_with_principal_parts(spec):
        yield "adapter.init"


def _differences(spec: JobSpec) -> Iterator[str]:
    optimization = spec.optimization
    if optimization.max_grad_norm is None:
        yield "Not expressed here: gradients are not clipped; a very large limit stands for that."
    if spec.data.over_long == "refuse":
        yield "Not expressed here: a row over the length limit fails the job."
    if optimization.optimizer == "adam" and optimization.weight_decay:
        yield "Not expressed here: weights decay through Adam's gradient; AdamW takes their decay apart."
    if optimization.neftune_noise_alpha is not None:
        yield "Not expressed here: noise by each row's own length (NEFTune); there, by the longest of its batch."
    if optimization.max_steps is not None:
        yield "max_steps takes the place of the epochs: rows are read again until it is reached."


def file_of(part: str) -> str:
    """The name of the file with a part's rows."""
    return f"{part}.jsonl"


def comments(lines: Iterator[str]) -> str:
    """Comment lines of YAML, shell and Python alike."""
    return "".join(f"# {' '.join(line.splitlines())}\n" for line in lines)


def _shown(source: DataSource) -> str:
    digest = f"the rows with the SHA-256 {source.sha256}" if source.sha256 else "rows that were never fetched"
    return f"{digest} ({source.kind})"


def _leaves(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
