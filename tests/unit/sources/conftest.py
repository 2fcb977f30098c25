import pytest

from hub_server import HubServer
from s3_server import S3Server
from tunesmith.sources import Limits
from tunesmith.storage import Storage
from web_server import WebServer


@pytest.fixture
def web():
    server = WebServer()
    yield server
    server.stop()


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def limits():
    return Limits(
        max_bytes=10_000_000,
        idle_seconds=5,
        total_seconds=60,
        retry_seconds=0.001,
        allowed_networks=("127.0.0.0/8", "::1/128"),
    )


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "files")


@pytest.fixture
def fetch(storage):
    """Probe and fetch a location; the content."""

    def run(source, location, credentials=None, *, found=None, progress=lambda done, total: None):
        writer = storage.writer()
        try:
            found = found or source.probe(location, credentials)
            source.fetch(location, found, credentials, writer, progress)
            writer.finish()
            return writer.commit().path.read_bytes()
        finally:
            writer.discard()

    return run
