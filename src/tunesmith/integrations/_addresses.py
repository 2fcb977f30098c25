"""Which URLs a user can have told. No message repeats one: paths and queries may be passwords."""

from collections.abc import Sequence
from ipaddress import ip_address

import httpx2

from tunesmith.sources import Limits
from tunesmith.sources._guard import Guard, parse_url
from tunesmith.spec.errors import AddressRefusedError, InvalidRequestError

MAX_URL = 2048


def check_url(url: str, limits: Limits, *, param: str) -> str:
    """See that a URL could be delivered to as far as it tells by itself: a name is looked up at every delivery only.
    Returns what may be shown of it, scheme and host.

    Raises:
        InvalidRequestError: it is malformed.
        AddressRefusedError: it leads to where no request may go.
    """
    if len(url) > MAX_URL:
        raise InvalidRequestError(f"{param} has more than {MAX_URL:,} letters.", param=param)
    if not url.lower().startswith(("https://", "http://")):
        raise InvalidRequestError(f"{param} must begin with https:// or http://.", param=param)
    try:
        parsed = parse_url(url)
        Guard(limits.allowed_networks, _as_written).addresses(parsed.host, parsed.port or 443)
    except (InvalidRequestError, AddressRefusedError) as error:
        raise type(error)(f"{param}: {error.message}", param=param, hint=error.hint) from None
    return shown(parsed)


def shown(url: httpx2.URL) -> str:
    """Scheme and host of a URL."""
    return str(url.copy_with(path="/", query=None, fragment=None)).rstrip("/")


def _as_written(host: str, _port: int) -> Sequence[str]:
    """The address that a host spells out; none for a name, except that of this machine."""
    if host.rstrip(".").lower() in ("localhost", "ip6-localhost") or host.lower().endswith(".localhost"):
        return ["127.0.0.1"]
    try:
        return [str(ip_address(host))]
    except ValueError:
        return []
