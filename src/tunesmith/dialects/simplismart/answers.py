"""Shapes of the answers. Times are ISO 8601 in UTC, with a Z.

Source: the published OpenAPI document of the training suite, version 2.0.0; what it has not is marked as ours.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELED"]


class Answer(BaseModel):
    """What answers are made of."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Created(Answer):
    """What became of a new job."""

    request_id: str
    status: Status
    message: str
    experiment_name: str


class Summary(Answer):
    """A job in a list."""

    request_id: str
    experiment_name: str | None
    status: Status
    created_at: str
    updated_at: str
    model_type: str
    base_model: str
    train_type: str
    progress: float = Field(ge=0, le=100)
    """Percent of the steps."""


class JobList(Answer):
    """A page of jobs."""

    jobs: list[Summary]
    total_count: int
    """Jobs in all, not only on this page."""


class FullJob(Answer):
    """A job with its five configurations, as they were sent."""

    request_id: str
    experiment_name: str | None
    status: Status
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    progress: float = Field(ge=0, le=100)
    """Percent of the steps."""

    dataset_config: dict[str, Any]
    model_details: dict[str, Any]
    train_config: dict[str, Any]
    dataset_details: dict[str, Any]
    infra_config: dict[str, Any]
    output_model_path: str | None
    error_message: str | None
    notes: list[str]
    """Ours: what was asked for and has no effect."""


class Metric(Answer):
    """One figure at one step."""

    key: str
    value: float
    timestamp: str
    step: int
    epoch: float | None
    """Passes over the data completed so far; none before the first training figures."""


class MetricList(Answer):
    """Figures of a job, oldest first."""

    request_id: str
    metrics: list[Metric]


class LogEntry(Answer):
    """Something that happened to a job."""

    timestamp: str
    level: Literal["info", "warn", "error"]
    message: str


class Logs(Answer):
    """Ours: what happened to a job, and what its workers printed."""

    request_id: str
    entries: list[LogEntry]
    output: str
    """The end of it, all attempts in order."""


class CheckpointEntry(Answer):
    """A checkpoint that can be downloaded."""

    checkpoint_id: str
    step: int
    created_at: str
    metrics: dict[str, float]
    files: list[str]
    """Ids of its files, for `GET /v1/files/{file_id}/content`."""


class CheckpointList(Answer):
    """Ours: a job's checkpoints by falling step."""

    request_id: str
    checkpoints: list[CheckpointEntry]


class SecretEntry(Answer):
    """What may be told of a secret."""

    secret_id: str
    name: str | None
    purpose: str
    host: str | None
    field_names: list[str]
    created_at: str
    updated_at: str


class SecretList(Answer):
    """Ours: the organisation's secrets by name."""

    secrets: list[SecretEntry]


class Deleted(Answer):
    """Ours: a confirmation."""

    secret_id: str
    message: str


class DatasetEntry(Answer):
    """A registered dataset."""

    dataset_name: str
    version: int
    dataset_type: str
    rows: int
    bytes: int
    created_at: str


class DatasetList(Answer):
    """Ours: the organisation's datasets by name, the newest version of each first."""

    datasets: list[DatasetEntry]
