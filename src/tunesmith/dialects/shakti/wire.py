"""The form of `POST /api/llm/train`: two texts, a part of JSON and a file.

Sources: the vendor's page for parts and keys; Ludwig's schema, which the configuration is taken from, for names and for
defaults, but where its own would train for very long.
"""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints

from tunesmith.dialects._forms import JSON_PART, FilePart
from tunesmith.dialects._wire import WHOLE_CONTEXT, Wire
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import MAX_BATCH_SIZE, MAX_EPOCHS

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=1024)]

_OTHER_KINDS = {
    "ecd": "models made of encoders, a combiner and decoders",
    "clip": "models that compare pictures with texts",
}


def _refuse_other_kinds(kind: Any) -> Any:
    if isinstance(kind, str) and kind in _OTHER_KINDS:
        raise UnsupportedError(
            f"training_config_json.model_type {kind!r} is not available: this server trains no {_OTHER_KINDS[kind]}.",
            param="training_config_json.model_type",
            hint="Available: 'llm' and 'vlm'.",
        )
    return kind


class Adapter(Wire):
    """A low-rank adapter, in Ludwig's words or in PEFT's."""

    type: Literal["lora"] = "lora"
    r: int = Field(default=8, ge=1, le=1024, validation_alias=AliasChoices("r", "lora_r"))
    alpha: float | None = Field(default=None, gt=0, validation_alias=AliasChoices("alpha", "lora_alpha"))
    """None = twice the rank."""

    dropout: float = Field(default=0.05, ge=0, lt=1, validation_alias=AliasChoices("dropout", "lora_dropout"))
    bias_type: Literal["none"] = "none"
    target_modules: list[Name] | None = Field(default=None, min_length=1)
    """None = the attention's query and value."""

    use_rslora: bool = False
    """Whether the update is multiplied by alpha / sqrt(rank) instead of alpha / rank."""

    use_dora: bool = False
    """Whether magnitudes are trained apart from directions."""


class Quantization(Wire):
    """Bits of frozen weights."""

    bits: Literal[4, 8] = 4
    llm_int8_threshold: float = Field(default=6.0, ge=0)
    llm_int8_has_fp16_weight: bool = False
    bnb_4bit_compute_dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    bnb_4bit_use_double_quant: bool = True
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = "nf4"


class Scheduler(Wire):
    """How the learning rate changes."""

    warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    decay: Literal["linear", "cosine"] | None = None


class Optimizer(Wire):
    """What changes the weights."""

    type: Literal["adam", "adamw", "adamw_8bit", "sgd"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0)


class Clipping(Wire):
    """What becomes of large gradients."""

    clipglobalnorm: float | None = Field(default=0.5, gt=0)


class Trainer(Wire):
    """How to train."""

    type: Literal["finetune", "none", "dpo", "kto", "orpo", "grpo"] = "finetune"
    learning_rate: float = Field(default=0.0001, gt=0, le=1)
    learning_rate_scheduler: Scheduler = Field(default_factory=Scheduler)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    batch_size: int = Field(default=1, ge=1, le=MAX_BATCH_SIZE)
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=MAX_BATCH_SIZE)
    epochs: float = Field(default=1, gt=0, le=MAX_EPOCHS)
    train_steps: int | None = Field(default=None, ge=1)
    """Takes the place of `epochs`."""

    logging_steps: int = Field(default=10, ge=1)
    eval_batch_size: int | None = Field(default=None, ge=1)
    early_stop: int | None = Field(default=None, ge=-1)
    checkpoints_per_epoch: int | None = Field(default=None, ge=0)
    gradient_clipping: Clipping = Field(default_factory=Clipping)
    dpo_beta: float = Field(default=0.1, gt=0)
    dpo_loss_type: Literal["sigmoid", "ipo"] = "sigmoid"
    dpo_label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    rejected_column: Column = "rejected"


class FeaturePreprocessing(Wire):
    """What happens to a column's text."""

    max_sequence_length: int | None = Field(default=None, ge=1, le=WHOLE_CONTEXT)


class Feature(Wire):
    """A column of text."""

    name: Column
    type: Literal["text"] = "text"
    column: Column | None = None
    """None = the name."""

    preprocessing: FeaturePreprocessing = Field(default_factory=FeaturePreprocessing)


class PromptConfig(Wire):
    """What the model is asked."""

    template: Annotated[str, StringConstraints(max_length=65_536)] | None = None


class Preprocessing(Wire):
    """What happens to the rows."""

    sample_ratio: float = Field(default=1.0, gt=0, le=1)
    global_max_sequence_length: int | None = Field(default=None, ge=8, le=WHOLE_CONTEXT)


class Backend(Wire):
    """Where Ludwig would run."""

    type: Name = "local"


class TrainingConfig(Wire):
    """The part `training_config_json`."""

    model_type: Annotated[Literal["llm", "vlm"], BeforeValidator(_refuse_other_kinds)]
    base_model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    adapter: Adapter | None = None
    """None = all weights are trained."""

    quantization: Quantization | None = None
    trainer: Trainer = Field(default_factory=Trainer)
    image_column: Column | None = None
    input_column: Column | None = None
    output_column: Column | None = None
    input_features: list[Feature] | None = None
    output_features: list[Feature] | None = None
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    backend: Backend | None = None


class CreateJob(Wire):
    """The whole form."""

    training_config_json: Annotated[TrainingConfig, JSON_PART]
    experiment_name: Name
    csv_file: FilePart
    org: Name
