"""Tokens (JWT, RFC 7519) that somebody else signs: what a valid one says.

The algorithm follows from the key that the server was given, never from the token. With a secret it is HS256 alone;
with a key set it is RS256 or ES256, whichever the type of the named key is. So neither `none` nor a public key used as
an HS256 secret is ever tried.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tunesmith.access.caller import Role
from tunesmith.access.organisations import is_plain_id, is_user
from tunesmith.access.signing_keys import SigningKeys
from tunesmith.spec.errors import SettingsError, UnauthenticatedError
from tunesmith.spec.frozen import Frozen

if TYPE_CHECKING:
    from jwt import PyJWK

MIN_SECRET_BYTES = 32
"""As long as the hash of HS256 (RFC 7518, section 3.2)."""

MAX_TOKEN_BYTES = 8192
"""Longer ones are refused unread."""

LEEWAY_SECONDS = 30
"""Clocks of issuer and server may differ by so much."""

_REQUIRED = ("exp", "aud", "iss")
_END_OF_TIME = 2**40  # some 30,000 years: a number of milliseconds is beyond it


@dataclass(frozen=True)
class TokenSettings:
    """What tokens are checked against: exactly one of `secret` and `jwks`."""

    issuer: str
    """The only value of `iss`."""

    audience: str
    """What `aud` must be or contain."""

    secret: bytes | None = field(default=None, repr=False)
    """For HS256."""

    jwks: str | None = None
    """Path or address of the key set for RS256 and ES256."""

    @classmethod
    def read(
        cls,
        *,
        secret: str | None,
        secret_file: Path | None,
        jwks: str | None,
        issuer: str | None,
        audience: str | None,
    ) -> Self | None:
        """From the server's settings, those of the same names with `token_`; none where no kind of key is named.

        Raises:
            SettingsError: they contradict each other, are incomplete, or the file cannot be read.
        """
        keys = {"token_secret": secret, "token_secret_file": secret_file, "token_jwks": jwks}
        named = [name for name, value in keys.items() if value is not None]
        if not named:
            return None
        if len(named) > 1:
            raise SettingsError(
                f"Tokens have one kind of key, and the settings name {' and '.join(named)}.",
                param=named[1],
                hint="Keep one of token_secret, token_secret_file and token_jwks.",
            )
        for name, value in (("token_issuer", issuer), ("token_audience", audience)):
            if not value:
                raise SettingsError(
                    f"{name} is missing.",
                    param=name,
                    hint="A token is accepted only from one issuer and for one audience; name both.",
                )
        assert issuer is not None  # the loop has seen to it
        assert audience is not None
        return cls(issuer=issuer, audience=audience, secret=_secret(secret, secret_file), jwks=jwks)


class Claims(Frozen):
    """What a valid token says of who sends it."""

    org: str
    """From `org`, else `org_id`."""

    user: str | None
    """From `sub`."""

    role: Role
    """From `role`; a member where it is missing."""


class Tokens:
    """Checks tokens."""

    def __init__(self, settings: TokenSettings) -> None:
        """Raises:
        SettingsError: the secret is too short, or the key set cannot be used.
        """
        self._settings = settings
        self._signing_keys = SigningKeys(settings.jwks) if settings.jwks is not None else None
        if self._signing_keys is None and len(settings.secret or b"") < MIN_SECRET_BYTES:
            raise SettingsError(
                f"The secret for tokens has {len(settings.secret or b'')} bytes and needs {MIN_SECRET_BYTES} or more.",
                param="token_secret",
                hint="Make one with `openssl rand -base64 48`.",
            )

    def claims(self, token: str) -> Claims:
        """What a token says, once its signature, times, issuer and audience have been checked.

        Raises:
            UnauthenticatedError: it is not valid here. The message never repeats it.
            UnavailableError: the issuer's keys cannot be read.
        """
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise UnauthenticatedError(f"The token has more than {MAX_TOKEN_BYTES} letters, or some beyond ASCII.")
        return _claims(self._verified(token))

    def _verified(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            key, algorithm = self._key(token)
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_REQUIRED), "verify_sub": False, "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise UnauthenticatedError(_reason(error)) from None

    def _key(self, token: str) -> "tuple[PyJWK | bytes, str]":
        import jwt

        if self._signing_keys is None:
            assert self._settings.secret is not None  # checked at the start
            return self._settings.secret, "HS256"
        # Not trusted: the id only picks one of our own keys.
        key = self._signing_keys.find(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise UnauthenticatedError("The token names no key (`kid`) that its issuer has published.")
        return key, key.algorithm_name


def _claims(payload: dict[str, Any]) -> Claims:
    for name in ("exp", "nbf", "iat"):
        at = payload.get(name, 0)
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < _END_OF_TIME:
            raise UnauthenticatedError(f"The token's claim `{name}` is no number of seconds since the epoch.")
    org = payload.get("org", payload.get("org_id"))
    if not isinstance(org, str) or not is_plain_id(org):
        raise UnauthenticatedError(
            "The token's claim `org` (or `org_id`) is missing or no plain id: up to 64 letters, digits and . _ -."
        )
    user = payload.get("sub")
    if user is not None and not (isinstance(user, str) and is_user(user)):
        raise UnauthenticatedError("The token's claim `sub` is no text, empty, too long or not printable.")
    role = payload.get("role", Role.MEMBER.value)
    if role not in list(Role):
        raise UnauthenticatedError(f"The token's claim `role` is none of {', '.join(Role)}.")
    return Claims(org=org, user=user, role=Role(role))


def _reason(error: Exception) -> str:
    """Our own words: the library's may repeat parts of the token."""
    import jwt

    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim `{error.claim}`."
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (jwt.ExpiredSignatureError, "The token has expired."),
        (jwt.ImmatureSignatureError, "The token is not valid yet; compare the clocks of its issuer and this server."),
        (jwt.InvalidAudienceError, "The token is for another audience."),
        (jwt.InvalidIssuerError, "The token is from another issuer."),
        (jwt.InvalidAlgorithmError, "The token is not signed with the algorithm that this server asks for."),
        (jwt.InvalidSignatureError, "The token's signature is not valid."),
        (jwt.InvalidKeyError, "The key that signed the token is too weak."),
    )
    return next((reason for kind, reason in reasons if isinstance(error, kind)), "The token is malformed.")


def _secret(secret: str | None, file: Path | None) -> bytes | None:
    if file is None:
        return secret.encode() if secret is not None else None
    try:
        return file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SettingsError(
            f"The file {str(file)!r} cannot be read: {error.strerror}.", param="token_secret_file"
        ) from error
