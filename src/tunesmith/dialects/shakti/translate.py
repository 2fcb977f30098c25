"""From a form to a spec. Pure: the received file is handed in."""

from tunesmith.dialects._wire import DTYPES, WHOLE_CONTEXT
from tunesmith.dialects.shakti.columns import caps
from tunesmith.dialects.shakti.notes import notes_on
from tunesmith.dialects.shakti.wire import CreateJob, Quantization, Trainer, TrainingConfig
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
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
    SelectionSpec,
    Submission,
)
from tunesmith.spec.reading import Reading, SplitSpec

_CONFIG = "training_config_json"
_SEED = 42

# Ludwig's default targets of the architectures that name their projections so.
_QUERY_AND_VALUE = ("q_proj", "v_proj")
_SPLIT_COLUMN = "split"


def to_spec(config: TrainingConfig, *, train: DataSource, reading: Reading, columns: tuple[str, ...]) -> JobSpec:
    """The canonical description of the asked training.

    Args:
        config: as it came over the wire.
        train: the received file.
        reading: how its rows are understood.
        columns: names of all its columns.

    Raises:
        UnsupportedError: a field asks for something that is not available.
        InvalidRequestError: fields exceed their range together.
    """
    refuse_unavailable(config)
    data = _data(config, train, reading, columns)
    return JobSpec(
        model=_model(config),
        init_from=None,
        data=data,
        method=_method(config.trainer),
        adapter=_adapter(config),
        optimization=_optimization(config.trainer),
        cadence=CadenceSpec(
            eval_steps="epoch", save_steps="epoch", keep_checkpoints=None, log_steps=config.trainer.logging_steps
        ),
        selection=SelectionSpec(patience=_patience(config.trainer) if data.split else None),
    )


def to_submission(request: CreateJob, spec: JobSpec) -> Submission:
    """What travels beside the spec, with a note for each field that has no effect."""
    return Submission(
        dialect="shakti",
        request=request.model_dump(mode="json", exclude_unset=True, exclude={"csv_file"}),
        name=request.experiment_name,
        notes=tuple(notes_on(request.training_config_json, spec)),
    )


def refuse_unavailable(config: TrainingConfig) -> None:
    """Refuse what the spec has no place for.

    Raises:
        UnsupportedError: the configuration asks for it.
    """
    if config.trainer.type == "none":
        raise UnsupportedError(
            f"{_CONFIG}.trainer.type 'none' trains nothing, and this server does nothing else.",
            param=f"{_CONFIG}.trainer.type",
            hint="Use 'finetune'.",
        )
    if config.quantization and config.quantization.llm_int8_has_fp16_weight:
        raise UnsupportedError(
            f"{_CONFIG}.quantization.llm_int8_has_fp16_weight is true, and quantized weights are kept quantized.",
            param=f"{_CONFIG}.quantization.llm_int8_has_fp16_weight",
            hint="Leave it out.",
        )


def _patience(trainer: Trainer) -> int | None:
    """Evaluations without improvement; Ludwig takes -1 and 0 for no early end."""
    return trainer.early_stop if trainer.early_stop and trainer.early_stop > 0 else None


def _model(config: TrainingConfig) -> ModelSpec:
    asked = config.quantization
    return ModelSpec(
        base=config.base_model,
        dtype=DTYPES[asked.bnb_4bit_compute_dtype] if asked else "bfloat16",
        modality="vision_language" if config.model_type == "vlm" else "text",
        quantization=_quantization(asked) if asked else None,
    )


def _quantization(asked: Quantization) -> QuantizationSpec:
    return QuantizationSpec(
        bits=asked.bits,
        kind=asked.bnb_4bit_quant_type,
        double=asked.bnb_4bit_use_double_quant,
        int8_threshold=asked.llm_int8_threshold,
    )


def _data(config: TrainingConfig, train: DataSource, reading: Reading, columns: tuple[str, ...]) -> DataSpec:
    # A column of that name which the configuration speaks of is text like any other.
    is_free = _SPLIT_COLUMN not in reading.columns.values() and f"{{{_SPLIT_COLUMN}}}" not in (reading.template or "")
    return DataSpec(
        train=train,
        validation=None,
        max_length=_max_length(config),
        over_long="truncate",
        packing=False,
        max_samples=None,
        sample_ratio=config.preprocessing.sample_ratio,
        reading=reading,
        split=SplitSpec(by="column", column=_SPLIT_COLUMN) if _SPLIT_COLUMN in columns and is_free else None,
    )


def _max_length(config: TrainingConfig) -> int:
    """Tokens of prompt and answer together."""
    bounds = [bound for bound in caps(config) if bound is not None]
    total = sum(bounds) if bounds and len(bounds) == len(caps(config)) else WHOLE_CONTEXT
    return max(8, min(total, config.preprocessing.global_max_sequence_length or WHOLE_CONTEXT))


def _method(trainer: Trainer) -> MethodSpec:
    if trainer.type == "finetune":
        return MethodSpec(kind="sft")
    if trainer.type != "dpo":
        return MethodSpec(kind=trainer.type)
    parameters: dict[str, object] = {"beta": trainer.dpo_beta}
    if trainer.dpo_loss_type != "sigmoid":
        parameters["loss"] = trainer.dpo_loss_type
    if trainer.dpo_label_smoothing:
        parameters["label_smoothing"] = trainer.dpo_label_smoothing
    return MethodSpec(kind="dpo", parameters=parameters)


def _adapter(config: TrainingConfig) -> AdapterSpec | None:
    asked = config.adapter
    if asked is None:
        return None
    return AdapterSpec(
        rank=asked.r,
        alpha=asked.alpha or 2 * asked.r,
        dropout=asked.dropout,
        targets=tuple(asked.target_modules or _QUERY_AND_VALUE),
        scaling="rank_stabilized" if asked.use_rslora else "standard",
        decomposed=asked.use_dora,
    )


def _optimization(trainer: Trainer) -> OptimizationSpec:
    batch_size = trainer.batch_size * trainer.gradient_accumulation_steps
    if batch_size > MAX_BATCH_SIZE:
        raise InvalidRequestError(
            f"batch_size x gradient_accumulation_steps must be at most {MAX_BATCH_SIZE} rows a step, got {batch_size}.",
            param=f"{_CONFIG}.trainer.batch_size",
        )
    return OptimizationSpec(
        optimizer=trainer.optimizer.type,
        learning_rate=trainer.learning_rate,
        schedule=trainer.learning_rate_scheduler.decay or "constant",
        warmup_ratio=trainer.learning_rate_scheduler.warmup_fraction,
        weight_decay=trainer.optimizer.weight_decay,
        max_grad_norm=trainer.gradient_clipping.clipglobalnorm,
        epochs=trainer.epochs if trainer.train_steps is None else MAX_EPOCHS,
        max_steps=trainer.train_steps,
        batch_size=batch_size,
        micro_batch_size=None,
        seed=_SEED,
    )
