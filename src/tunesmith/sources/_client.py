"""The only way out: one HTTP client for everything whose address somebody else chose.

It works on the library's transport instead of its client: a client reads proxies from the environment, keeps cookies,
and logs whole URLs, in which signatures stand.
"""

import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import httpx2

from tunesmith.sources import Limits
from tunesmith.sources._guard import Guard, Resolve, parse_url, resolve_host
from tunesmith.spec.errors import AddressRefusedError, InvalidRequestError, TooLargeError

_MAX_REDIRECTS = 5
_MAX_TRIED_ADDRESSES = 4
_CONNECT_SECONDS = 10.0
_REDIRECTED = (301, 302, 303, 307, 308)
# Headers that may follow a redirect to another origin; the others may hold credentials.
_CARRIED = ("range", "if-match", "accept")


class GuardedClient:
    """Sends requests to allowed addresses only, and connects to the very address that was checked."""

    def __init__(self, limits: Limits, resolve: Resolve = resolve_host, *, certificate: str | None = None) -> None:
        """`certificate` is one in PEM form that is trusted beside those of the machine."""
        self._guard = Guard(limits.allowed_networks, resolve)
        self._idle_seconds = limits.idle_seconds
        self._certificate = certificate

    @cached_property
    def _transport(self) -> httpx2.HTTPTransport:
        """Made at the first request: it reads all certificates of the machine."""
        # A connection that is kept would be found again by its address, whatever name it was checked for.
        trusted = httpx2.create_ssl_context()
        if self._certificate is not None:
            trusted.load_verify_locations(cadata=self._certificate)
        return httpx2.HTTPTransport(verify=trusted, limits=httpx2.Limits(max_keepalive_connections=0))

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None = None,
        follow: bool = True,
        seconds: float,
    ) -> Iterator[httpx2.Response]:
        """Send a request and hand out the response with its body unread. Read it with `iter_raw`: nothing is decoded.

        With `follow`, redirects of a GET are followed, up to five, each checked like the first address; credentials
        stay with the first origin. Without, a redirect is the response. `seconds` bounds everything, the reading too.

        Raises:
            InvalidRequestError: the URL is malformed.
            AddressRefusedError: the URL, or one that it redirects to, leads to where no request may go.
            httpx2.TransportError: the host is unknown, or there is no answer, or one cut off.
        """
        with _Watchdog(seconds) as watchdog:
            response = self._send(self._request(method, parse_url(url), headers, content), watchdog)
            try:
                for _ in range(_MAX_REDIRECTS if follow else 0):
                    onward = _onward(response)
                    if onward is None:
                        break
                    response.close()
                    response = self._send(self._redirected(response.request, onward), watchdog)
                if follow and _onward(response) is not None:
                    raise AddressRefusedError(f"The address redirects more than {_MAX_REDIRECTS} times.")
                yield response
            finally:
                response.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None = None,
        follow: bool = True,
        seconds: float,
        max_bytes: int,
    ) -> httpx2.Response:
        """Send a request and read the response whole. Raises like `stream`, and TooLargeError beyond `max_bytes`."""
        with self.stream(method, url, headers=headers, content=content, follow=follow, seconds=seconds) as response:
            return httpx2.Response(
                response.status_code,
                headers=response.headers,
                content=read_body(response, max_bytes),
                request=response.request,
            )

    def _request(
        self, method: str, url: httpx2.URL, headers: Mapping[str, str], content: bytes | Iterable[bytes] | None
    ) -> httpx2.Request:
        ours = {"user-agent": "tunesmith", "accept": "*/*", "accept-encoding": "identity"}
        return httpx2.Request(method, url, headers=ours | dict(headers), content=content)

    def _redirected(self, request: httpx2.Request, onward: httpx2.URL) -> httpx2.Request:
        same_origin = _origin(request.url) == _origin(onward)
        kept = {name: value for name, value in request.headers.items() if same_origin or name in _CARRIED}
        kept.pop("host", None)
        return self._request("GET", onward, kept, None)

    def _send(self, request: httpx2.Request, watchdog: "_Watchdog") -> httpx2.Response:
        """Connect to the first checked address that answers."""
        _, host, port = _origin(request.url)
        addresses = self._guard.addresses(host, port)[:_MAX_TRIED_ADDRESSES]
        idle = min(self._idle_seconds, watchdog.seconds)
        extensions: dict[str, Any] = {
            "timeout": httpx2.Timeout(idle, connect=min(idle, _CONNECT_SECONDS)).as_dict(),
            "sni_hostname": host,  # the certificate is checked for the name, not for the address
            "trace": watchdog.follow,
        }
        for number, address in enumerate(addresses, start=1):
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # with the Host of the name
                stream=request.stream,
                extensions=extensions,
            )
            try:
                response = self._transport.handle_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if number == len(addresses) or watchdog.expired:
                    raise
            else:
                response.request = request
                return response
        raise AssertionError("a host without addresses is not resolved")


def read_body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The body of a response.

    Raises:
        TooLargeError: it has more than `max_bytes`.
        httpx2.TransportError: it is cut off.
    """
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > max_bytes:
            raise TooLargeError(f"The answer of the other side has more than {max_bytes:,} bytes.")
    return bytes(body)


class _Watchdog:
    """Cuts a connection off when its time is over, also one that sends a byte now and then for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self._connected: socket.socket | None = None
        self._timer = threading.Timer(max(0, seconds), self._expire)
        self._timer.daemon = True

    def __enter__(self) -> "_Watchdog":
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        # A body without a length ends like one whose connection was cut off.
        if self.expired and (kind is None or issubclass(kind, httpx2.TransportError)):
            raise httpx2.ReadTimeout(f"not complete after {self.seconds:.0f} s")

    def follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of a connection, from the transport's trace."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connected = info["return_value"].get_extra_info("socket")
            if self.expired:
                self._cut()

    def _expire(self) -> None:
        self.expired = True
        self._cut()

    def _cut(self) -> None:
        connected = self._connected
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it was over by itself


def _onward(response: httpx2.Response) -> httpx2.URL | None:
    """Where a response redirects to."""
    target = response.headers.get("location")
    if response.status_code not in _REDIRECTED or target is None or response.request.method != "GET":
        return None
    here = response.request.url
    try:
        onward = parse_url(str(here.join(target)))
    except (httpx2.InvalidURL, InvalidRequestError):
        raise AddressRefusedError("The address redirects to what is no URL of http or https.") from None
    if here.scheme == "https" and onward.scheme != "https":
        raise AddressRefusedError("The address redirects from https to http.")
    return onward


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
