"""`integrations` of a create request: trackers, and a repository for the result.

Credentials are read and forgotten: nothing is delivered in this version, so nothing would use them.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tunesmith.access.hosts import host_of
from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.spec.job import IntegrationSpec

MAX_INTEGRATIONS = 5


class Wandb(Wire):
    """Weights & Biases."""

    project: str = Field(min_length=1, max_length=256)
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None
    api_key: str | None = Field(default=None, exclude=True, repr=False)
    """Nebius: the user's own key."""


class Mlflow(Wire):
    """Nebius: an MLflow server."""

    tracking_uri: str = Field(min_length=1, max_length=2048)
    experiment_name: str | None = None
    run_name: str | None = None
    tags: dict[str, str] | None = None
    certificate_file_id: str | None = Field(default=None, exclude=True)
    username: str = Field(exclude=True, repr=False)
    password: str = Field(exclude=True, repr=False)
    certificate_file: str = Field(exclude=True, repr=False)
    """The certificate itself, as PEM text."""


class HfExport(Wire):
    """Nebius: a repository on the hub that the result is to be put into."""

    output_repo_name: str = Field(min_length=1, max_length=256)
    api_token: str = Field(min_length=1, exclude=True, repr=False)


class Integration(Wire):
    """A tracker or an export. The part that `type` names holds its settings."""

    type: Literal["wandb", "mlflow", "hf", "huggingface"]
    wandb: Wandb | None = None
    mlflow: Mlflow | None = None
    hf: HfExport | None = None
    huggingface: HfExport | None = None
    """Another spelling of `hf`."""

    @model_validator(mode="after")
    def _has_its_part(self) -> Self:
        if self.settings is None or len(self.model_fields_set) > 2:
            raise ValueError(f"type {self.type!r} needs its settings in {self.type!r}, and no other part")
        return self

    @property
    def settings(self) -> Wandb | Mlflow | HfExport | None:
        """The part that `type` names."""
        part: Wandb | Mlflow | HfExport | None = getattr(self, self.type)
        return part


def is_nebius(raw: Any) -> bool:
    """Whether an entry of `integrations`, as it came, is one that only Nebius has."""
    if not isinstance(raw, dict):
        return False
    wandb = raw.get("wandb")
    return raw.get("type") != "wandb" or (isinstance(wandb, dict) and "api_key" in wandb)


def to_specs(integrations: Sequence[Integration]) -> tuple[IntegrationSpec, ...]:
    """The integrations without their credentials.

    Raises:
        InvalidRequestError: an address is not valid, or holds a user or password; it is not repeated.
    """
    return tuple(_to_spec(each, f"integrations.{index}") for index, each in enumerate(integrations))


def _to_spec(integration: Integration, param: str) -> IntegrationSpec:
    settings = integration.settings
    assert settings is not None  # its validator saw to that
    if isinstance(settings, Mlflow):
        host_of(settings.tracking_uri, param=f"{param}.mlflow.tracking_uri")
    return IntegrationSpec(kind=_KINDS[integration.type], settings=settings.model_dump())


_KINDS: dict[str, Literal["wandb", "mlflow", "hub"]] = {
    "wandb": "wandb",
    "mlflow": "mlflow",
    "hf": "hub",
    "huggingface": "hub",
}
_TYPES = {"wandb": "wandb", "mlflow": "mlflow", "hub": "hf"}


def render_all(integrations: Sequence[IntegrationSpec]) -> list[dict[str, Any]]:
    """Integrations as jobs show them; those that this API has no word for are left out."""
    return [
        {"type": _TYPES[each.kind], _TYPES[each.kind]: each.settings} for each in integrations if each.kind in _TYPES
    ]
