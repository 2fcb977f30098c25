"""A web server for tests, on a free port of the loopback, whose answers a test writes itself."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that hang up, which is what many tests are about."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Tell of other faults only."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class WebServer:
    """Answers by path; a test can cut connections off, and lie."""

    def __init__(self):
        self.answers = {}
        """By path: a function that is given the request's handler."""
        self.requests = []
        """Path and headers (in lower case) of all requests."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                web.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                answer = web.answers.get(self.path.partition("?")[0])
                if answer is None:
                    reply(self, 404)
                else:
                    answer(self)

            do_POST = do_GET  # noqa: N815 - the library's name

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def wrap(self, context):
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


def reply(handler, status=200, body=b"", cut=None, **headers):
    """A whole answer, or one whose connection is cut off after some bytes of the body."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body if cut is None else body[:cut])
    handler.close_connection = True


def serve_file(content, *, cuts=(), ranges=True, **headers):
    """An honest file server, but for connections that are cut off after so many bytes."""
    left = list(cuts)

    def answer(handler):
        wanted = handler.headers.get("Range") if ranges else None
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if wanted else {}
        reply(handler, 206 if wanted else 200, content[first:], left.pop(0) if left else None, **span, **headers)

    return answer


def in_turn(*answers):
    """One answer after the other; the last one stays."""
    left = list(answers)

    def answer(handler):
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer
