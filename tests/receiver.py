"""A receiver of webhooks for tests, on a free port of the loopback: does what it is told, and keeps what it is sent."""

import json
import os
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

from web_server import WebServer, reply


@dataclass
class Message:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(WebServer):
    """Answers 204 to whatever comes, unless a test says otherwise: `plan` is called with the request's handler."""

    def __init__(self, path="/hook"):
        super().__init__()
        self.messages = []
        self.plan = answering(204)
        self.path = path
        self.answers[path] = self._take

    @property
    def hook(self):
        """The URL to post to."""
        return f"{self.url}{self.path}"

    def _take(self, handler):
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers["content-length"]))
        self.messages.append(Message(handler.path, headers, body))
        self.plan(handler)


def answering(status, body=b"", **headers):
    """An answer with this status."""
    return lambda handler: reply(handler, status, body, **headers)


def lying(handler):
    """Says 200 and that a body follows, and closes."""
    reply(handler, 200, b"x" * 100, cut=10)


def resetting(handler):
    """Resets the connection instead of answering."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())
    handler.close_connection = True


def redirecting(to):
    """Sends the sender elsewhere."""
    return lambda handler: reply(handler, 307, Location=to)


class Slow:
    """Does not answer before it is let go."""

    def __init__(self):
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, handler):
        self.asked.set()
        self.let_go.wait(30)
        reply(handler, 204)
