"""`tunesmith plan` against a real server."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server, tiny_model, tmp_path_factory):
    aliases = json.dumps({"tiny": str(tiny_model)})
    environment = {"TUNESMITH_MODEL_ALIASES": aliases, "TUNESMITH_WARM_WORKERS": "false"}
    return start_server(tmp_path_factory.mktemp("home"), **environment)


@pytest.fixture
def shell(server, shell_for):
    return shell_for(server.url)


@pytest.fixture
def described(shell, rows, tmp_path):
    """A file that describes a job on the tiny model."""
    shell.run("datasets", "add", "planned", rows)

    def write(**spec):
        file = tmp_path / "job.json"
        spec = {"model": {"base": "tiny"}, "data": {"train": {"dataset": "planned"}}, **spec}
        file.write_text(json.dumps({"spec": spec}))
        return file

    return write


def test_a_plan_is_a_table_of_what_the_job_would_cost(shell, described):
    done = shell.run("plan", described())
    assert done.code == 0, done.err
    told = dict(line.split("  ", 1) for line in done.out.splitlines() if not line.startswith(" "))
    assert told["Rows"].strip() == "60"
    assert told["Fits"].strip() == "yes"
    assert told["Time"].strip().startswith("not known")
    assert {"Steps", "Memory", "Disk", "Parameters", "Device", "Passes"} <= set(told)


def test_a_plan_as_json_is_the_servers_answer(shell, described):
    planned = shell.run("plan", described(), "--json").json
    assert planned["complete"] is True
    assert planned["plan"]["rows"]["rows"] == {"low": 60, "high": 60}


def test_a_job_that_would_be_refused_has_no_plan(shell, described):
    done = shell.run("plan", described(model={"base": "local-only", "source": "local"}))
    assert (done.code, done.out) == (4, "")
    assert "local-only" in done.err
