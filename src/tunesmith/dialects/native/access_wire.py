"""Bodies of requests for secrets, members, projects and API keys."""

from typing import Annotated, Any

from pydantic import ConfigDict, StringConstraints, ValidatorFunctionWrapHandler, WrapValidator

from tunesmith.dialects.native.wire import Name, Text
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.frozen import Frozen
from tunesmith.store.organisations import RoleName
from tunesmith.store.secrets import Purpose


class _Body(Frozen):
    model_config = ConfigDict(strict=True)


def _texts(value: Any, _check: ValidatorFunctionWrapHandler) -> dict[str, str]:
    """Refused in other words than all else, which would repeat the value."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise InvalidRequestError("fields must be an object whose values are texts.", param="fields")
    return value


SecretFields = Annotated[dict[str, str], WrapValidator(_texts)]


class SecretRequest(_Body):
    """Credentials to keep. No answer ever repeats the values of `fields`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "rows", "purpose": "s3", "fields": {"access_key_id": "…", "secret_access_key": "…"}},
                {"name": "hub", "purpose": "hub", "fields": {"token": "…"}},
            ]
        }
    )

    name: Name
    """What requests call it."""

    purpose: Purpose
    fields: SecretFields
    """Names and values. Which ones a purpose has, `docs/access.md` tells."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=260)] | None = None
    """The only host that they may be sent to; none = the purpose's default."""


class SecretFieldsRequest(_Body):
    """Other values for a secret."""

    fields: SecretFields
    """All names and values; the former ones are forgotten."""


class MemberRequest(_Body):
    """A user to list."""

    user: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    """As tokens name it in `sub`."""

    role: RoleName


class RoleRequest(_Body):
    """Another role for a member."""

    role: RoleName


class ProjectRequest(_Body):
    """A project."""

    name: Name
    """Unique within the organisation."""


class KeyRequest(_Body):
    """An API key."""

    name: Name
    """What it is for."""

    role: RoleName
    user: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """Whose it is; none = a machine's."""

    project: Text | None = None
    """Id of the only project that it may work in; none = all of the organisation."""

    expires_at: float | None = None
    """Seconds since 1970, UTC; none = when it is revoked."""
