"""Shapes of the answers. Times are ISO 8601 in UTC, with a Z, but for those of metrics.

Sources: the vendor's page for the answer to a submission; the first version of the training suite that this product was
made from for the lists, the metrics and the errors. What neither has is marked as ours.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["pending", "running", "completed", "failed"]


class Answer(BaseModel):
    """What answers are made of."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


class Submitted(Answer):
    """What became of a new job."""

    request_id: str
    status: Status
    message: str


class Summary(Answer):
    """A job in a list."""

    id: str
    name: str | None
    status: Status
    created_at: str
    updated_at: str


class JobList(Answer):
    """A page of jobs, newest first."""

    training_jobs: list[Summary]


class FullJob(Answer):
    """A job with its configuration."""

    request_id: str
    name: str | None
    status: Status
    created_at: str
    updated_at: str
    progress: float = Field(ge=0, le=100)
    """Percent of the steps."""

    config: dict[str, Any]
    output_model: str | None
    error: str | None
    notes: list[str]
    """Ours: what was asked for and has no effect."""


class Metric(Answer):
    """One figure at one step."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since the epoch."""

    step: int


class MetricList(Answer):
    """Figures of a job, oldest first."""

    metrics: list[Metric]
