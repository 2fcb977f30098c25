"""For TRL: a Python script that trains the job, for version 1.16."""

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
    train_on,
)
from tunesmith.spec.job import JobSpec

FILENAME = "train_trl.py"

_TRAINERS = {
    "sft": ("trl", "SFT"),
    "dpo": ("trl", "DPO"),
    "kto": ("trl", "KTO"),
    "reward": ("trl", "Reward"),
    "orpo": ("trl.experimental.orpo", "ORPO"),
}


def write(spec: JobSpec) -> str:
    """The script."""
    refuse_others(spec, "TRL", _TRAINERS)
    module, kind = _TRAINERS[spec.method.kind]
    library = "AutoModelForSequenceClassification" if spec.method.kind == "reward" else "AutoModelForCausalLM"
    names = [
        library,
        "AutoTokenizer",
        *(["BitsAndBytesConfig"] if spec.model.quantization else []),
        *(["EarlyStoppingCallback"] if _stops_early(spec) else []),
    ]
    parts = [
        f"# python {FILENAME}\n{comments(iter([*data_notes(spec), *_limits(spec), *open_notes(spec)]))}",
        ("import math\n\n" if _counts_steps(spec) else "")
        + "import torch\nfrom datasets import load_dataset\n"
        + ("from peft import LoraConfig\n" if spec.adapter else "")
        + f"from transformers import {', '.join(names)}\nfrom {module} import {kind}Config, {kind}Trainer\n",
        _loading(spec, library),
        _rows(spec),
        _adapter(spec),
        f"config = {kind}Config(\n{_arguments(_config(spec))})",
        _trainer(spec, kind),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _loading(spec: JobSpec, library: str) -> str:
    revision = f", revision={spec.model.revision!r}" if spec.model.revision else ""
    # Weights that are all trained are kept in float32; bfloat16 is then the format of the arithmetic.
    stored = spec.model.dtype if spec.adapter is not None else "float32"
    arguments = f"dtype=torch.{stored}{revision}"
    if spec.method.kind == "reward":
        arguments += ", num_labels=1"
    quantization = spec.model.quantization
    if quantization is not None:
        settings: dict[str, Any] = {"load_in_8bit": True, "llm_int8_threshold": quantization.int8_threshold}
        if quantization.bits == 4:
            settings = {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": quantization.kind,
                "bnb_4bit_use_double_quant": quantization.double,
                "bnb_4bit_compute_dtype": spec.model.dtype,
            }
        arguments += f", quantization_config=BitsAndBytesConfig({', '.join(f'{k}={v!r}' for k, v in settings.items())})"
    base = repr(spec.model.base)
    return (
        f"tokenizer = AutoTokenizer.from_pretrained({base}{revision})\n"
        f"model = {library}.from_pretrained({base}, {arguments})\n"
    )


def _rows(spec: JobSpec) -> str:
    limit = f'.select(range(min({spec.data.max_samples}, len(data["train"]))))' if spec.data.max_samples else ""
    files = {"train": file_of("train")}
    if spec.data.validation is not None:
        files["validation"] = file_of("validation")
    text = f"data = load_dataset('json', data_files={files!r})\ntrain = data['train']{limit}\n"
    text += "validation = data['validation']\n" if spec.data.validation else "validation = None\n"
    if _is_masked_here(spec):
        turns = "[-1:]" if train_on(spec) == "last" else ""
        text += _MASKS.format(turns=turns, drop=_DROP.format(most=spec.data.max_length) if _drops(spec) else "")
    return text


def _is_masked_here(spec: JobSpec) -> bool:
    return spec.method.kind == "sft" and train_on(spec) != "all"


def _drops(spec: JobSpec) -> bool:
    return spec.data.over_long == "drop"


_MASKS = """

def rendered(turns, **options):
    return tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **options)["input_ids"]


def masked(row):
    \"\"\"A conversation as tokens. Loss falls on the assistant's answers up to the mark that ends each.\"\"\"
    turns = row["messages"]
    ids = rendered(turns)
    labels = [-100] * len(ids)
    for index in [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]{turns}:
        first = len(rendered(turns[:index], add_generation_prompt=True))
        behind = len(rendered(turns[: index + 1]))
        while behind > first and ids[behind - 1] != tokenizer.eos_token_id:
            behind -= 1
        labels[first:behind] = ids[first:behind]
    return {{"input_ids": ids, "labels": labels}}


def prepared(rows):
    if "messages" not in rows.column_names:
        return rows
    return rows.map(masked, remove_columns=rows.column_names){drop}


"""

_DROP = ".filter(lambda row: len(row['input_ids']) <= {most})"


def _adapter(spec: JobSpec) -> str:
    adapter = spec.adapter
    if adapter is None:
        return ""
    values: dict[str, Any] = {
        "task_type": "SEQ_CLS" if spec.method.kind == "reward" else "CAUSAL_LM",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": "all-linear" if adapter.targets == ("all-linear",) else list(adapter.targets),
    }
    if adapter.scaling == "rank_stabilized":
        values["use_rslora"] = True
    if adapter.decomposed:
        values["use_dora"] = True
    if begins_with_principal_parts(spec):
        values["init_lora_weights"] = "pissa"
    if spec.method.kind == "reward":
        values["modules_to_save"] = ["score"]
    return f"torch.manual_seed({spec.optimization.seed})\nadapter = LoraConfig(\n{_arguments(values)})"


def _config(spec: JobSpec) -> dict[str, Any]:
    optimization, cadence = spec.optimization, spec.cadence
    micro, accumulation = batches(spec)
    values = {
        "output_dir": "output",
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": optimization.epochs,
        "max_steps": optimization.max_steps,
        "optim": optimizer(spec),
        "learning_rate": optimization.learning_rate,
        "lr_scheduler_type": schedule(spec),
        "lr_scheduler_kwargs": schedule_arguments(spec),
        "warmup_steps": optimization.warmup_ratio,  # below 1 it is the share of all steps
        "weight_decay": optimization.weight_decay,
        "max_grad_norm": optimization.max_grad_norm or 1e9,
        "neftune_noise_alpha": optimization.neftune_noise_alpha,
        "seed": optimization.seed,
        "bf16": spec.model.dtype == "bfloat16",
        "gradient_checkpointing": bool(optimization.gradient_checkpointing),
        "logging_steps": cadence.log_steps,
        **rhythm(spec),
        **choice(spec),
        "save_total_limit": cadence.keep_checkpoints,
        "report_to": "none",
        "max_length": spec.data.max_length,
    }
    return {name: value for name, value in (values | _method(spec)).items() if value is not None}


def _method(spec: JobSpec) -> dict[str, Any]:
    beta = parameter(spec, "beta", 0.1)
    match spec.method.kind:
        case "sft":
            packing = {"packing": True, "packing_strategy": "bfd"} if spec.data.packing else {}
            return packing | {"completion_only_loss": None if _is_masked_here(spec) else False}
        case "dpo":
            return {
                "beta": beta,
                "loss_type": parameter(spec, "loss", "sigmoid"),
                "label_smoothing": parameter(spec, "label_smoothing", 0.0),
                "precompute_ref_log_probs": True,
            }
        case "kto":
            return {
                "beta": beta,
                "desirable_weight": parameter(spec, "desirable_weight", 1.0),
                "undesirable_weight": parameter(spec, "undesirable_weight", 1.0),
            }
        case "reward":
            return {"center_rewards_coefficient": parameter(spec, "center_coefficient", 0.0) or None}
        case _:
            return {"beta": beta}


def _stops_early(spec: JobSpec) -> bool:
    return chooses(spec) and spec.selection.patience is not None


def _counts_steps(spec: JobSpec) -> bool:
    """Whether the script has to find out how long the training is."""
    return spec.optimization.schedule == "wsd" and schedule_arguments(spec) is None


def _trainer(spec: JobSpec, kind: str) -> str:
    masked = _is_masked_here(spec)
    train = "prepared(train)" if masked else "train"
    validation = "prepared(validation) if validation else None" if masked else "validation"
    adapter = "    peft_config=adapter,\n" if spec.adapter else ""
    callbacks = ""
    if _stops_early(spec):
        patience, threshold = spec.selection.patience, spec.selection.min_improvement
        callbacks = f"    callbacks=[EarlyStoppingCallback({patience}, {threshold})],\n"
    text = (
        f"trainer = {kind}Trainer(\n    model=model,\n    args=config,\n    train_dataset={train},\n"
        f"    eval_dataset={validation},\n    processing_class=tokenizer,\n{adapter}{callbacks})\n"
    )
    if _counts_steps(spec):
        optimization = spec.optimization
        text += _DECAY.format(epochs=optimization.epochs, batch=optimization.batch_size, ratio=optimization.decay_ratio)
    return text + (_PISSA if begins_with_principal_parts(spec) else "trainer.train()\ntrainer.save_model()")


_DECAY = """\
steps = math.ceil({epochs} * math.ceil(len(trainer.train_dataset) / {batch}))
trainer.args.lr_scheduler_kwargs = {{"num_decay_steps": math.ceil({ratio} * steps)}}
"""

# PEFT takes the principal parts out of the base: what it wrote first makes the result an adapter of the whole base.
_PISSA = """\
begun = trainer.model.peft_config["default"]
begun.init_lora_weights = True
trainer.model.save_pretrained("output/first")
begun.init_lora_weights = "pissa"
trainer.train()
trainer.model.save_pretrained("output", path_initial_model_for_weight_conversion="output/first")"""


def _arguments(values: dict[str, Any]) -> str:
    return "".join(f"    {name}={value!r},\n" for name, value in values.items())


def _limits(spec: JobSpec) -> list[str]:
    if spec.data.over_long == "truncate" or (_is_masked_here(spec) and _drops(spec)):
        return []
    return ["Rows over max_length are cut by TRL, which Tunesmith does not do for this job."]
