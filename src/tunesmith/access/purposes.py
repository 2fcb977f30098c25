"""What secrets are for, and what each kind consists of."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from tunesmith.access.hosts import host_of, plain_host
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.store.secrets import Purpose

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True)
class Kind:
    """Fields of one kind of secret, and where it may go."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """At least one of these where nothing is required."""

    address: str | None = None
    """The field that holds the address of the service; the secret's host follows from it."""

    default_host: str | None = None
    """Where it goes if no host is named."""

    needs_host: bool = False

    address_suffices: bool = False
    """Whether the address may stand alone, for what everybody may read there."""


KINDS: dict[Purpose, Kind] = {
    "s3": Kind(
        required=("access_key_id", "secret_access_key"),
        optional=("session_token", "endpoint"),
        address="endpoint",
        default_host="s3.amazonaws.com",
        address_suffices=True,
    ),
    "gcs": Kind(
        required=("service_account_key",),
        optional=("endpoint",),
        address="endpoint",
        default_host="storage.googleapis.com",
        address_suffices=True,
    ),
    "hub": Kind(required=("token",), default_host="huggingface.co"),
    "http": Kind(optional=("bearer_token", "headers"), needs_host=True),
    "wandb": Kind(required=("api_key",), optional=("base_url",), address="base_url", default_host="api.wandb.ai"),
    "mlflow": Kind(optional=("username", "password", "token", "certificate"), needs_host=True),
    "webhook": Kind(optional=("secret", "previous_secret", "url")),  # sign, and are sent nowhere; where it leads
}

_MAX_FIELD = 64 * 1024
_MANY_LINES = ("service_account_key", "certificate", "headers")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
# They say where a request goes, what comes back and where it ends.
_OUR_HEADERS = (
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "range",
    "transfer-encoding",
    "upgrade",
)


def checked(purpose: str, host: str | None, fields: Mapping[str, str]) -> tuple[Purpose, str | None]:
    """The purpose and the host that a new secret is bound to; the host is none for the purpose's default.

    Raises:
        InvalidRequestError: a purpose, field or host is not allowed. No value is ever repeated.
    """
    known = next((each for each in PURPOSES if each == purpose), None)
    if known is None:
        raise InvalidRequestError(
            f"Purpose {purpose[:40]!r} is unknown; known: {', '.join(PURPOSES)}.", param="purpose"
        )
    _check_names(known, fields)
    for name, value in fields.items():
        _check_value(name, value)
    if "headers" in fields:
        _check_headers(fields["headers"], taken=("authorization",) if "bearer_token" in fields else ())
    return known, _bound_host(known, host, fields)


def effective_host(purpose: Purpose, host: str | None) -> str | None:
    """The host, or the purpose's default where there is none."""
    return host or KINDS[purpose].default_host


def _check_names(purpose: Purpose, fields: Mapping[str, str]) -> None:
    kind = KINDS[purpose]
    allowed = (*kind.required, *kind.optional)
    unknown = next((name for name in fields if name not in allowed), None)
    if unknown is not None:
        raise InvalidRequestError(
            f"A secret for {purpose} has no field {unknown[:40]!r}; allowed: {', '.join(allowed)}.", param="fields"
        )
    missing = [name for name in kind.required if name not in fields]
    if missing and not (kind.address_suffices and set(fields) == {kind.address}):
        raise InvalidRequestError(
            f"A secret for {purpose} needs {', '.join(kind.required)}; missing: {', '.join(missing)}.", param="fields"
        )
    if not fields:
        raise InvalidRequestError(f"A secret for {purpose} needs one of {', '.join(allowed)}.", param="fields")


def _check_value(name: str, value: str) -> None:
    param = f"fields.{name}"
    if not value.strip() or len(value) > _MAX_FIELD:
        raise InvalidRequestError(f"{param} is empty or longer than {_MAX_FIELD} letters.", param=param)
    if name not in _MANY_LINES and not value.isprintable():
        # It could end a header line and begin another one.
        raise InvalidRequestError(f"{param} holds a line break or another letter that cannot be printed.", param=param)


def _check_headers(value: str, taken: tuple[str, ...]) -> None:
    try:
        headers = json.loads(value)
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict) or not headers or not all(_is_header(*pair) for pair in headers.items()):
        raise InvalidRequestError(
            "fields.headers is not a JSON object of header names and values.",
            param="fields.headers",
            hint='Such as {"X-Api-Key": "..."}; values are of printable ASCII letters.',
        )
    named = Counter(name.lower() for name in headers)
    refused = next((name for name, times in named.items() if times > 1 or name in (*_OUR_HEADERS, *taken)), None)
    if refused is not None:
        raise InvalidRequestError(
            f"fields.headers cannot hold {refused[:40]!r}: it is there already, or this server sets it itself.",
            param="fields.headers",
        )


def _is_header(name: str, value: object) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None and isinstance(value, str) and bool(_HEADER_VALUE.fullmatch(value))


def _bound_host(purpose: Purpose, host: str | None, fields: Mapping[str, str]) -> str | None:
    kind = KINDS[purpose]
    bound = plain_host(host, param="host") if host is not None else None
    if kind.address is not None and kind.address in fields:
        named = host_of(fields[kind.address], param=f"fields.{kind.address}")
        if bound is not None and bound != named:
            raise InvalidRequestError(
                f"fields.{kind.address} leads to {named!r}, and host names {bound!r}.",
                param="host",
                hint=f"Leave host out; it follows from {kind.address}.",
            )
        return named
    if bound is None and kind.needs_host:
        raise InvalidRequestError(
            f"A secret for {purpose} needs a host, the only one that it may be sent to.", param="host"
        )
    return bound
