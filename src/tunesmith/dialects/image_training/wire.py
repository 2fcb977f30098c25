"""What goes over the wire: the schemas of the origin's page, with the ranges that are allowed here.

Members of an enumeration that the page does not show are our choice; the dialect's page says which.
"""

import uuid
from enum import IntEnum, StrEnum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tunesmith.dialects._wire import Wire
from tunesmith.spec.job import MAX_EPOCHS

DEFAULT_RANK = 16
DEFAULT_STEPS = 1000
DEFAULT_LEARNING_RATE = 1e-4
DEFAULT_BASE_MODEL = "black-forest-labs/FLUX.1-dev"
DEFAULT_ORIGIN = "unknown"
SAVE_EVERY = 2000
KEPT_SAVES = 4
SAMPLE_EVERY = 250
SAMPLE_STEPS = 25

MAX_STEPS = MAX_EPOCHS
"""The most passes that a spec can ask for: with a single picture and a batch of one, so many passes are so many steps,
and it is always `steps` that ends a training."""


class TrainingType(StrEnum):
    """What is trained: all weights, or a low-rank adapter."""

    FULL = "FULL"
    LORA = "LORA"


class EntityType(StrEnum):
    """What the pictures show."""

    SUBJECT = "SUBJECT"
    PRODUCT = "PRODUCT"
    STYLE = "STYLE"


class TrainingStatus(StrEnum):
    """Where a task stands."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    PREPROCESSING = "PREPROCESSING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class CaptioningStrategy(StrEnum):
    """Where captions come from."""

    TRIGGER_ONLY = "trigger_only"
    FILENAME = "filename"
    EXISTING = "existing"
    CUSTOM = "custom"
    AUTO = "auto"


class TaskPriority(IntEnum):
    """Place in the queue."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    URGENT = 3


class _OrNull:
    """Shows a field's type beside null. A null is replaced by the field's default before the field is read."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core_schema), {"type": "null"}]}


_OR_NULL = _OrNull()


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Label = Annotated[str, StringConstraints(max_length=512)]
Prompt = Annotated[str, StringConstraints(max_length=2000)]


class TrainingTaskCreate(Wire):
    """Schema for creating new training tasks. Null means the default in every field that may be null."""

    training_type: Annotated[TrainingType, Field(strict=False), BeforeValidator(_upper)] = TrainingType.LORA
    entity_type: Annotated[EntityType, Field(strict=False), BeforeValidator(_upper)] = EntityType.PRODUCT
    entity_id: Annotated[uuid.UUID, Field(strict=False)] | None = None
    trigger_word: Annotated[str, StringConstraints(max_length=128)]
    rank: Annotated[int, Field(ge=1, le=1024), _OR_NULL] = DEFAULT_RANK
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS), _OR_NULL] = DEFAULT_STEPS
    learning_rate: Annotated[float, Field(gt=0, le=1), _OR_NULL] = DEFAULT_LEARNING_RATE
    sample_prompts: Annotated[list[Prompt], Field(max_length=20), _OR_NULL] = Field(default=[])
    source_images: Annotated[list[str], Field(max_length=10_000), _OR_NULL] = Field(default=[])
    base_model_path: Annotated[str, StringConstraints(min_length=1, max_length=512), _OR_NULL] = DEFAULT_BASE_MODEL
    bypass_guidance_embedding: Annotated[bool, _OR_NULL] = False
    webhook_url: str | None = None
    origin_instance: Annotated[Label, _OR_NULL] = DEFAULT_ORIGIN
    """Identifier for the instance that created this task (e.g., 'production', 'staging')"""

    origin_zone: Label | None = None
    """Environment identifier (e.g., 'eu', 'us')"""

    origin_version: Label | None = None
    """Version of the system that created this task"""

    origin_tenant_id: Label | None = None
    """Optional tenant/organization identifier for multi-tenant setups"""

    preprocessing_transforms: Annotated[list[dict[str, Any]], Field(max_length=64)] | None = None
    """List of image transformations to apply"""

    preprocessing_captioning_strategy: Annotated[
        CaptioningStrategy, Field(strict=False), BeforeValidator(_lower), _OR_NULL
    ] = CaptioningStrategy.TRIGGER_ONLY
    """Strategy for image captioning"""

    preprocessing_captioning_prompt: Prompt | None = None
    """Custom prompt for captioning"""

    priority: Annotated[TaskPriority, Field(strict=False), _OR_NULL] = TaskPriority.NORMAL
    """Task priority affecting queue position. An addition to the origin's schema"""

    source_secret: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Id or name of the stored credentials for source images. An addition to the origin's schema"""

    base_model_secret: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Id or name of the stored token for the hub of the base model. An addition to the origin's schema"""

    @model_validator(mode="before")
    @classmethod
    def _null_means_the_default(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        replaced = {name for name, field in cls.model_fields.items() if _OR_NULL in field.metadata}
        return {name: value for name, value in data.items() if value is not None or name not in replaced}

    @field_validator("trigger_word")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank: it is the word that the model learns")
        return value

    @field_validator("priority", mode="before")
    @classmethod
    def _whole_number(cls, value: Any) -> Any:
        if type(value) is not int:
            raise ValueError("must be 0, 1, 2 or 3")
        return value


Clock = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Uuid = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]


