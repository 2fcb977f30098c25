"""What a request asks for that has no effect, or another one than at the origin. Pure."""

from tunesmith.dialects.shakti.columns import caps
from tunesmith.dialects.shakti.wire import Quantization, TrainingConfig
from tunesmith.spec.job import JobSpec

_CONFIG = "training_config_json"
_OF_PREFERENCES = {"dpo_beta", "dpo_loss_type", "dpo_label_smoothing"}
_THRESHOLD = Quantization().llm_int8_threshold


def notes_on(config: TrainingConfig, spec: JobSpec) -> list[str]:
    """A sentence for each requested thing that has no effect, or another one than at the origin."""
    trainer, bounds, quantization = config.trainer, caps(config), config.quantization
    preferences = sorted(_OF_PREFERENCES & trainer.model_fields_set) if trainer.type != "dpo" else []
    told = {
        "quantization.bnb_4bit_compute_dtype 'float16' is carried out as bfloat16.": (
            config.quantization is not None and config.quantization.bnb_4bit_compute_dtype == "float16"
        ),
        "trainer.epochs has no effect: trainer.train_steps takes its place.": (
            trainer.train_steps is not None and "epochs" in trainer.model_fields_set
        ),
        "trainer.eval_batch_size has no effect: how rows are evaluated changes no figure.": (
            trainer.eval_batch_size is not None
        ),
        "trainer.early_stop has no effect: no column `split` keeps rows for validation.": (
            trainer.early_stop not in (None, -1, 0) and spec.selection.patience is None
        ),
        "trainer.checkpoints_per_epoch has no effect: a checkpoint is saved at the end of each epoch.": (
            trainer.checkpoints_per_epoch not in (None, 1)
        ),
        "preprocessing.max_sequence_length of a feature has no effect: only one for every feature bounds a row.": (
            None in bounds and any(bounds)
        ),
        f"trainer.type {trainer.type!r} leaves these without effect: {', '.join(preferences)}.": bool(preferences),
        "quantization.llm_int8_threshold has no effect on 4 bits.": (
            quantization is not None and quantization.bits == 4 and quantization.llm_int8_threshold != _THRESHOLD
        ),
        "quantization.bnb_4bit_quant_type and bnb_4bit_use_double_quant have no effect on 8 bits.": (
            quantization is not None
            and quantization.bits == 8
            and bool({"bnb_4bit_quant_type", "bnb_4bit_use_double_quant"} & quantization.model_fields_set)
        ),
        "backend has no effect: the job runs on this server.": config.backend is not None,
    }
    return [f"{_CONFIG}.{sentence}" for sentence, applies in told.items() if applies]
