"""What all tools ask of a spec, in the terms of transformers' Trainer, and what none of them can be told."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import DataSource, JobSpec

_MOST_SEQUENCES_AT_ONCE = 8

_HANDLED = frozenset(
    {
        "model.base", "model.dtype", "model.task", "model.modality", "model.source", "model.revision",
        "model.quantization.bits", "model.quantization.kind", "model.quantization.double",
        "data.train", "data.validation", "data.max_length", "data.over_long", "data.packing",
        "method.kind", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.targets",
        "optimization.optimizer", "optimization.learning_rate", "optimization.schedule", "optimization.warmup_ratio",
        "optimization.weight_decay", "optimization.max_grad_norm", "optimization.epochs", "optimization.max_steps",
        "optimization.batch_size", "optimization.micro_batch_size", "optimization.gradient_checkpointing",
        "optimization.seed",
        "cadence.eval_steps", "cadence.save_steps", "cadence.keep_checkpoints", "cadence.log_steps",
    }
)  # fmt: skip


def batches(spec: JobSpec) -> tuple[int, int]:
    """Sequences of a forward pass on one device, and passes of an optimizer step; their product is the batch size."""
    wanted = spec.optimization.micro_batch_size or _MOST_SEQUENCES_AT_ONCE
    size = spec.optimization.batch_size
    micro = next(count for count in range(min(wanted, size), 0, -1) if size % count == 0)
    return micro, size // micro


def schedule(spec: JobSpec) -> str:
    """The name of the schedule in transformers, whose `constant` knows no warm-up."""
    optimization = spec.optimization
    if optimization.schedule == "constant" and optimization.warmup_ratio > 0:
        return "constant_with_warmup"
    return optimization.schedule


def optimizer(spec: JobSpec) -> str:
    """The name of the optimizer in transformers."""
    return {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_8bit"}[spec.optimization.optimizer]


def rhythm(spec: JobSpec) -> dict[str, Any]:
    """When transformers' Trainer evaluates and saves; none for what is not said."""
    evaluation, saving = spec.cadence.eval_steps, spec.cadence.save_steps
    values: dict[str, Any] = {"eval_strategy": None, "eval_steps": None}
    if spec.data.validation is not None:
        values = {"eval_strategy": "epoch", "eval_steps": None}
        if evaluation != "epoch":
            values = {"eval_strategy": "steps", "eval_steps": evaluation}
    if saving == "epoch":
        return values | {"save_strategy": "epoch", "save_steps": None}
    return values | {"save_strategy": "steps", "save_steps": saving}


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


def open_notes(spec: JobSpec, handled: Collection[str] = ()) -> Iterator[str]:
    """A sentence for each part of a spec that is neither in the file nor at its default."""
    known = _HANDLED | set(handled) | {f"method.parameters.{name}" for name in spec.method.parameters}
    for path, value in _leaves(spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True), ""):
        if not any(path == name or path.startswith(f"{name}.") for name in known):
            yield f"Not expressed here: {path} = {value!r}."
    if spec.optimization.max_grad_norm is None:
        yield "Not expressed here: gradients are not clipped; a very large limit stands for that."
    if spec.data.over_long == "refuse":
        yield "Not expressed here: a row over the length limit fails the job."


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
