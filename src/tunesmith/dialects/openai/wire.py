"""The create request: OpenAI's fields and Nebius's.

Sources: OpenAI's OpenAPI document, `CreateFineTuningJobRequest`; Nebius's, `FineTuningRequest`. A request that uses any
of Nebius's own fields is read by Nebius's rules: absolute learning rate, full tuning unless `lora` is true.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from tunesmith.dialects.openai.graders import Grader
from tunesmith.dialects.openai.hyperparameters import (
    DpoHyperparameters,
    DraftHyperparameters,
    Hyperparameters,
    ReinforcementHyperparameters,
    Wire,
)
from tunesmith.dialects.openai.integrations import MAX_INTEGRATIONS, Integration
from tunesmith.dialects.openai.mounts import Flavour

MAX_LABELS = 16
_MAX_KEY, _MAX_VALUE = 64, 512


class SupervisedMethod(Wire):
    """The settings of `method.supervised`."""

    hyperparameters: Hyperparameters | None = None


class DpoMethod(Wire):
    """The settings of `method.dpo`."""

    hyperparameters: DpoHyperparameters | None = None


class ReinforcementMethod(Wire):
    """The settings of `method.reinforcement`."""

    grader: Grader
    hyperparameters: ReinforcementHyperparameters | None = None


class DraftMethod(Wire):
    """Nebius: the settings of `method.spec_draft`."""

    hyperparameters: DraftHyperparameters | None = None


class Method(Wire):
    """How to train. The part that `type` names holds its settings."""

    type: Literal["supervised", "dpo", "reinforcement", "spec-draft"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: ReinforcementMethod | None = None
    spec_draft: DraftMethod | None = None


class FromCheckpoint(Wire):
    """Nebius: trained weights to begin with, from the hub (`hf`) or of an earlier job (`ft`)."""

    type: Literal["hf", "ft"] = "hf"
    repo: str | None = Field(default=None, max_length=256)
    revision: str | None = Field(default=None, max_length=256)
    token: str | None = Field(default=None, exclude=True, repr=False)
    job_id: str | None = None
    checkpoint_id: str | None = None
    checkpoint: str | None = None
    """Both ids in one, `ftjob-…:ftckpt_…`."""

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        on_hub = {"repo", "revision", "token"} & self.model_fields_set
        of_job = {"job_id", "checkpoint_id", "checkpoint"} & self.model_fields_set
        if self.type == "hf" and (of_job or not self.repo):
            raise ValueError("type 'hf' needs repo, and may have revision and token only")
        if self.type == "ft" and (on_hub or of_job not in ({"job_id", "checkpoint_id"}, {"checkpoint"})):
            raise ValueError("type 'ft' needs job_id and checkpoint_id, or checkpoint as 'ftjob-…:ftckpt_…' alone")
        return self


class CreateJob(Wire):
    """Body of `POST /v1/fine_tuning/jobs`."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    training_file: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    validation_file: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    suffix: Annotated[str, StringConstraints(max_length=64)] | None = None
    seed: int | None = Field(default=None, ge=0, le=2147483647)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    metadata: dict[str, str] | None = None
    integrations: list[Integration] | None = Field(default=None, max_length=MAX_INTEGRATIONS)
    tags: list[str] | str | None = None
    """Nebius: labels; a bare string counts as one."""

    from_checkpoint: FromCheckpoint | None = None
    extra_body: dict[str, Any] | None = None

    _flavour: Flavour = PrivateAttr(default="openai")
    _unknown: tuple[str, ...] = PrivateAttr(default=())

    @property
    def flavour(self) -> Flavour:
        """The vendor by whose rules the request is read."""
        return self._flavour

    @property
    def unknown(self) -> tuple[str, ...]:
        """Paths of keys that nobody knows, which Nebius passes over."""
        return self._unknown

    def read_by(self, flavour: Flavour, *, unknown: tuple[str, ...] = ()) -> Self:
        """The same request with the rules that it is read by."""
        self._flavour, self._unknown = flavour, unknown
        return self

    @property
    def labels(self) -> dict[str, str]:
        """What lists can be filtered by: the metadata, and every tag with the value `true`."""
        tags = [self.tags] if isinstance(self.tags, str) else self.tags or []
        return {**dict.fromkeys(tags, "true"), **(self.metadata or {})}

    @field_validator("metadata")
    @classmethod
    def _metadata_fits(cls, metadata: dict[str, str] | None) -> dict[str, str] | None:
        pairs = metadata or {}
        if len(pairs) > MAX_LABELS:
            raise ValueError(f"at most {MAX_LABELS} pairs are allowed, these are {len(pairs)}")
        for key, value in pairs.items():
            if not 1 <= len(key) <= _MAX_KEY or len(value) > _MAX_VALUE:
                raise ValueError(
                    f"keys have 1 to {_MAX_KEY} characters and values at most {_MAX_VALUE}; {key[:70]!r} does not fit"
                )
        return metadata

    @field_validator("tags")
    @classmethod
    def _tags_fit(cls, tags: list[str] | str | None) -> list[str] | str | None:
        several = [tags] if isinstance(tags, str) else tags or []
        if len(several) > MAX_LABELS or not all(1 <= len(tag) <= _MAX_KEY for tag in several):
            raise ValueError(f"at most {MAX_LABELS} tags of 1 to {_MAX_KEY} characters are allowed")
        return tags
