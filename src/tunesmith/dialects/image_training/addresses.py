"""Addresses that a request names. Their form is checked here; whether anything lies there is known when it is fetched.

No message repeats an address: signatures, tokens and passwords stand in addresses.
"""

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from tunesmith.spec.errors import InvalidRequestError

_MAX_ADDRESS = 2048
_WEB = ("http", "https")
_BUCKETS = ("s3", "gs")
_UPLOADED = re.compile(r"file-[0-9a-f]{32}")
_HINT = (
    "Use https://…, http://…, s3://bucket/key, gs://bucket/key, or the id of an uploaded file such as "
    "file-0123456789abcdef0123456789abcdef."
)


def check_source_images(addresses: Sequence[str]) -> None:
    """Refuse addresses of pictures that could not be fetched by their form alone.

    Raises:
        InvalidRequestError: one is no address, of a kind that is not fetched, or it holds a user or password.
    """
    for index, address in enumerate(addresses):
        param = f"source_images.{index}"
        if _UPLOADED.fullmatch(address):
            continue
        if address.lower().startswith("data:"):
            raise InvalidRequestError(
                f"{param} is a data URI; pictures are not taken inside a request.", param=param, hint=_HINT
            )
        parts = _parsed(address, param)
        if parts.scheme not in (*_WEB, *_BUCKETS):
            raise InvalidRequestError(f"{param} is not an address that can be fetched.", param=param, hint=_HINT)
        if parts.scheme in _BUCKETS and not parts.path.strip("/"):
            raise InvalidRequestError(f"{param} names a bucket and nothing in it.", param=param, hint=_HINT)


def check_webhook(address: str) -> None:
    """Refuse what could not be posted to by its form alone.

    Raises:
        InvalidRequestError: it is no address of http or https, or it holds a user or password.
    """
    if _parsed(address, "webhook_url").scheme not in _WEB:
        raise InvalidRequestError("webhook_url must begin with https:// or http://.", param="webhook_url")


def shown(address: str) -> str:
    """An address for answers: of http without its query, in which signatures stand. Needs a checked address."""
    parts = urlsplit(address)
    return parts._replace(query="", fragment="").geturl() if parts.scheme in _WEB else address


def shown_host(address: str) -> str:
    """Only scheme and host: the path of a webhook is often its password. Needs a checked address."""
    return urlsplit(address)._replace(path="", query="", fragment="").geturl()


def _parsed(address: str, param: str) -> SplitResult:
    if not 0 < len(address) <= _MAX_ADDRESS:
        raise InvalidRequestError(f"{param} must have 1 to {_MAX_ADDRESS:,} characters.", param=param)
    if "\\" in address or any(letter.isspace() or not letter.isprintable() for letter in address):
        raise InvalidRequestError(
            f"{param} holds a blank, a backslash or a character that cannot be printed.",
            param=param,
            hint="Write such characters percent-encoded.",
        )
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise InvalidRequestError(f"{param} is not an address.", param=param, hint=_HINT) from None
    if "@" in parts.netloc:
        raise InvalidRequestError(
            f"{param} holds a user or a password before its host, which is refused.",
            param=param,
            hint="Leave out the part before '@'.",
        )
    if parts.scheme in (*_WEB, *_BUCKETS) and not has_host:
        raise InvalidRequestError(f"{param} names no host or bucket.", param=param)
    return parts
