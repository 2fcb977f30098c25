"""From a form to a spec. Pure: where the rows are, and what is stored as secrets, is handed in."""

import math
from typing import Literal

from pydantic import ValidationError

from tunesmith.dialects._wire import DTYPES, WHOLE_CONTEXT
from tunesmith.dialects.simplismart.notes import notes_on
from tunesmith.dialects.simplismart.wire import AdapterConfig, CreateJob, Hyperparameters, TrainConfig
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
from tunesmith.spec.faults import reason
from tunesmith.spec.job import (
    MAX_BATCH_SIZE,
    MAX_EPOCHS,
    AdapterSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    QuantizationSpec,
    ResourcesSpec,
    Submission,
)
from tunesmith.spec.reading import Format, Reading, SplitSpec

_HYPERPARAMETERS = "train_config.hyperparameters"

# ms-swift: accumulation is chosen so that a step has about as many rows.
_AUTOMATIC_BATCH = 16
_AUTOMATIC_RATES = {"lora": 1e-4, "qlora": 1e-4, "full": 1e-5}
_DPO_BETA = 0.1

# What the Trainer below ms-swift calls them.
_OPTIMIZERS: dict[str, Literal["adamw", "adamw_8bit", "adafactor", "sgd"]] = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw_8bit",
    "adamw_8bit": "adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}

_FORMATS: dict[str, Format] = {
    "sharegpt": "sharegpt",
    "alpaca": "alpaca",
    "instruction": "query_response",
    "openai": "messages",
    "messages": "messages",
}

# What such rows have beside their turns has a name of its own only where the turns are called `messages`.
_WITH_MORE = ("openai", "messages")


def to_spec(request: CreateJob, *, train: DataSource, hub_secret: str | None) -> JobSpec:
    """The canonical description of the asked training.

    Args:
        request: as it came over the wire.
        train: what `dataset_details` names.
        hub_secret: id of the secret that `model_details.secret_id` names.

    Raises:
        UnsupportedError: a field asks for something that is not available.
        InvalidRequestError: fields contradict each other, or exceed their range together.
    """
    _refuse_unavailable(request)
    config = request.train_config
    return JobSpec(
        model=_model(request, hub_secret),
        init_from=None,
        data=_data(request, train),
        method=_method(config),
        adapter=_adapter(config),
        optimization=_optimization(request),
        cadence=_cadence(config.hyperparameters),
        resources=_resources(request),
    )


def to_submission(request: CreateJob, *, has_model: bool) -> Submission:
    """What travels beside the spec, with a note for each field that has no effect.

    Args:
        request: as it came over the wire.
        has_model: whether this server itself has a model of the asked name.
    """
    description = request.dataset_details.dataset_description
    return Submission(
        dialect="simplismart",
        request=request.model_dump(mode="json", exclude_unset=True),
        name=request.experiment_name,
        labels={"dataset_description": description} if description else {},
        idempotency_key=f"simplismart experiment {request.experiment_name}",
        notes=tuple(notes_on(request, has_model=has_model)),
    )


def _refuse_unavailable(request: CreateJob) -> None:
    model, config = request.model_details, request.train_config
    numbers, preprocessing = config.hyperparameters, request.dataset_config.preprocessing
    if model.source_type == "s3":
        raise UnsupportedError(
            "model_details.source_type 's3' is not available: base models come from the hub or this server.",
            param="model_details.source_type",
            hint="Use 'hf' with a repository, or have the operator add the model and use 'local'.",
        )
    if config.task_type == "seq2seq":
        raise UnsupportedError(
            "train_config.task_type 'seq2seq' is not available; available: 'causal_lm'.",
            param="train_config.task_type",
        )
    if preprocessing.streaming and numbers.max_steps is None:
        raise InvalidRequestError(
            "dataset_config.preprocessing.streaming is true, which needs an end.",
            param="dataset_config.preprocessing.streaming",
            hint=f"Set {_HYPERPARAMETERS}.max_steps, or streaming to false.",
        )
    adapter = config.adapter_config
    if adapter is not None and adapter.use_dora and adapter.init_weights == "pissa":
        raise InvalidRequestError(
            "train_config.adapter_config.use_dora and init_weights 'pissa' exclude each other.",
            param="train_config.adapter_config.init_weights",
            hint="Use one of them.",
        )
    if numbers.beta is not None and config.type == "sft":
        raise InvalidRequestError(
            f"{_HYPERPARAMETERS}.beta has no meaning for train_config.type 'sft'.", param=f"{_HYPERPARAMETERS}.beta"
        )


def _model(request: CreateJob, hub_secret: str | None) -> ModelSpec:
    details, config = request.model_details, request.train_config
    return ModelSpec(
        base=details.base_model,
        dtype=DTYPES[config.torch_dtype],
        modality="vision_language" if details.model_type == "vlm" else "text",
        task="sequence_classification" if config.task_type == "seq_cls" else "causal_lm",
        source="local" if details.source_type == "local" else "any",
        secret=hub_secret,
        quantization=_quantization(request),
    )


