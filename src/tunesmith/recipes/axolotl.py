"""For Axolotl: `axolotl train axolotl.yaml`. Names as in its configuration schema, version 0.19."""

from typing import Any

from tunesmith.recipes._facts import (
    SELECTION,
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
from tunesmith.recipes._yaml import settings
from tunesmith.spec.job import JobSpec

FILENAME = "axolotl.yaml"

_KINDS = ("sft", "dpo", "orpo", "kto", "reward")
_RL_KINDS = ("dpo", "orpo", "kto")
_EXCESS = {"drop": "drop", "truncate": "truncate", "refuse": "raise"}


def write(spec: JobSpec) -> str:
    """The configuration file."""
    refuse_others(spec, "Axolotl", _KINDS)
    values = _model(spec) | _method(spec) | _data(spec) | _training(spec)
    notes = [*data_notes(spec), *_limits(spec), *open_notes(spec, _missing(spec))]
    return f"# axolotl train {FILENAME}\n{comments(iter(notes))}\n{settings(values)}"


def _model(spec: JobSpec) -> dict[str, Any]:
    adapter, quantization = spec.adapter, spec.model.quantization
    values: dict[str, Any] = {"base_model": spec.model.base, "revision_of_model": spec.model.revision}
    if adapter is not None:
        values |= {
            "adapter": "qlora" if quantization and quantization.bits == 4 else "lora",
            "lora_r": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "peft_use_rslora": adapter.scaling == "rank_stabilized" or None,
            "peft_use_dora": adapter.decomposed or None,
            "peft_init_lora_weights": "pissa" if begins_with_principal_parts(spec) else None,
        }
        if adapter.targets == ("all-linear",):
            values["lora_target_linear"] = True
        else:
            values["lora_target_modules"] = list(adapter.targets)
    if quantization is not None:
        values["load_in_4bit" if quantization.bits == 4 else "load_in_8bit"] = True
        if quantization.bits == 4:
            values["bnb_config_kwargs"] = {
                "bnb_4bit_quant_type": quantization.kind,
                "bnb_4bit_use_double_quant": quantization.double,
            }
    return values


def _method(spec: JobSpec) -> dict[str, Any]:
    match spec.method.kind:
        case "dpo":
            loss = parameter(spec, "loss", "sigmoid")
            return {
                "rl": "ipo" if loss == "ipo" else "dpo",
                "rl_beta": parameter(spec, "beta", 0.1),
                "dpo_label_smoothing": parameter(spec, "label_smoothing", 0.0) or None,
            }
        case "orpo":
            return {"rl": "orpo", "orpo_alpha": parameter(spec, "beta", 0.1)}
        case "kto":
            return {
                "rl": "kto",
                "rl_beta": parameter(spec, "beta", 0.1),
                "kto_desirable_weight": parameter(spec, "desirable_weight", 1.0),
                "kto_undesirable_weight": parameter(spec, "undesirable_weight", 1.0),
            }
        case "reward":
            return {
                "reward_model": True,
                "center_rewards_coefficient": parameter(spec, "center_coefficient", 0.0) or None,
            }
        case _:
            return {"train_on_inputs": train_on(spec) == "all"}


def _data(spec: JobSpec) -> dict[str, Any]:
    values: dict[str, Any] = {"chat_template": "tokenizer_default", "datasets": [_rows(spec, "train")]}
    if spec.data.validation is not None:
        values["test_datasets"] = [_rows(spec, "validation") | {"split": "train"}]
    return values | {
        "sequence_len": spec.data.max_length,
        "excess_length_strategy": _EXCESS[spec.data.over_long],
        "sample_packing": spec.data.packing,
        "pad_to_sequence_len": False if spec.data.packing else None,
    }


def _rows(spec: JobSpec, part: str) -> dict[str, Any]:
    rows: dict[str, Any] = {"path": file_of(part), "ds_type": "json"}
    match spec.method.kind:
        case "sft":
            trained = {"all": ["system", "user", "assistant"]}.get(train_on(spec), ["assistant"])
            return rows | {"type": "chat_template", "roles_to_train": trained, "train_on_eos": "turn"}
        case "kto":
            return rows | {"type": {"field_prompt": "prompt", "field_completion": "completion", "field_label": "label"}}
        case "dpo":
            return rows | {"type": "chat_template.default"}
        case "orpo":
            return rows | {"type": "chat_template.argilla"}
        case _:
            return rows | {"type": "bradley_terry.chat_template"}


def _training(spec: JobSpec) -> dict[str, Any]:
    optimization, cadence = spec.optimization, spec.cadence
    micro, accumulation = batches(spec)
    return {
        "micro_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "num_epochs": optimization.epochs,
        "max_steps": optimization.max_steps,
        "optimizer": optimizer(spec),
        "learning_rate": optimization.learning_rate,
        "lr_scheduler": schedule(spec),
        "lr_scheduler_kwargs": schedule_arguments(spec),
        "warmup_ratio": optimization.warmup_ratio,
        "weight_decay": optimization.weight_decay,
        "max_grad_norm": optimization.max_grad_norm or 1e9,
        "neftune_noise_alpha": optimization.neftune_noise_alpha if spec.method.kind not in _RL_KINDS else None,
        "seed": optimization.seed,
        "bf16": spec.model.dtype == "bfloat16",
        "gradient_checkpointing": optimization.gradient_checkpointing,
        "logging_steps": cadence.log_steps,
        **rhythm(spec),
        "eval_on_start": None,  # it always does
        **_choice(spec),
        "save_total_limit": cadence.keep_checkpoints,
        "output_dir": "output",
    }


def _choice(spec: JobSpec) -> dict[str, Any]:
    return choice(spec) | {"early_stopping_patience": spec.selection.patience} if _chooses(spec) else {}


def _chooses(spec: JobSpec) -> bool:
    """Its trainers of preferences know nothing of a best evaluation, and the others only one by steps."""
    return chooses(spec) and spec.method.kind not in _RL_KINDS and spec.cadence.eval_steps != "epoch"


def _missing(spec: JobSpec) -> list[str]:
    found = ["model.quantization.int8_threshold", "data.max_samples", "selection.min_improvement"]
    if spec.method.kind in _RL_KINDS:
        found.append("optimization.neftune_noise_alpha")
    return found if _chooses(spec) else [*found, *SELECTION]


def _limits(spec: JobSpec) -> list[str]:
    found = list(schedule_notes(spec))
    if spec.method.kind == "sft" and train_on(spec) == "last":
        found.append("Not expressed here: only the last assistant turn is trained; Axolotl would train all of them.")
    if _chooses(spec) and spec.selection.result == "last":
        found.append("Not expressed here: the result has the weights of the last step; Axolotl gives the best ones.")
    if begins_with_principal_parts(spec):
        found.append("PiSSA changes the base: the adapter fits the changed one only, unless PEFT converts it.")
    return found
