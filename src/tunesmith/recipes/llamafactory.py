"""For LLaMA-Factory: `llamafactory-cli train llamafactory.yaml`. Names as in its argument classes, version 0.9.5."""

from typing import Any

from tunesmith.recipes._facts import (
    batches,
    begins_with_principal_parts,
    choice,
    chooses,
    comments,
    data_notes,
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
from tunesmith.recipes._yaml import settings
from tunesmith.spec.job import JobSpec

FILENAME = "llamafactory.yaml"

_STAGES = {"sft": "sft", "dpo": "dpo", "orpo": "dpo", "kto": "kto", "reward": "rm"}


def write(spec: JobSpec) -> str:
    """The configuration file."""
    refuse_others(spec, "LLaMA-Factory", _STAGES)
    values = _model(spec) | _method(spec) | _data(spec) | _training(spec)
    notes = [*data_notes(spec), *_limits(spec), *open_notes(spec, _missing(spec))]
    return f"# llamafactory-cli train {FILENAME}\n{comments(iter(notes))}\n{settings(values)}"


def _model(spec: JobSpec) -> dict[str, Any]:
    adapter, quantization = spec.adapter, spec.model.quantization
    values: dict[str, Any] = {
        "model_name_or_path": spec.model.base,
        "model_revision": spec.model.revision,
        "finetuning_type": "full" if adapter is None else "lora",
    }
    if adapter is not None:
        targets = "all" if adapter.targets == ("all-linear",) else ",".join(adapter.targets)
        values |= {
            "lora_rank": adapter.rank,
            "lora_alpha": round(adapter.alpha),
            "lora_dropout": adapter.dropout,
            "lora_target": targets,
            "use_rslora": adapter.scaling == "rank_stabilized" or None,
            "use_dora": adapter.decomposed or None,
        }
    if begins_with_principal_parts(spec):
        values |= {"pissa_init": True, "pissa_iter": -1, "pissa_convert": True}
    if quantization is not None:
        values |= {"quantization_method": "bnb", "quantization_bit": quantization.bits}
        if quantization.bits == 4:
            values |= {"quantization_type": quantization.kind, "double_quantization": quantization.double}
    return values


def _method(spec: JobSpec) -> dict[str, Any]:
    values: dict[str, Any] = {"stage": _STAGES[spec.method.kind], "do_train": True}
    match spec.method.kind:
        case "dpo":
            return values | {
                "pref_loss": parameter(spec, "loss", "sigmoid"),
                "pref_beta": parameter(spec, "beta", 0.1),
                "dpo_label_smoothing": parameter(spec, "label_smoothing", 0.0),
            }
        case "orpo":
            return values | {"pref_loss": "orpo", "pref_beta": parameter(spec, "beta", 0.1)}
        case "kto":
            return values | {
                "pref_beta": parameter(spec, "beta", 0.1),
                "kto_chosen_weight": parameter(spec, "desirable_weight", 1.0),
                "kto_rejected_weight": parameter(spec, "undesirable_weight", 1.0),
            }
        case "sft":
            return values | {"train_on_prompt": train_on(spec) == "all", "mask_history": train_on(spec) == "last"}
        case _:
            return values


def _data(spec: JobSpec) -> dict[str, Any]:
    return {
        "dataset": "train",
        "eval_dataset": "validation" if spec.data.validation else None,
        "dataset_dir": ".",
        "cutoff_len": spec.data.max_length,
        "packing": spec.data.packing,
        "neat_packing": spec.data.packing,
        "max_samples": spec.data.max_samples,
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
        "bf16": spec.model.dtype == "bfloat16",
        "disable_gradient_checkpointing": not optimization.gradient_checkpointing,
        "logging_steps": cadence.log_steps,
        **rhythm(spec),
        **_choice(spec),
        "save_total_limit": cadence.keep_checkpoints,
        "output_dir": "output",
    }


def _choice(spec: JobSpec) -> dict[str, Any]:
    if not chooses(spec):
        return {}
    values = choice(spec) | {"early_stopping_steps": spec.selection.patience}
    return values | {"load_best_model_at_end": None} if spec.method.kind == "reward" else values


def _missing(spec: JobSpec) -> list[str]:
    found = ["model.quantization.int8_threshold", "selection.min_improvement"]
    return [*found, "selection.result"] if spec.method.kind == "reward" else found


def _limits(spec: JobSpec) -> list[str]:
    found = [
        "dataset_info.json beside this file must describe `train` and `validation`, with the format of their rows.",
        "template: LLaMA-Factory has templates of its own; name the one of this base model, or its loss may differ.",
        *schedule_notes(spec),
    ]
    if begins_with_principal_parts(spec):
        found.append("The adapter of the unchanged base model is the one in output/pissa_converted.")
    if spec.adapter is not None and spec.adapter.alpha != round(spec.adapter.alpha):
        found.append(f"Not expressed here: adapter.alpha = {spec.adapter.alpha}; LLaMA-Factory takes whole numbers.")
    if spec.data.over_long == "drop":
        found.append("Not expressed here: rows over cutoff_len are left out; LLaMA-Factory cuts them.")
    if spec.method.kind == "reward" and parameter(spec, "center_coefficient", 0.0):
        found.append("Not expressed here: method.parameters.center_coefficient.")
    return found
