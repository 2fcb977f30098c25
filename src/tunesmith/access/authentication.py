"""From the headers of a request to its caller."""

from collections.abc import Mapping
from typing import Protocol

from tunesmith.access.caller import LOCAL, Caller
from tunesmith.access.keys import PREFIX, ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.tokens import Tokens
from tunesmith.spec.errors import UnauthenticatedError


class Authenticator(Protocol):
    """Tells who calls."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers, whose names are in small letters.

        Raises:
            UnauthenticatedError: nobody whom this server knows. The message never repeats the credential.
            UnavailableError: the credential cannot be checked now.
        """
        ...


class Open:
    """An open server: everybody is the same local organisation, whatever credential comes along."""

    def caller(self, headers: Mapping[str, str]) -> Caller:  # noqa: ARG002 - the protocol's
        """The one organisation."""
        return LOCAL


class Checked:
    """Asks for an API key, or a token where tokens are configured."""

    def __init__(self, keys: ApiKeys, tokens: Tokens | None, organisations: Organisations) -> None:
        self._keys = keys
        self._tokens = tokens
        self._organisations = organisations

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers, whose names are in small letters.

        Raises:
            UnauthenticatedError: no credential, or none that is valid.
            UnavailableError: the keys of the tokens' issuer cannot be read.
        """
        try:
            return self._owner_of(_credential(headers))
        except UnauthenticatedError as error:
            raise UnauthenticatedError(error.message, hint=self._accepted()) from None

    def _owner_of(self, credential: str) -> Caller:
        if credential.startswith(PREFIX):
            return self._keys.caller(credential)
        if self._tokens is None:
            raise UnauthenticatedError("The credential is no API key.")
        return self._sender_of(self._tokens, credential)

    def _sender_of(self, tokens: Tokens, token: str) -> Caller:
        claims = tokens.claims(token)
        self._organisations.ensure(claims.org)
        listed = self._organisations.role_of(claims.org, claims.user) if claims.user else None
        return Caller(org=claims.org, user=claims.user, role=listed or claims.role)

    def _accepted(self) -> str:
        kinds = f"an API key ({PREFIX}…)" if self._tokens is None else f"an API key ({PREFIX}…) or a token (JWT)"
        return f"Send {kinds} as `Authorization: Bearer …`."


def _credential(headers: Mapping[str, str]) -> str:
    """The credential of either header.

    Raises:
        UnauthenticatedError: there is none, or it is not one word of ASCII.
    """
    given = headers.get("authorization")
    if given is None:
        credential = headers.get("x-api-key", "").strip()
    else:
        scheme, _, credential = given.strip().partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer":
            raise UnauthenticatedError("The header `Authorization` does not begin with `Bearer`.")
    if not credential:
        raise UnauthenticatedError("The request carries no credential.")
    if not credential.isascii() or not credential.isprintable() or " " in credential:
        raise UnauthenticatedError("The credential is not one word of ASCII letters.")
    return credential
