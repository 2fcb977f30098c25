"""A file larger than any buffer goes through the server in constant memory."""

import http.client
import threading

import psutil
import pytest

from running_server import RunningServer

GIB = 1024**3
PIECE = b"0123456789abcdef" * 65536
GROWTH_LIMIT = 50 * 1024**2
BOUNDARY = "boundary"


@pytest.fixture
def server(write_home, tmp_path):
    server = RunningServer(write_home(tmp_path / "home"), TUNESMITH_WARM_WORKERS="false")
    yield server
    server.stop()


class Memory:
    """The largest resident size of a process while a block runs."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.before = self.largest = self._process.memory_info().rss

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        while not self._ended.wait(0.02):
            self.largest = max(self.largest, self._process.memory_info().rss)


def form(size):
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    yield head
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield tail


@pytest.mark.slow
def test_two_gibibytes_are_received_in_constant_memory(server):
    server.http.get("/v1/files").raise_for_status()  # imports of the first request are no part of the upload
    size = 2 * GIB
    length = sum(len(piece) for piece in (*form(0),)) + size
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=250)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
    with Memory(server.process.pid) as memory:
        connection.request("POST", "/v1/files", body=form(size), headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    assert (answer.status, f'"bytes":{size}' in text) == (200, True), text
    assert memory.largest - memory.before < GROWTH_LIMIT
