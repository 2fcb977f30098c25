import errno
from types import SimpleNamespace

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from tunesmith.dialects import openai, training_api
from tunesmith.server.app import _dialect_app
from tunesmith.spec.errors import UnavailableError

FAULTS = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), 507, "disk_full"),
    "system": (OSError(errno.EIO, "I/O error"), 500, "internal_error"),
    "bug": (ZeroDivisionError("secret detail"), 500, "internal_error"),
    "expected": (UnavailableError("Not now."), 503, "unavailable"),
}


def client_of(dialect):
    def routes(_services):
        router = APIRouter()

        @router.get("/{name}")
        def fail(name: str):
            raise FAULTS[name][0]

        return router

    app = _dialect_app(
        "faulty", SimpleNamespace(__doc__="x", PREFIXES=("/",), routes=routes, render_error=dialect.render_error), None
    )
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_inside_a_route_has_a_status_and_the_dialects_shape(name):
    _, status, code = FAULTS[name]
    answer = client_of(openai).get(f"/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret detail" not in answer.text
    answer = client_of(training_api).get(f"/{name}")
    assert (answer.status_code, type(answer.json()["detail"])) == (status, str)


def test_an_unknown_path_has_the_dialects_shape():
    assert client_of(openai).get("/a/b").json()["error"]["code"] == "not_found"
    assert client_of(openai).post("/full").status_code == 405
