"""The five configurations of a job that another dialect took, in the nearest words."""

from typing import Any

from tunesmith.dialects.simplismart.ids import render_file_id
from tunesmith.spec.job import DataSource, JobSpec, ModelSpec

_MODEL_TYPES = {"text": "llm", "vision_language": "vlm", "image": "image"}
_SOURCES = {"s3": "s3", "gcs": "gcs", "hub": "hf"}
_SCHEDULES = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
_OPTIMIZERS = {"adamw": "adamw_torch"}
_FORMATS = {"query_response": "instruction"}


def described(spec: JobSpec) -> dict[str, dict[str, Any]]:
    """The parts of the form that would ask for the same."""
    return {
        "dataset_config": _dataset_config(spec),
        "model_details": _model_details(spec.model),
        "train_config": _train_config(spec),
        "dataset_details": _dataset_details(spec),
        "infra_config": _infra_config(spec),
    }


def _dataset_config(spec: JobSpec) -> dict[str, Any]:
    data = spec.data
    prompt = {"system": data.reading.system, "max_length": data.max_length, "template": None}
    return {
        "preprocessing": {"lazy_tokenize": False, "streaming": False, "prompt": prompt},
        "split": {"type": data.split.by, "ratios": list(data.split.ratios)} if data.split else None,
    }


def _model_details(model: ModelSpec) -> dict[str, Any]:
    return {
        "base_model": model.base,
        "ownership": "private" if model.secret else "public",
        "source_type": "local" if model.source == "local" else "hf",
        "model_type": _MODEL_TYPES[model.modality],
        "quantization": {"quant_bits": model.quantization.bits} if model.quantization else None,
    }


def _train_config(spec: JobSpec) -> dict[str, Any]:
    optimization, cadence, adapter = spec.optimization, spec.cadence, spec.adapter
    tuned = "qlora" if spec.model.quantization else "lora"
    micro = optimization.micro_batch_size or optimization.batch_size
    return {
        "type": spec.method.kind,
        "torch_dtype": spec.model.dtype,
        "task_type": "seq_cls" if spec.model.task == "sequence_classification" else "causal_lm",
        "train_type": tuned if adapter else "full",
        "hyperparameters": {
            "num_epochs": optimization.epochs,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": optimization.batch_size // micro,
            "save_steps": cadence.save_steps,
            "save_total_limit": cadence.keep_checkpoints,
            "eval_steps": cadence.eval_steps,
            "logging_steps": cadence.log_steps,
            "learning_rate": optimization.learning_rate,
            "warmup_ratio": optimization.warmup_ratio,
            "weight_decay": optimization.weight_decay,
            "lr_scheduler_type": _SCHEDULES.get(optimization.schedule, optimization.schedule),
            "optim": _OPTIMIZERS.get(optimization.optimizer, optimization.optimizer),
            "neftune_noise_alpha": optimization.neftune_noise_alpha,
            "max_grad_norm": optimization.max_grad_norm,
            "max_steps": optimization.max_steps,
            "seed": optimization.seed,
            "packing": spec.data.packing,
        },
        "adapter_config": {
            "r": adapter.rank,
            "alpha": adapter.alpha,
            "dropout": adapter.dropout,
            "targets": list(adapter.targets),
            "use_rslora": adapter.scaling == "rank_stabilized",
            "use_dora": adapter.decomposed,
            "init_weights": "pissa" if adapter.init == "pissa" else "true",
        }
        if adapter
        else None,
    }


def _dataset_details(spec: JobSpec) -> dict[str, Any]:
    source, form = spec.data.train, spec.data.reading.format
    return {
        "dataset_name": source.id.partition("@")[0] if source.kind == "dataset" else None,
        "dataset_path": _path(source),
        "dataset_format": _FORMATS.get(form, form) if form else None,
        "source_type": _SOURCES.get(source.kind, "local" if source.kind in ("file", "dataset") else source.kind),
        "ownership": "private" if source.secret else "public",
        "region": source.region,
    }


def _path(source: DataSource) -> str:
    return render_file_id(source.id) if source.kind == "file" else source.id


def _infra_config(spec: JobSpec) -> dict[str, Any]:
    asked = spec.resources
    return {
        "gpu_type": asked.gpu_type if asked else None,
        "gpu_count": asked.gpus_per_node if asked else 1,
        "node_count": asked.nodes if asked else 1,
    }
