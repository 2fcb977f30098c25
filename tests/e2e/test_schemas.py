"""Requests made up from each dialect's own OpenAPI document: never a server error, and no answer that the document does
not describe."""

import os
import subprocess
import sys

import pytest

from running_server import RunningServer
from tunesmith.plugins import load_plugins

DIALECTS = load_plugins("tunesmith.dialects")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("schemas") / "home"), TUNESMITH_WARM_WORKERS="false")
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", DIALECTS)
def test_no_request_that_can_be_made_up_breaks_the_server_or_its_word(served, name, tmp_path):
    arguments = (
        "run", f"{served.url}{DIALECTS[name].PREFIXES[0].rstrip('/')}/openapi.json",
        "--url", served.url,
        "--checks", ",".join(CHECKS),
        "--phases", "examples,fuzzing",
        "--max-examples", "8",
        "--mode", "all",
        "--seed", "1",
        "--request-timeout", "30",
        "--continue-on-failure",
        "--no-color",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments],
        env={**os.environ, "SCHEMATHESIS_HOOKS": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
