"""What the spec calls a field, and what this dialect's users call it. The first path that fits counts."""

_DATASET_CONFIG = "dataset_config.preprocessing.prompt"
_HYPERPARAMETERS = "train_config.hyperparameters"

FIELDS = {
    "model.base": "model_details.base_model",
    "model.source": "model_details.source_type",
    "model.secret": "model_details.secret_id",
    "model.modality": "model_details.model_type",
    "model.quantization": "model_details.quantization",
    "model.task": "train_config.task_type",
    "model.dtype": "train_config.torch_dtype",
    "data.train": "dataset_details.dataset_path",
    "data.reading.system": f"{_DATASET_CONFIG}.system",
    "data.reading": "dataset_details.dataset_format",
    "data.split": "dataset_config.split",
    "data.max_length": f"{_DATASET_CONFIG}.max_length",
    "data.packing": f"{_HYPERPARAMETERS}.packing",
    "method.parameters": _HYPERPARAMETERS,
    "method.kind": "train_config.type",
    "adapter": "train_config.adapter_config",
    "optimization": _HYPERPARAMETERS,
    "cadence": _HYPERPARAMETERS,
    "resources.distribution": "train_config.distributed.type",
    "resources.gpus_per_node": "infra_config.gpu_count",
    "resources.nodes": "infra_config.node_count",
    "resources": "infra_config",
    "job_id": "request_id",
    # What the readers of rows call it.
    "system": f"{_DATASET_CONFIG}.system",
    "format": "dataset_details.dataset_format",
}
