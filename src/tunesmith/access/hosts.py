"""Names of hosts as secrets are bound to them."""

import re
from urllib.parse import urlsplit

from tunesmith.spec.errors import InvalidRequestError

_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>\d{{1,5}}))?")
_MAX_HOST = 260
_HTTPS_PORT = 443
_PORTS = {"http": 80, "https": _HTTPS_PORT}


def plain_host(text: str, *, param: str) -> str:
    """`name` or `name:port` in small letters; a name alone means port 443.

    Raises:
        InvalidRequestError: this is no such thing.
    """
    host = text.strip().lower()
    found = _HOST.fullmatch(host) if len(host) <= _MAX_HOST else None
    if found is None or not 0 < int(found["port"] or _HTTPS_PORT) < 2**16:
        raise InvalidRequestError(
            f"{param} is not the name of a host.",
            param=param,
            hint="Write it like `storage.example.org` or `127.0.0.1:9000`: without scheme and path, in ASCII letters.",
        )
    return host.removesuffix(f":{_HTTPS_PORT}")


def host_of(url: str, *, param: str) -> str:
    """The host that an address leads to, as `plain_host` writes it.

    Raises:
        InvalidRequestError: the address is not one of http or https, or it holds a user or password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        port = None
    if port is None or not parts.hostname or "@" in parts.netloc:
        raise InvalidRequestError(
            f"{param} is not an address that begins with https:// or http://, without user and password.", param=param
        )
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return plain_host(f"{name}:{port}", param=param)
