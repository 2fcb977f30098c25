"""The public keys of whoever signs tokens: a JSON Web Key Set (RFC 7517) in a file or behind an address."""

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.spec.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from jwt import PyJWK

_log = logging.getLogger(__name__)

# A key that its owner withdrew is trusted so much longer.
_FRESH_SECONDS = 300
# Also when it cannot be read: an outage of the other side shall not lock everybody out, nor keep old keys for ever.
_STALE_SECONDS = 3600
# Whoever sends unknown key ids causes no more requests than this.
_RETRY_SECONDS = 30
_DOWNLOAD_SECONDS = 5.0
_MAX_BYTES = 1024 * 1024

_ALGORITHMS = ("RS256", "ES256")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SigningKeys:
    """Finds a key by its id; reads the set again when it is old, or when it lacks the id.

    One thread reads at a time. Meanwhile the others find the keys that are known, so that nobody who sends unknown ids
    holds up valid tokens.
    """

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`source` is the path of a file, or an address.

        Raises:
            SettingsError: the address is not one of https (http on this machine), or the file holds no usable key.
        """
        self._source = source
        self._clock = clock
        self._reading = threading.Lock()
        self._keys: dict[str, PyJWK] = {}
        self._read_at = self._tried_at = -math.inf
        if not _is_address(source):
            # A missing file is a mistake of whoever starts the server; an address may come alive later.
            self._refresh_or_fail()

    def find(self, id: str) -> "PyJWK | None":
        """The key with this id, bound to its algorithm; none where the set has no such key.

        Raises:
            UnavailableError: the set could not be read for a long time, or never; or it lacks the id and is being read.
        """
        known = self._keys.get(id)
        if known is not None and self._age() < _FRESH_SECONDS:
            return known
        # Where no key can be trusted any more, there is nothing to go by but what is being read.
        if self._reading.acquire(blocking=self._age() >= _STALE_SECONDS):
            try:
                self._refresh()
            finally:
                self._reading.release()
        elif known is None:
            raise UnavailableError(
                "The token names a key that is not known yet; the keys of its issuer are just being read.",
                hint="Try again in a few seconds.",
            )
        if self._age() >= _STALE_SECONDS:
            raise UnavailableError(
                "Tokens cannot be checked now, because the keys of their issuer cannot be read.",
                hint="Try again in a minute, or use an API key.",
            )
        return self._keys.get(id)

    def _age(self) -> float:
        return self._clock() - self._read_at

    def _refresh(self) -> None:
        """Read the set, unless that was tried a moment ago."""
        if self._clock() - self._tried_at < _RETRY_SECONDS:
            return
        try:
            self._refresh_or_fail()
        except SettingsError as error:
            _log.warning("%s", error.message)

    def _refresh_or_fail(self) -> None:
        self._tried_at = self._clock()
        try:
            content = _download(self._source) if _is_address(self._source) else Path(self._source).read_bytes()
            self._keys = _parse(content)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The key set {self._source!r} cannot be used: {error}.",
                param="token_jwks",
                hint=f"It must be a JSON Web Key Set with `kid` and a key for {' or '.join(_ALGORITHMS)}.",
            ) from error
        self._read_at = self._tried_at


def _is_address(source: str) -> bool:
    """Whether this is an address rather than a path.

    Raises:
        SettingsError: it is an address that keys cannot be trusted from.
    """
    if "://" not in source:
        return False
    parts = urlsplit(source)
    private = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not private or not parts.hostname or "@" in parts.netloc:
        raise SettingsError(
            "token_jwks is not an address that keys can be trusted from.",
            param="token_jwks",
            hint="Use https:// without user and password (http:// on this machine only), or the path of a file.",
        )
    return True


def _download(url: str) -> bytes:
    """The content behind an address, of at most one MiB and within five seconds."""
    import httpx2

    content = bytearray()
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    # A proxy does not know this machine's own addresses.
    beyond = urlsplit(url).hostname not in _LOOPBACK
    try:
        with httpx2.stream("GET", url, timeout=_DOWNLOAD_SECONDS, trust_env=beyond) as answer:
            if answer.status_code != 200:
                raise ValueError(f"status {answer.status_code}")
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > _MAX_BYTES or time.monotonic() > deadline:
                    raise ValueError(f"more than {_MAX_BYTES} bytes, or more than {_DOWNLOAD_SECONDS:g} seconds")
    except httpx2.HTTPError as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return bytes(content)


def _parse(content: bytes) -> dict[str, "PyJWK"]:
    """Keys by their ids: those for signatures that tokens may have. Each is bound to one algorithm by its own type."""
    from jwt import PyJWKSet, PyJWTError

    try:
        value = json.loads(content)
        keys = PyJWKSet.from_dict(value).keys if isinstance(value, dict) else []
    except (PyJWTError, RecursionError) as error:
        raise ValueError(str(error)) from error
    usable = {
        key.key_id: key
        for key in keys
        if isinstance(key.key_id, str) and key.algorithm_name in _ALGORITHMS and key.public_key_use in (None, "sig")
    }
    if not usable:
        raise ValueError("it holds no usable key")
    return usable