class TrainingTask(BaseModel):
    """A task as it stands. Every field is always there."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: Uuid
    created_at: Clock
    updated_at: Clock
    origin_instance: str = DEFAULT_ORIGIN
    """Identifier for the instance that created this task (e.g., 'production', 'staging')"""

    origin_zone: str | None = None
    """Environment identifier (e.g., 'eu', 'us')"""

    origin_version: str | None = None
    """Version of the system that created this task"""

    origin_tenant_id: str | None = None
    """Optional tenant/organization identifier for multi-tenant setups"""

    training_type: TrainingType = TrainingType.LORA
    entity_type: EntityType = EntityType.PRODUCT
    entity_id: Uuid | None = None
    status: TrainingStatus = TrainingStatus.PENDING
    progress: float = 0.0
    current_step: int = 0
    total_steps: int = DEFAULT_STEPS
    eta_seconds: int | None = None
    trigger_word: str
    training_folder: str = ""
    rank: int = DEFAULT_RANK
    save_every: int = SAVE_EVERY
    max_step_saves_to_keep: int = KEPT_SAVES
    batch_size: int = 1
    steps: int = DEFAULT_STEPS
    learning_rate: float = DEFAULT_LEARNING_RATE
    gradient_accumulation: int = 1
    optimizer: str = "adamw8bit"
    bypass_guidance_embedding: bool = False
    base_model_path: str = DEFAULT_BASE_MODEL
    local_model_path: str | None = None
    sample_every: int = SAMPLE_EVERY
    sample_steps: int = SAMPLE_STEPS
    sample_prompts: list[str]
    started_at: Clock | None = None
    completed_at: Clock | None = None
    logs: str = ""
    error_message: str | None = None
    webhook_url: str = ""
    celery_training_task_id: str | None = None
    celery_preprocessing_task_id: str | None = None
    celery_chain_task_id: str | None = None
    preprocessing_stage: str | None = None
    """Current preprocessing stage (downloading, validating, etc.)"""

    processed_files_count: int | None = None
    """Number of files processed during preprocessing"""

    total_files_count: int | None = None
    """Total number of files to process"""

    preprocessing_started_at: Clock | None = None
    """When preprocessing phase started"""

    preprocessing_completed_at: Clock | None = None
    """When preprocessing phase completed"""

    source_images: list[str]
    """Original image paths from source system"""

    processed_dataset_path: str | None = None
    """Path to the processed dataset on compute server"""

    preprocessing_transforms: list[dict[str, Any]] | None = None
    """List of image transformations to apply"""

    preprocessing_captioning_strategy: str = "trigger_only"
    """Strategy for image captioning"""

    preprocessing_captioning_prompt: str | None = None
    """Custom prompt for captioning"""

    priority: TaskPriority = TaskPriority.NORMAL
    """Task priority affecting queue position"""

    priority_changed_at: Clock | None = None
    """Timestamp of last priority change"""


class ValidationError(BaseModel):
    """One fault of a request."""

    loc: list[str | int]
    """`body`, `query` or `path`, and the way from there."""

    msg: str
    type: str
    """Our stable code of the error."""


class HTTPValidationError(BaseModel):
    """What is wrong with a request."""

    detail: list[ValidationError]


class Refusal(BaseModel):
    """Why a request was not answered, in a sentence."""

    detail: str
