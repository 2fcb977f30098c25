"""Reads the fields of a secret."""

import re

from tunesmith.sources import Credentials
from tunesmith.spec.errors import InvalidRequestError, SourceCredentialsError

_TOKEN = re.compile(r"[!-~]{1,8192}")


def read_credentials(given: Credentials | None, *, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """Check which fields are there.

    Raises:
        InvalidRequestError: a field is unknown.
        SourceCredentialsError: a required one is missing.
    """
    fields = given or {}
    for name in fields:
        if name not in required + optional:
            allowed = ", ".join(required + optional)
            raise InvalidRequestError(f"These credentials have no field {name!r}; allowed: {allowed}.")
    for name in required:
        if given is not None and not fields.get(name):
            raise SourceCredentialsError(f"The credentials have no field {name!r}.")


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token.

    Raises:
        SourceCredentialsError: it has letters that cannot stand there.
    """
    if not _TOKEN.fullmatch(token):
        raise SourceCredentialsError("The token has blanks or other letters that no token has.")
    return {"Authorization": f"Bearer {token}"}
