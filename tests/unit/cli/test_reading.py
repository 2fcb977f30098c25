"""Commands that read and register, against a server without jobs."""

import pytest

NO_SUCH_JOB = "0" * 32


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    model = home / "roots" / "lab" / "small"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "llama"}')
    return start_server(home, TUNESMITH_MODEL_ROOTS=str(home / "roots"), TUNESMITH_WARM_WORKERS="false")


@pytest.fixture
def shell(server, shell_for):
    return shell_for(server.url)


@pytest.mark.parametrize("arguments", [("jobs", "list"), ("datasets", "list")], ids=" ".join)
def test_an_empty_list_is_an_empty_answer_and_a_hint(shell, arguments):
    done = shell.run(*arguments)
    assert (done.code, done.out) == (0, "")
    assert "tunesmith" in done.err
    done = shell.run(*arguments, "--json")
    assert (done.code, done.json, done.err) == (0, [], "")


def test_base_models_are_listed(shell):
    done = shell.run("models", "list")
    headings, line = done.out.splitlines()
    assert headings.split() == ["ID", "KIND", "BASE", "CREATED", "PATH"]
    assert line.split()[:2] == ["lab/small", "base"]
    model = shell.run("models", "list", "--json").json[0]
    assert (model["id"], model["kind"]) == ("lab/small", "base")


def test_a_dataset_is_registered_once_and_never_changes(shell, rows, tmp_path):
    added = shell.run("datasets", "add", "support@v1", rows, "--json")
    assert added.code == 0
    assert (added.json["name"], added.json["rows"], added.json["unusable_rows"]) == ("support@v1", 60, 0)
    again = shell.run("datasets", "add", "support@v1", rows)
    assert again.code == 0
    assert "60" in again.out

    other = tmp_path / "other.jsonl"
    other.write_text(rows.read_text() * 2)
    refused = shell.run("datasets", "add", "support@v1", other)
    assert refused.code == 5
    assert "under a new name" in refused.err

    assert [each["name"] for each in shell.run("datasets", "list", "--json").json] == ["support@v1"]
    assert "support@v1" in shell.run("datasets", "list").out


def test_rows_that_cannot_be_used_are_named(shell, tmp_path):
    file = tmp_path / "faulty.jsonl"
    file.write_text('{"messages": []}\n')
    done = shell.run("datasets", "add", "faulty", file)
    assert done.code == 0
    assert "Line 1:" in done.err


def test_a_file_that_is_no_rows_is_refused(shell, tmp_path):
    file = tmp_path / "not.jsonl"
    file.write_text("hello\n")
    done = shell.run("train", file, "--model", "lab/small")
    assert done.code == 1
    assert done.err.startswith("Error: ")


@pytest.mark.parametrize("verb", ["get", "watch", "logs", "cancel"])
@pytest.mark.parametrize("id", [NO_SUCH_JOB, f"ftjob-{NO_SUCH_JOB}", "no-job"])
def test_an_unknown_job_exits_with_4(shell, verb, id):
    done = shell.run("jobs", verb, id)
    assert (done.code, done.out) == (4, "")
    assert "No job has the id" in done.err


def test_an_unknown_model_exits_with_4_and_says_what_to_do(shell, rows):
    done = shell.run("train", rows, "--model", "nobody/nothing")
    assert done.code == 4
    assert "TUNESMITH_MODEL_ROOTS" in done.err


def test_logs_come_in_one_form_at_a_time(shell):
    assert shell.run("jobs", "logs", NO_SUCH_JOB, "--plot", "--json").code == 2