def _quantization(request: CreateJob) -> QuantizationSpec | None:
    asked = request.model_details.quantization
    bits = asked.quant_bits if asked else None
    if request.train_config.train_type == "qlora":
        if bits == 16:
            raise InvalidRequestError(
                "model_details.quantization.quant_bits is 16, and train_config.train_type 'qlora' needs fewer.",
                param="model_details.quantization.quant_bits",
                hint="Use 4 or 8, or the train_type 'lora'.",
            )
        bits = bits or 4
    return QuantizationSpec(bits=bits) if bits in (4, 8) else None


def _data(request: CreateJob, train: DataSource) -> DataSpec:
    prompt = request.dataset_config.preprocessing.prompt
    return DataSpec(
        train=train,
        validation=None,
        max_length=prompt.max_length or WHOLE_CONTEXT,
        over_long="drop",
        packing=request.train_config.hyperparameters.packing,
        max_samples=None,
        reading=Reading(format=_format(request), system=prompt.system),
        split=_split(request),
    )


def _format(request: CreateJob) -> Format | None:
    """The shape of a row: what the training needs beside a conversation is part of it."""
    named = request.dataset_details.dataset_format
    if request.train_config.task_type == "seq_cls":
        _require_messages(named, "task_type 'seq_cls'", "label")
        return "classification"
    if request.train_config.type == "dpo":
        _require_messages(named, "type 'dpo'", "rejected_response")
        return "preference"
    return _FORMATS[named] if named else None


def _require_messages(named: str | None, asked: str, key: str) -> None:
    if named is not None and named not in _WITH_MORE:
        raise InvalidRequestError(
            f"dataset_details.dataset_format {named!r} has no place for `{key}`, which train_config.{asked} needs.",
            param="dataset_details.dataset_format",
            hint=f"Give rows with `messages` and `{key}`, and the format 'messages' or none.",
        )


def _split(request: CreateJob) -> SplitSpec | None:
    split = request.dataset_config.split
    if split is None:
        return None
    try:
        return SplitSpec(by=split.type, ratios=tuple(split.ratios))
    except ValidationError as error:
        why = reason(error.errors()[0])
        raise InvalidRequestError(f"dataset_config.split.ratios: {why}.", param="dataset_config.split.ratios") from None


def _method(config: TrainConfig) -> MethodSpec:
    beta = config.hyperparameters.beta
    if config.type == "dpo":
        beta = beta or _DPO_BETA
    kind = "classification" if config.type == "sft" and config.task_type == "seq_cls" else config.type
    return MethodSpec(kind=kind, parameters={"beta": beta} if beta is not None else {})


def _adapter(config: TrainConfig) -> AdapterSpec | None:
    if config.train_type == "full":
        return None
    asked = config.adapter_config or AdapterConfig()
    return AdapterSpec(
        rank=asked.r,
        alpha=asked.alpha,
        dropout=asked.dropout,
        targets=tuple(asked.targets),
        scaling="rank_stabilized" if asked.use_rslora else "standard",
        decomposed=asked.use_dora,
        init="pissa" if asked.init_weights == "pissa" else "random",
    )


def _optimization(request: CreateJob) -> OptimizationSpec:
    config = request.train_config
    numbers = config.hyperparameters
    schedule = numbers.lr_scheduler_type
    return OptimizationSpec(
        optimizer=_OPTIMIZERS[numbers.optim],
        learning_rate=numbers.learning_rate or _AUTOMATIC_RATES[config.train_type],
        schedule="constant" if schedule == "constant_with_warmup" else schedule,
        warmup_ratio=0.0 if schedule == "constant" else numbers.warmup_ratio,
        weight_decay=numbers.weight_decay,
        max_grad_norm=numbers.max_grad_norm,
        neftune_noise_alpha=numbers.neftune_noise_alpha,
        epochs=numbers.num_epochs if numbers.max_steps is None else MAX_EPOCHS,
        max_steps=numbers.max_steps,
        batch_size=_batch_size(request),
        micro_batch_size=None,
        gradient_checkpointing=numbers.gradient_checkpointing,
        seed=numbers.seed,
    )


def _batch_size(request: CreateJob) -> int:
    """Rows of one step on all the devices that were asked for, whatever the job will run on."""
    numbers, infra = request.train_config.hyperparameters, request.infra_config
    at_once = numbers.per_device_train_batch_size * infra.gpu_count * infra.node_count
    accumulated = numbers.gradient_accumulation_steps or math.ceil(_AUTOMATIC_BATCH / at_once)
    if at_once * accumulated > MAX_BATCH_SIZE:
        raise InvalidRequestError(
            "per_device_train_batch_size x gradient_accumulation_steps x gpu_count x node_count must be at most "
            f"{MAX_BATCH_SIZE} rows a step, got {at_once * accumulated}.",
            param=f"{_HYPERPARAMETERS}.per_device_train_batch_size",
        )
    return at_once * accumulated


def _cadence(numbers: Hyperparameters) -> CadenceSpec:
    return CadenceSpec(
        eval_steps=numbers.eval_steps or numbers.save_steps,
        save_steps=numbers.save_steps,
        keep_checkpoints=numbers.save_total_limit,
        log_steps=numbers.logging_steps,
    )


def _resources(request: CreateJob) -> ResourcesSpec:
    infra, distributed = request.infra_config, request.train_config.distributed
    return ResourcesSpec(
        gpus_per_node=infra.gpu_count,
        nodes=infra.node_count,
        gpu_type=infra.gpu_type,
        distribution=distributed.type if distributed else None,
    )
