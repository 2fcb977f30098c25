"""For ms-swift: `sh ms-swift.sh`. Names as in its argument classes, version 4.6."""

import json
import shlex
from typing import Any

from tunesmith.recipes._facts import (
    batches,
    begins_with_principal_parts,
    choice,
    chooses,
    comments,
    data_notes,
    file_of,
    open_notes,
    optimizer,
    parameter,
    refuse_others,
    rhythm,
    schedule,
    schedule_arguments,
    schedule_notes,
    train_on,
)
from tunesmith.spec.job import JobSpec

FILENAME = "ms-swift.sh"

_KINDS = {"sft": "sft", "classification": "sft", "dpo": "dpo", "orpo": "orpo", "kto": "kto", "reward": "rm"}
_OVER_LONG = {"drop": "delete", "truncate": "right", "refuse": "delete"}
_MISSING = ("model.quantization.int8_threshold", "selection.min_improvement")
_LOSS_SCALES = {"assistant": "default", "last": "last_round", "all": "all"}


def write(spec: JobSpec) -> str:
    """The shell script."""
    refuse_others(spec, "ms-swift", _KINDS)
    command = "sft" if _KINDS[spec.method.kind] == "sft" else "rlhf"
    values = _method(spec) | _model(spec) | _data(spec) | _training(spec)
    notes = [*data_notes(spec), *_limits(spec), *open_notes(spec, _MISSING)]
    options = "".join(f" \\\n  --{name} {_word(value)}" for name, value in values.items() if value is not None)
    return f"#!/bin/sh\n{comments(iter(notes))}\nswift {command}{options}\n"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return shlex.quote(json.dumps(value))
    if isinstance(value, list):
        return " ".join(shlex.quote(str(each)) for each in value)
    return shlex.quote(str(value))


def _method(spec: JobSpec) -> dict[str, Any]:
    beta = parameter(spec, "beta", 0.1)
    match spec.method.kind:
        case "sft":
            return {"loss_scale": _LOSS_SCALES[train_on(spec)]}
        case "classification":
            return {
                "task_type": "seq_cls",
                "num_labels": parameter(spec, "labels", None),
                "problem_type": "single_label_classification",
            }
        case "dpo":
            smoothing = parameter(spec, "label_smoothing", 0.0)
            return {
                "rlhf_type": "dpo",
                "beta": beta,
                "loss_type": parameter(spec, "loss", "sigmoid"),
                "label_smoothing": smoothing,
            }
        case "kto":
            return {
                "rlhf_type": "kto",
                "beta": beta,
                "desirable_weight": parameter(spec, "desirable_weight", 1.0),
                "undesirable_weight": parameter(spec, "undesirable_weight", 1.0),
            }
        case "reward":
            center = parameter(spec, "center_coefficient", 0.0)
            return {"rlhf_type": "rm", "center_rewards_coefficient": center or None}
        case _:
            return {"rlhf_type": "orpo", "beta": beta}


def _model(spec: JobSpec) -> dict[str, Any]:
    adapter, quantization = spec.adapter, spec.model.quantization
    values: dict[str, Any] = {
        "model": spec.model.base,
        "model_revision": spec.model.revision,
        "use_hf": True,
        "torch_dtype": spec.model.dtype,
        "tuner_type": "full" if adapter is None else "lora",
    }
    if adapter is not None:
        values |= {
            "lora_rank": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "target_modules": list(adapter.targets),
            "use_rslora": adapter.scaling == "rank_stabilized" or None,
            "use_dora": adapter.decomposed or None,
            "init_weights": "pissa" if begins_with_principal_parts(spec) else None,
        }
    if quantization is not None:
        values |= {"quant_method": "bnb", "quant_bits": quantization.bits}
        if quantization.bits == 4:
            values |= {
                "bnb_4bit_quant_type": quantization.kind,
                "bnb_4bit_use_double_quant": quantization.double,
                "bnb_4bit_compute_dtype": spec.model.dtype,
            }
    return values


def _data(spec: JobSpec) -> dict[str, Any]:
    samples = f"#{spec.data.max_samples}" if spec.data.max_samples is not None else ""
    return {
        "dataset": [f"{file_of('train')}{samples}"],
        "val_dataset": [file_of("validation")] if spec.data.validation else None,
        "max_length": spec.data.max_length,
        "truncation_strategy": _OVER_LONG[spec.data.over_long],
        "packing": spec.data.packing,
    }


def _training(spec: JobSpec) -> dict[str, Any]:
    optimization, cadence = spec.optimization, spec.cadence
    micro, accumulation = batches(spec)
    return {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": optimization.epochs,
        "max_steps": optimization.max_steps,
        "optim": optimizer(spec),
        "learning_rate": optimization.learning_rate,
        "lr_scheduler_type": schedule(spec),
        "lr_scheduler_kwargs": schedule_arguments(spec),
        "warmup_ratio": optimization.warmup_ratio,
        "weight_decay": optimization.weight_decay,
        "max_grad_norm": optimization.max_grad_norm or 1e9,
        "neftune_noise_alpha": optimization.neftune_noise_alpha,
        "seed": optimization.seed,
        "data_seed": optimization.seed,
        "gradient_checkpointing": bool(optimization.gradient_checkpointing),
        "logging_steps": cadence.log_steps,
        **rhythm(spec),
        **(choice(spec) | {"early_stop_interval": spec.selection.patience} if chooses(spec) else {}),
        "save_total_limit": cadence.keep_checkpoints,
        "output_dir": "output",
    }


def _limits(spec: JobSpec) -> list[str]:
    found = ["template: ms-swift has templates of its own; name the one of this base model, or its loss may differ."]
    found.extend(schedule_notes(spec))
    if begins_with_principal_parts(spec):
        found.append("The adapter of the unchanged base model is the one in the folder `converted` of a checkpoint.")
    if spec.method.kind == "classification" and parameter(spec, "labels", None) is None:
        found.append("num_labels: add how many classes the rows have.")
    return found
