"""How a server is deployed: the only reader of the environment.

Every setting can stand in the environment (`TUNESMITH_…`) or in `<home>/tunesmith.toml`; the command line wins over the
environment, which wins over the file.
"""

import os
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tunesmith.spec.errors import SettingsError
from tunesmith.spec.faults import reason

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix="TUNESMITH_", extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    home: Path = Path("~/.tunesmith")
    """Folder that holds everything the server keeps: database, files, jobs, models."""

    host: str = "127.0.0.1"
    """Address to listen on. Without authentication only loopback addresses are served."""

    port: int = Field(default=23478, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""

    authentication: Literal["none", "required"] = "none"
    """Whether callers must show an API key or a token. Without, everybody is the owner of one local organisation."""

    token_secret: SecretStr | None = None
    """Secret of at least 32 bytes that tokens (JWT) are signed with by HS256."""

    token_secret_file: Path | None = None
    """File that holds the secret, instead."""

    token_jwks: str | None = None
    """Path or https address of the key set that tokens are signed with by RS256 or ES256, instead."""

    token_issuer: str | None = None
    """What every token must name as its issuer."""

    token_audience: str | None = None
    """What every token must name as its audience."""

    model_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders whose sub-folders may be named as base models. In the environment, separated by `:`."""

    model_aliases: dict[str, Path] = {}
    """Names of base models and the local folders that they stand for."""

    runner: str = "local"
    """Where workers run: the name of a module in `tunesmith.runners`."""

    worker_python: str = sys.executable
    """Interpreter for workers: the one of an environment that has torch, if the server's own has not."""

    visible_gpus: str | None = None
    """GPUs that jobs may use, as numbers or UUIDs separated by commas; none = those of CUDA_VISIBLE_DEVICES, or all."""

    warm_workers: bool = True
    """Keep a parent process with the training libraries imported, so that jobs start within a second. Needs about
    600 MB of memory."""

    stall_warning_seconds: float = Field(default=600.0, gt=0)
    """A worker that shows no sign of getting on for so long is warned of in an event."""

    stall_limit_seconds: float = Field(default=1800.0, gt=0)
    """One that shows none for so long is removed, and its job goes on in another."""

    unavailable_resources: Literal["adjust", "refuse"] = "adjust"
    """What becomes of a job that asks for GPUs or nodes which this server has not: it runs on what there is and says
    so, or it is refused."""

    device_memory_bytes: int | None = Field(default=None, ge=1)
    """Memory that a job may use on each device; none = all that it has. Jobs that surely need more are refused, and the
    size of forward passes is chosen for it."""

    captioning_model: str | None = None
    """Model that captions pictures for the strategy `auto`: an alias, or a folder below a model root. None = `auto` is
    refused."""

    hub_url: str | None = "https://huggingface.co"
    """Hub that models and data sets are fetched from by name. In the environment, empty for none."""

    mlflow_url: str | None = None
    """MLflow server that the Training API's `tracking_backend: mlflow` stands for. In the environment, empty for
    none."""

    allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks that are not public and may be fetched from all the same, such as `10.0.0.0/8`. In the environment,
    separated by commas."""

    max_download_bytes: int = Field(default=512 * 1024**3, ge=1)
    """Largest content or model that may be fetched."""

    max_upload_bytes: int = Field(default=8 * 1024**3, ge=1)
    """Largest file that may be uploaded."""

    max_row_cache_bytes: int = Field(default=16 * 1024**3, ge=0)
    """How much of prepared rows is kept for later trainings; 0 keeps nothing."""

    max_encoded_cache_bytes: int = Field(default=32 * 1024**3, ge=1)
    """How much of what was encoded of pictures and captions is kept for later trainings."""

    webhook_log_days: int = Field(default=30, ge=1, le=3650)
    """How long deliveries of webhooks are kept once they and their job have ended, in days."""

    @field_validator("visible_gpus", mode="after")
    @classmethod
    def _or_cudas(cls, value: str | None) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES") if value is None else value

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("hub_url", "mlflow_url")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("home", "model_roots", "model_aliases", mode="after")
    @classmethod
    def _expand_user(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return value.expanduser().absolute()
        if isinstance(value, dict):
            return {name: path.expanduser().absolute() for name, path in value.items()}
        return tuple(path.expanduser().absolute() for path in value)

    @model_validator(mode="after")
    def _only_loopback_is_open(self) -> Self:
        if self.authentication == "none" and self.host not in _LOOPBACK:
            raise ValueError(
                f"without authentication only loopback addresses are served ({', '.join(_LOOPBACK)}), "
                f"not {self.host!r}; set authentication to 'required'"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, then the file in the home that those two name."""
        given: Any = init_settings().get("home") or os.environ.get("TUNESMITH_HOME") or cls.model_fields["home"].default
        file = Path(given).expanduser() / "tunesmith.toml"
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)


def load_settings(**given: Any) -> Settings:
    """Settings from the command line's values (those that are not none), the environment and the file.

    Raises:
        SettingsError: a value is not allowed, or the file is not TOML.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = reason(first)
        if not name or name.startswith("token_"):
            raise SettingsError(f"Settings: {message}.", param=name or "host") from error
        raise SettingsError(f"Setting {name}: {message}, got {first['input']!r}.", param=name) from error
    except ValueError as error:  # of the readers of TOML and of JSON in the environment
        raise SettingsError(f"The settings (tunesmith.toml or TUNESMITH_*) cannot be read: {error}.") from error
