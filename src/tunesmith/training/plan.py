"""The plan of a training, and what would make it fit."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tunesmith.devices import CPU, memory_bytes
from tunesmith.spec.errors import DoesNotFitError
from tunesmith.spec.job import AdapterSpec, AttemptSpec, DeviceFacts, JobSpec, QuantizationSpec
from tunesmith.spec.plan import Alternative, Count, DiskPlan, MemoryPlan, Plan, RowsPlan, shown
from tunesmith.training.diffusion.planning import planned_transformer
from tunesmith.training.keeping import CRASH_CHECKPOINTS_KEPT
from tunesmith.training.memory import choose
from tunesmith.training.plan_model import PlannedModel, planned_model
from tunesmith.training.scaling import longest_of_all

_SHORTEST = 128
"""Tokens below which a length limit is not worth proposing."""

_LORA = AdapterSpec(rank=16, alpha=32, dropout=0, targets=("all-linear",))

Fits = Literal["yes", "perhaps", "no", "unknown"]


_Change = tuple[str, dict[str, Any]]
"""In words, and paths of the spec with their values."""


def plan_of(attempt: AttemptSpec, rows: RowsPlan) -> Plan:
    """What an attempt's job will cost, but for the time. A plan also tells what would fit for sure; a check only if the
    job does not fit, as that takes longer than the rest.

    Raises:
        ModelLoadError: the model's configuration cannot be used.
        AdapterError: the adapter cannot be put on the model.
    """
    device = attempt.device or DeviceFacts(name=CPU.name, memory=memory_bytes(CPU))
    planner = _Planner(attempt, rows, device)
    model = planner.model(attempt.spec)
    memory = planner.memory(attempt.spec, rows) if model.is_counted else None
    fits = _fits(memory, device, model.footprint.least)
    wants_ways = memory is not None and (fits == "no" or (fits == "perhaps" and attempt.purpose == "plan"))
    return Plan(
        rows=rows,
        parameters=model.footprint.parameters,
        trained_parameters=model.footprint.trained,
        device=device.name,
        device_memory=device.memory,
        memory=memory,
        memory_note=None if memory else _unknown_beyond(model.footprint.least),
        fits=fits,
        alternatives=tuple(planner.alternatives()) if wants_ways else (),
        disk=_disk(attempt, rows, model),
    )


class _Planner:
    """Memory of one job, as it is asked for and with changes."""

    def __init__(self, attempt: AttemptSpec, rows: RowsPlan, device: DeviceFacts) -> None:
        self._attempt = attempt
        self._rows = rows
        self._device = device
        self._models: dict[str, PlannedModel] = {}

    def model(self, spec: JobSpec) -> PlannedModel:
        """What a spec makes of the base model. Counting takes a moment, so that equal ones are counted once."""
        key = f"{spec.model.model_dump_json()} {spec.adapter} {spec.optimization.optimizer}"
        if key not in self._models:
            inputs = self._attempt.inputs
            on_gpu = self._device.name != CPU.name
            self._models[key] = (
                planned_transformer(inputs.model, spec, on_gpu=on_gpu)
                if spec.model.modality == "image"
                else planned_model(inputs.model, spec, inputs.adapter, on_gpu=on_gpu)
            )
        return self._models[key]

    def memory(self, spec: JobSpec, rows: RowsPlan) -> MemoryPlan:
        """Peak memory with the passes that the engine would choose on the device."""
        optimization, footprint, longest = spec.optimization, self.model(spec).footprint, _longest(rows)
        asked = optimization.micro_batch_size
        passes = choose(
            footprint,
            memory=self._device.memory,
            longest=longest,
            recompute=optimization.gradient_checkpointing,
            sequences=asked,
        )
        most = longest * min(optimization.batch_size, rows.sequences.high, asked or optimization.batch_size)
        return footprint.peak(
            surely=_surely(spec, rows),
            at_most=most if asked else max(longest, min(passes.token_budget, most)),
            recompute=passes.recompute,
        )

    def alternatives(self) -> Iterator[Alternative]:
        """Each change that is enough by itself; where none is, the first ones that are enough together."""
        can_recompute = self.model(self._attempt.spec).footprint.can_recompute
        changes = list(_changes(self._attempt, self._rows, can_recompute))
        alone = [found for change in changes if (found := self._tried([change])) is not None]
        yield from alone
        together: list[_Change] = []
        while changes and not alone:
            change = changes.pop(0)
            # The shorter of two lengths takes the other's place.
            together = [each for each in together if not each[1].keys() & change[1].keys()] + [change]
            found = self._tried(together)
            if found is not None:
                yield found
                return

    def _tried(self, changes: list[_Change]) -> Alternative | None:
        """The job with some changes, if it surely fits then."""
        settings = {path: value for _, changed in changes for path, value in changed.items()}
        spec = changed_spec(self._attempt.spec, settings)
        length = spec.data.max_length
        rows = self._rows.model_copy(
            update={
                "longest_sequence": min(self._rows.longest_sequence, length * self._rows.token_sequences),
                "max_length": min(self._rows.max_length, length),
            }
        )
        memory = self.memory(spec, rows)
        if memory.high > self._device.memory:
            return None
        return Alternative(change=" and ".join(words for words, _ in changes), settings=settings, memory=memory)


def require_room(plan: Plan) -> None:
    """Refuse a job that surely does not fit.

    Raises:
        DoesNotFitError: not even the low end of its memory does.
    """
    if plan.fits != "no":
        return
    if plan.memory is None:
        raise DoesNotFitError(
            f"The job does not fit into the {shown(plan.device_memory)} of the largest device of this server "
            f"({plan.device}). {plan.memory_note}",
            param="model.base",
            hint="Use 4-bit weights with an adapter, a smaller base model, or a server with larger devices.",
        )
    ways = "; ".join(f"{each.change} (up to {shown(each.memory.high)})" for each in plan.alternatives)
    needed, available = shown(plan.memory.low), shown(plan.device_memory)
    if needed == available:  # rounded
        needed, available = f"{plan.memory.low:,} bytes", f"{plan.device_memory:,} bytes"
    raise DoesNotFitError(
        f"The job needs at least {needed} of memory, and the largest device of this server ({plan.device}) has "
        f"{available}.",
        param="model.base",
        hint=f"This would fit: {ways}." if ways else "Use a smaller base model, or a server with larger devices.",
    )


def _unknown_beyond(least: int) -> str:
    return (
        f"Weights, gradients and the optimizer take at least {shown(least)}; what a forward pass keeps of this "
        "architecture cannot be told in advance."
    )


def _longest(rows: RowsPlan) -> int:
    """Tokens of the longest sequence for which memory is to suffice."""
    if not rows.sampled:
        return rows.longest_sequence
    return longest_of_all(rows.longest_sequence, rows.max_length * rows.token_sequences)


def _surely(spec: JobSpec, rows: RowsPlan) -> int:
    """Tokens of a pass that is bound to occur: that of the longest sequence if all are trained, and one that has no
    fewer than the average."""
    optimization = spec.optimization
    average = rows.tokens.low / max(1, rows.sequences.high)
    full = optimization.micro_batch_size if rows.sequences.low >= optimization.batch_size else 1
    trains_all = optimization.epochs >= 1 and optimization.max_steps is None
    return max(rows.longest_sequence if trains_all else 1, int(average * (full or 1)))


def _fits(memory: MemoryPlan | None, device: DeviceFacts, least: int) -> Fits:
    if memory is None:
        return "no" if least > device.memory else "unknown"
    if memory.high <= device.memory:
        return "yes"
    return "no" if memory.low > device.memory else "perhaps"


def _changes(attempt: AttemptSpec, rows: RowsPlan, can_recompute: bool) -> Iterator[_Change]:
    """What could be changed, the least hurtful first."""
    spec, is_adapted = attempt.spec, attempt.spec.adapter is not None or attempt.inputs.adapter is not None
    if (spec.optimization.micro_batch_size or 1) > 1:
        yield "a micro-batch of 1", {"optimization.micro_batch_size": 1}
    if can_recompute and spec.optimization.gradient_checkpointing is False:
        yield "gradient checkpointing", {"optimization.gradient_checkpointing": True}
    if spec.model.dtype == "float32":
        yield "bfloat16", {"model.dtype": "bfloat16"}
    if not is_adapted:
        if spec.optimization.optimizer == "adamw":
            yield "an optimizer with 8-bit moments", {"optimization.optimizer": "adamw_8bit"}
        yield f"an adapter of rank {_LORA.rank}", {"adapter": _LORA.model_dump(mode="json")}
    if spec.model.quantization is None:
        adapter = {} if is_adapted else {"adapter": _LORA.model_dump(mode="json")}
        words = "4-bit weights" if is_adapted else f"4-bit weights with an adapter of rank {_LORA.rank}"
        yield words, {"model.quantization": QuantizationSpec(bits=4).model_dump(mode="json"), **adapter}
    length = 1 << (min(rows.max_length, rows.longest_sequence) - 1).bit_length()
    while (length := length // 2) >= _SHORTEST:
        yield f"at most {length} tokens a row", {"data.max_length": length}


def changed_spec(spec: JobSpec, settings: Mapping[str, Any]) -> JobSpec:
    """A spec with other values, as JSON has them, at some paths such as `model.dtype`."""
    values = spec.model_dump(mode="json")
    for path, value in settings.items():
        *parts, name = path.split(".")
        target = values
        for part in parts:
            target = target[part]
        target[name] = value
    return JobSpec.model_validate(values)


def _disk(attempt: AttemptSpec, rows: RowsPlan, model: PlannedModel) -> DiskPlan:
    footprint, cadence = model.footprint, attempt.spec.cadence
    weights = model.adapter_bytes or footprint.parameters * footprint.number_bytes
    checkpoint = (model.adapter_bytes or 4 * footprint.trained) + int(footprint.trained * footprint.moment_bytes)
    saves = [_saves(attempt, steps) for steps in (rows.steps.low, rows.steps.high)]
    kept = [min(count, cadence.keep_checkpoints or count) for count in saves]
    return DiskPlan(
        base=_weights_on_disk(attempt.inputs.model),
        artifact=weights,
        checkpoint=checkpoint,
        checkpoints=Count(low=kept[0] * checkpoint, high=(kept[1] + CRASH_CHECKPOINTS_KEPT) * checkpoint),
    )


def _saves(attempt: AttemptSpec, steps: int) -> int:
    """Checkpoints that are offered: those of the cadence, and one at the end."""
    every, optimization = attempt.spec.cadence.save_steps, attempt.spec.optimization
    if every == "epoch":
        return max(1, int(min(optimization.epochs, steps)))
    return -(-steps // every)


def _weights_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
