"""The configuration of a job that another dialect took, in the nearest words."""

from typing import Any

from tunesmith.spec.job import JobSpec

_MODEL_TYPES = {"text": "llm", "vision_language": "vlm", "image": "image"}


def described(spec: JobSpec) -> dict[str, Any]:
    """The configuration that would ask for the same."""
    optimization, adapter, quantization = spec.optimization, spec.adapter, spec.model.quantization
    columns = spec.data.reading.columns
    micro = optimization.micro_batch_size or optimization.batch_size
    return {
        "model_type": _MODEL_TYPES[spec.model.modality],
        "base_model": spec.model.base,
        "adapter": {
            "type": "lora",
            "r": adapter.rank,
            "alpha": adapter.alpha,
            "dropout": adapter.dropout,
            "target_modules": list(adapter.targets),
            "use_rslora": adapter.scaling == "rank_stabilized",
            "use_dora": adapter.decomposed,
        }
        if adapter
        else None,
        "quantization": {"bits": quantization.bits, "bnb_4bit_quant_type": quantization.kind} if quantization else None,
        "trainer": {
            "type": "finetune" if spec.method.kind == "sft" else spec.method.kind,
            "learning_rate": optimization.learning_rate,
            "optimizer": {"type": optimization.optimizer, "weight_decay": optimization.weight_decay},
            "batch_size": micro,
            "gradient_accumulation_steps": optimization.batch_size // micro,
            "epochs": optimization.epochs,
            "train_steps": optimization.max_steps,
            "logging_steps": spec.cadence.log_steps,
            "early_stop": spec.selection.patience,
        },
        "image_column": columns.get("image"),
        "input_column": columns.get("prompt"),
        "output_column": columns.get("completion"),
        "prompt": {"template": spec.data.reading.template},
        "preprocessing": {"sample_ratio": spec.data.sample_ratio},
    }
