"""`integrations` of a create request: trackers, and a repository for the result. Answers never show credentials."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.integrations import Wish
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

    def wish(self, param: str) -> Wish:
        """What is asked for; without a key, for what the organisation stored."""
        return Wish("wandb", self.model_dump(), param, _given(api_key=self.api_key))


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

    def wish(self, param: str) -> Wish:
        """What is asked for. Credentials may be empty, for a server that asks for none."""
        credentials = _given(username=self.username, password=self.password, certificate=self.certificate_file)
        return Wish("mlflow", self.model_dump(), param, credentials)


class HfExport(Wire):
    """Nebius: a repository on the hub that the result is to be put into."""

    output_repo_name: str = Field(min_length=1, max_length=256)
    api_token: str = Field(min_length=1, exclude=True, repr=False)

    def wish(self, param: str) -> Wish:
        """What is asked for."""
        return Wish("hub", self.model_dump(), param, {"token": self.api_token})


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


def to_wishes(integrations: Sequence[Integration]) -> tuple[Wish, ...]:
    """What a request asks for."""
    return tuple(
        each.settings.wish(f"integrations.{number}.{each.type}")
        for number, each in enumerate(integrations)
        if each.settings is not None  # always: its validator saw to that
    )


def notes_on(integrations: Sequence[Integration]) -> list[str]:
    """What of a request has no effect."""
    return [
        "certificate_file_id has no effect: the certificate in certificate_file is used."
        for each in integrations
        if each.mlflow is not None and each.mlflow.certificate_file_id is not None
    ]


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


_TYPES: dict[str, tuple[str, type[Wire]]] = {
    "wandb": ("wandb", Wandb),
    "mlflow": ("mlflow", Mlflow),
    "hub": ("hf", HfExport),
}
"""What our kinds are called here, and the settings that an answer shows."""


def render_all(integrations: Sequence[IntegrationSpec]) -> list[dict[str, Any]]:
    """Integrations as jobs show them; those that this API has no word for are left out."""
    return [_rendered(each) for each in integrations if each.kind in _TYPES]


def _rendered(integration: IntegrationSpec) -> dict[str, Any]:
    name, settings = _TYPES[integration.kind]
    shown = [field for field, about in settings.model_fields.items() if not about.exclude]
    told = {field: integration.settings[field] for field in shown if field in integration.settings}
    return {"type": name, name: told}
