"""The way out for a library that makes its connections itself: a proxy on the loopback that keeps our guard's rules."""

import re
import socket
import threading
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import ClassVar

import httpx2

from tunesmith.sources._guard import Guard, parse_url
from tunesmith.spec.errors import TunesmithError

_REQUEST = re.compile(rb"(?P<method>[A-Z]{3,10}) (?P<target>[!-~]{1,8192}) HTTP/1\.[01]\r\n")
_LONGEST_HEAD = 64 * 1024
_CONNECT_SECONDS = 10.0
_PIECE = 64 * 1024


class GuardedProxy:
    """Lets connections through to addresses that the guard allows, each to the very address that was checked."""

    def __init__(self, guard: Guard) -> None:
        handler = type("_Handler", (_Handler,), {"guard": guard})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Serve until the process ends."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _Handler(BaseRequestHandler):
    guard: ClassVar[Guard]

    def handle(self) -> None:
        """One connection: a tunnel, or a request with a whole URL, which servers have to understand."""
        client: socket.socket = self.request
        head = _head(client)
        found = _REQUEST.match(head)
        if found is None:
            return
        tunnel = found["method"] == b"CONNECT"
        target = found["target"].decode()
        try:
            url = parse_url(f"https://{target}" if tunnel else target)
            remote = self._connect(url)
        except TunesmithError:
            client.sendall(_refusal(b"403 Forbidden"))
            return
        except (httpx2.TransportError, OSError):
            client.sendall(_refusal(b"502 Bad Gateway"))  # to be tried again, as the library understands it
            return
        with remote:
            if tunnel:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                remote.sendall(head)
            back = threading.Thread(target=_pump, args=(remote, client), daemon=True)
            back.start()
            _pump(client, remote)
            back.join()

    def _connect(self, url: httpx2.URL) -> socket.socket:
        port = url.port or (443 if url.scheme == "https" else 80)
        address = self.guard.addresses(url.host, port)[0]
        remote = socket.create_connection((address, port), timeout=_CONNECT_SECONDS)
        remote.settimeout(None)
        return remote


def _refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status


def _head(client: socket.socket) -> bytes:
    """What a client sends first, at least to the end of its headers; nothing if that does not come."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(_PIECE)
        head += piece
        if not piece or len(head) > _LONGEST_HEAD:
            return b""
    return head


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(_PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()
