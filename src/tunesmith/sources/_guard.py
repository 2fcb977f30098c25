"""Which addresses an outbound request may reach.

The table is our own: the standard library's notion of a public address is wrong before Python 3.12.4.
"""

import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

from tunesmith.spec.errors import AddressRefusedError, InvalidRequestError

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""From a host and a port to all addresses of the host, as text. Raises OSError if there are none."""

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers; one cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # one cloud's metadata, though public by number
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo and other special purposes
        "2001:db8::/32",
        "2002::/16",  # 6to4 leads to any IPv4 address
        "3fff::/20",
    )
)
_CARRIES_V4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

# One grammar for the part that decides where a request goes: no user, no percent sign, no backslash, ASCII only. What
# two parsers might read differently is refused.
_URL = re.compile(
    r"(?i:https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>([/?#].*)?)"
)
_LONGEST_URL = 8192


def parse_url(text: str) -> httpx2.URL:
    """The one reading of a URL that the check and the connection share.

    Raises:
        InvalidRequestError: it is malformed.
        AddressRefusedError: its scheme, port, user part or host is not allowed.
    """
    if len(text) > _LONGEST_URL or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text):
        raise InvalidRequestError(f"The URL has blanks, control characters or more than {_LONGEST_URL:,} letters.")
    _check_scheme(text.partition(":")[0].lower())
    if "@" in re.split(r"[/?#]", text.partition("://")[2])[0]:
        raise AddressRefusedError(
            "The URL carries a user name or password.",
            hint="Leave out the part before '@', and send it as credentials.",
        )
    parts = _URL.fullmatch(text)
    if parts is None:
        raise InvalidRequestError(
            "The URL is malformed; it reads http(s)://host[:port]/path, its host in ASCII letters."
        )
    _check_port(int(parts["port"] or 443))
    _check_spelling(parts["host"])
    try:
        return httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise InvalidRequestError(f"The URL is malformed: {error}.") from error


def shown(url: httpx2.URL) -> str:
    """A URL for messages: without its query, in which signatures and tokens stand."""
    return str(url.copy_with(query=None, fragment=None))


def resolve_host(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, from the operating system."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class UnknownHostError(httpx2.ConnectError):
    """A host has no address, or no name server answers."""


class Guard:
    """Tells where a request to a host may connect to."""

    def __init__(self, allowed_networks: tuple[Network, ...], resolve: Resolve) -> None:
        self._allowed = allowed_networks
        self._resolve = resolve

    def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a host, each one checked.

        Raises:
            AddressRefusedError: one of them is not public. Which one is not told: it would describe our network.
            UnknownHostError: the host has no address.
        """
        try:
            found = [ip_address(text.partition("%")[0]) for text in self._resolve(host, port)]
        except (OSError, UnicodeError) as error:
            raise UnknownHostError(f"the host {host!r} was not found") from error
        if not all(self._is_allowed(address) for address in found):
            raise AddressRefusedError(
                f"The host {host!r} leads to an address that is not public.",
                hint="An operator can allow networks of their own.",
            )
        return list(dict.fromkeys(str(address) for address in found))

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        inner = _unwrapped(address)
        return any(inner in network for network in self._allowed) or _is_public(inner)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that a mapped (`::ffff:a.b.c.d`) or translated (`64:ff9b::a.b.c.d`) one leads to."""
    if isinstance(address, IPv6Address) and any(address in network for network in _CARRIES_V4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _check_scheme(scheme: str) -> None:
    if scheme not in ("http", "https"):
        raise AddressRefusedError(f"The URL begins with {scheme[:20]!r}; use https:// or http://.")


def _check_port(port: int) -> None:
    if port not in (80, 443) and not 1024 <= port <= 65535:
        raise AddressRefusedError(f"Port {port} is not allowed; use 80, 443 or one from 1024 to 65535.")


def _check_spelling(host: str) -> None:
    """Refuse numbers that only some parsers take for an IPv4 address, such as `2130706433`, `0x7f.1` and `127.1`."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    if not (last.isdecimal() or last.startswith("0x")):
        return
    try:
        IPv4Address(host)
    except ValueError:
        raise AddressRefusedError(
            f"The host {host!r} is a number that is no plain IPv4 address.",
            hint="Write four decimal numbers, such as 203.0.113.7, or a name.",
        ) from None
