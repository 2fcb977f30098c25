import errno
from types import SimpleNamespace

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from stored_jobs import optimization
from tunesmith.dialects import openai, training_api
from tunesmith.server.app import _dialect_app
from tunesmith.spec.errors import UnavailableError

FAULTS = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), 507, "disk_full"),
    "system": (OSError(errno.EIO, "I/O error"), 500, "internal_error"),
    "bug": (ZeroDivisionError("secret detail"), 500, "internal_error"),
    "expected": (UnavailableError("Not now."), 503, "unavailable"),
}


def too_many_steps():
    optimization(epochs=1).model_validate({**optimization(epochs=1).model_dump(), "max_steps": 10**30})


def client_of(dialect):
    def routes():
        router = APIRouter()

        @router.get("/{name}")
        def fail(name: str):
            if name == "spec":
                too_many_steps()
            raise FAULTS[name][0]

        return router

    app = _dialect_app(
        "faulty", SimpleNamespace(__doc__="x", PREFIXES=("/",), routes=routes, render_error=dialect.render_error)
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


def test_a_value_that_no_spec_may_have_is_the_requests_fault_by_its_path():
    answer = client_of(openai).get("/spec")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].endswith(".max_steps")


def test_an_unknown_path_has_the_dialects_shape():
    assert client_of(openai).get("/a/b").json()["error"]["code"] == "not_found"
    assert client_of(openai).post("/full").status_code == 405
