"""The form of `POST /job`: two texts and five parts of JSON.

Sources: the published OpenAPI document of the training suite, version 2.0.0, for parts, keys and enums; ms-swift for
the defaults of keys that are left out and for the further hyperparameters, whose names and meaning are its own.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from tunesmith.dialects._forms import JSON_PART, FilePart
from tunesmith.dialects._wire import WHOLE_CONTEXT, Wire
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import MAX_BATCH_SIZE, MAX_EPOCHS

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Organisation = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""Id or name of a stored secret."""


# --- dataset_config --------------------------------------------------------------------------------------------------


class Prompt(Wire):
    """How a row becomes a prompt."""

    system: Annotated[str, StringConstraints(max_length=65_536)] | None = None
    """System text; one in the row wins."""

    max_length: int | None = Field(default=None, ge=8, le=WHOLE_CONTEXT)
    """Tokens per sequence; none = as many as the model can read. Longer rows are left out."""

    template: str | None = None
    """Name of a chat template; none = the model's own, which is always used."""


class Preprocessing(Wire):
    """What happens to rows before training."""

    lazy_tokenize: bool | None = None
    streaming: bool = False
    prompt: Prompt = Field(default_factory=Prompt)


class Split(Wire):
    """How rows are shared out."""

    type: Literal["random", "sequential"] = "random"
    ratios: list[float]
    """Shares of training, validation and test: one to three numbers with the sum 1."""


class DatasetConfig(Wire):
    """The part `dataset_config`."""

    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    split: Split | None = None
    """None = all rows are trained on."""


# --- model_details ---------------------------------------------------------------------------------------------------


class Quantization(Wire):
    """Bits of frozen weights."""

    quant_bits: Literal[4, 8, 16] | None = None
    """4 and 8 through bitsandbytes; 16 = none."""


class ModelDetails(Wire):
    """The part `model_details`."""

    base_model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    ownership: Literal["public", "private"] = "public"
    source_type: Literal["hf", "s3", "local"] = "hf"
    model_type: Literal["llm", "vlm"] = "llm"
    quantization: Quantization | None = None
    secret_id: Reference | None = None
    """Tunesmith's own: the stored token for the hub."""


# --- train_config ----------------------------------------------------------------------------------------------------


class Hyperparameters(Wire):
    """Numbers of the training, by ms-swift's names."""

    num_epochs: float = Field(default=3, gt=0, le=MAX_EPOCHS)
    per_device_train_batch_size: int = Field(default=1, ge=1, le=MAX_BATCH_SIZE)
    per_device_eval_batch_size: int | None = Field(default=None, ge=1, le=MAX_BATCH_SIZE)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1, le=MAX_BATCH_SIZE)
    gradient_checkpointing: bool = True
    save_steps: int = Field(default=500, ge=1)
    save_total_limit: int | None = Field(default=None, ge=1)
    eval_steps: int | None = Field(default=None, ge=1)
    logging_steps: int = Field(default=5, ge=1)
    learning_rate: float | None = Field(default=None, gt=0, le=1)
    dataloader_num_workers: int | None = Field(default=None, ge=0)
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt"] = "cosine"
    optim: Literal["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "adamw_8bit", "adafactor", "sgd"] = (
        "adamw_torch"
    )
    neftune_noise_alpha: float | None = Field(default=None, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=42, ge=0, le=2_147_483_647)
    packing: bool = False
    beta: float | None = Field(default=None, gt=0)


class AdapterConfig(Wire):
    """The low-rank adapter."""

    r: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: list[Name] = Field(default_factory=lambda: ["all-linear"], min_length=1)
    use_rslora: bool = False
    use_dora: bool = False
    init_weights: Literal["true", "pissa"] | Literal[True] = "true"


class Distributed(Wire):
    """How several GPUs share the work."""

    type: Literal["ddp", "fsdp", "deepspeed"] = "ddp"
    stage: int | None = Field(default=None, ge=0, le=3)
    """Of DeepSpeed's ZeRO."""


class TrainConfig(Wire):
    """The part `train_config`."""

    type: Literal["sft", "dpo", "ppo", "grpo"] = "sft"
    torch_dtype: Literal["float16", "bfloat16", "float32"] = "bfloat16"
    task_type: Literal["causal_lm", "seq2seq", "seq_cls"] = "causal_lm"
    train_type: Literal["lora", "qlora", "full"] = "lora"
    tuner_backend: Name | None = None
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    adapter_config: AdapterConfig | None = None
    distributed: Distributed | None = None


# --- dataset_details and infra_config --------------------------------------------------------------------------------


class DatasetDetails(Wire):
    """The part `dataset_details`."""

    dataset_name: Name
    dataset_path: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    dataset_description: Annotated[str, StringConstraints(max_length=4096)] | None = None
    dataset_type: Literal["jsonl", "csv", "parquet"] | None = None
    """None = told from the content."""

    dataset_format: Literal["sharegpt", "alpaca", "instruction", "openai", "messages"] | None = None
    """None = told from the first row."""

    source_type: Literal["s3", "gcs", "local", "hf"]
    ownership: Literal["public", "private"] = "public"
    secret_id: Reference | None = None
    region: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class InfraConfig(Wire):
    """The part `infra_config`."""

    gpu_type: Literal["h100", "a100", "a10g", "v100", "t4"] | None = None
    gpu_count: int = Field(default=1, ge=1, le=1024)
    """Per node."""

    node_count: int = Field(default=1, ge=1, le=1024)
    infra_type: Name | None = None


class CreateJob(Wire):
    """The whole form."""

    org: Organisation
    experiment_name: Name
    dataset_config: Annotated[DatasetConfig, JSON_PART]
    model_details: Annotated[ModelDetails, JSON_PART]
    train_config: Annotated[TrainConfig, JSON_PART]
    dataset_details: Annotated[DatasetDetails, JSON_PART]
    infra_config: Annotated[InfraConfig, JSON_PART]


# --- the extensions --------------------------------------------------------------------------------------------------


class CreateDataset(Wire):
    """The form of `POST /dataset`."""

    org: Organisation
    dataset_name: Name
    file: FilePart


def _only_texts(fields: Any) -> Any:
    # Said here, because a refusal by pydantic would repeat the value.
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise InvalidRequestError("fields must be an object of names and texts.", param="fields")
    return fields


class CreateSecret(Wire):
    """Body of `POST /secret`."""

    org: Organisation
    name: Name
    purpose: Name
    fields: Annotated[dict[str, str], BeforeValidator(_only_texts)]
    host: Name | None = None
    """The only host that it may be sent to; none = that of the address in the fields, or the purpose's own."""
