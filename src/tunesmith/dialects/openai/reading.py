"""From a body to a create request: by whose rules it is read, and where a fault lies as the user typed it."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, WrapValidator

from tunesmith.dialects._wire import to_error
from tunesmith.dialects.openai import integrations
from tunesmith.dialects.openai.hyperparameters import NEBIUS_FIELDS
from tunesmith.dialects.openai.mounts import Flavour, Mount
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.spec.errors import InvalidRequestError, TunesmithError
from tunesmith.spec.faults import place

Path = tuple[str | int, ...]


class NebiusRequestError(InvalidRequestError):
    """A request by Nebius's rules cannot be understood. That vendor answers with 422 where OpenAI answers with 400."""


def create_job_on(mount: Mount) -> WrapValidator:
    """Reads the body of a create request as it is read on a mount."""

    def read(raw: Any, validate: ModelWrapValidatorHandler[CreateJob]) -> CreateJob:
        return read_create_job(raw, mount, validate) if isinstance(raw, dict) else validate(raw)

    return WrapValidator(read)


def read_create_job(
    raw: dict[str, Any], mount: Mount, validate: Callable[[Any], CreateJob] = CreateJob.model_validate
) -> CreateJob:
    """A create request. Keys that nobody knows are refused by OpenAI's rules and remembered by Nebius's.

    Raises:
        InvalidRequestError: the request breaks the rules that it is read by; `param` is the path as the user typed it.
    """
    flavour: Flavour = "nebius" if mount.flavour == "nebius" or _is_nebius(raw) else "openai"
    refusal = NebiusRequestError if flavour == "nebius" else InvalidRequestError
    unknown: list[Path] = []
    try:
        return validate(raw).read_by(flavour)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        if flavour == "nebius":
            unknown = [place(fault, raw) for fault in faults if fault["type"] == "extra_forbidden"]
        if not unknown:
            raise _told(raw, error, refusal) from None
    known = _without(raw, unknown)
    try:
        return validate(known).read_by(flavour, unknown=tuple(".".join(map(str, path)) for path in unknown))
    except ValidationError as error:
        raise _told(known, error, refusal) from None


def read_strictly(raw: Any, validate: Callable[[Any], BaseModel]) -> BaseModel:
    """A body, its faults told by the path as the user typed it, where unions would add names of their own.

    Raises:
        InvalidRequestError: the body breaks its rules.
    """
    if not isinstance(raw, dict):
        return validate(raw)
    try:
        return validate(raw)
    except ValidationError as error:
        raise _told(raw, error, InvalidRequestError) from None


AS_TYPED = WrapValidator(read_strictly)
"""Marks a body that is read by `read_strictly`."""


def _is_nebius(raw: dict[str, Any]) -> bool:
    """Whether a body uses a field that only Nebius has."""
    method = raw.get("method")
    method = method if isinstance(method, dict) else {}
    supervised = method.get("supervised")
    places = (raw, supervised if isinstance(supervised, dict) else {})
    hyperparameters = [each.get("hyperparameters") for each in places]
    entries = raw.get("integrations")
    return (
        any(raw.get(field) is not None for field in ("tags", "from_checkpoint", "extra_body"))
        or method.get("type") == "spec-draft"
        or any(_given(each) & NEBIUS_FIELDS for each in hyperparameters if isinstance(each, dict))
        or (isinstance(entries, list) and any(integrations.is_nebius(entry) for entry in entries))
    )


def _given(fields: dict[str, Any]) -> set[str]:
    return {name for name, value in fields.items() if value is not None}


def _told(raw: Any, error: ValidationError, kind: type[InvalidRequestError]) -> TunesmithError:
    """The first fault as one sentence. Objects and lists are not repeated: they may hold credentials."""
    faults = [
        {**fault, "loc": ("body", *fault["loc"]), "input": _shown(fault["input"])}
        for fault in error.errors(include_url=False)
    ]
    told = to_error(RequestValidationError(faults, body=raw), "application/json")
    return kind(told.message, param=told.param, hint=told.hint)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else value


def _without(raw: Any, paths: Sequence[Path]) -> Any:
    """A copy that lacks what lies at the paths."""
    if not paths:
        return raw
    below: dict[str | int, list[Path]] = {}
    for first, *rest in paths:
        below.setdefault(first, []).append(tuple(rest))
    kept = {
        key: _without(value, below.get(key, ()))
        for key, value in (enumerate(raw) if isinstance(raw, list) else raw.items())
        if () not in below.get(key, ())
    }
    return list(kept.values()) if isinstance(raw, list) else kept
