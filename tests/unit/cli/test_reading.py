"""Commands that read and register, against a server without jobs."""

import json
import os
import pty
import subprocess
import sys

import pytest

COMMAND = (sys.executable, "-m", "tunesmith.cli")
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


def test_a_dataset_gets_a_version_for_every_new_content(shell, rows, tmp_path):
    added = shell.run("datasets", "add", "support", rows, "--json")
    assert added.code == 0
    assert (added.json["reference"], added.json["rows"], added.json["unusable_rows"]) == ("support@1", 60, 0)
    again = shell.run("datasets", "add", "support", rows)
    assert again.code == 0
    assert "support@1" in again.out

    other = tmp_path / "other.jsonl"
    other.write_text(rows.read_text() * 2)
    assert "support@2" in shell.run("datasets", "add", "support", other).out
    references = [each["reference"] for each in shell.run("datasets", "list", "--json").json]
    assert references == ["support@2", "support@1"]

    assert shell.run("datasets", "delete", "support@1").err == "Dataset support@1 is deleted.\n"
    listed = shell.run("datasets", "list").out
    assert "support@2" in listed
    assert "support@1" not in listed
    assert shell.run("datasets", "delete", "support@1").code == 4


def test_a_file_is_uploaded_listed_and_deleted(shell, rows):
    added = shell.run("files", "add", rows)
    assert added.code == 0
    assert "60 rows of the format messages" in added.err
    id = added.out.strip()
    assert id in shell.run("files", "list").out
    assert [each["id"] for each in shell.run("files", "list", "--json").json] == [id]
    assert shell.run("files", "delete", id, "--json").json == {"id": id, "deleted": True}
    assert shell.run("files", "delete", id).code == 4


@pytest.fixture
def described(tmp_path):
    """A file that describes a job."""

    def write(**spec):
        file = tmp_path / "job.json"
        spec = {"model": {"base": "nobody/nothing"}, "data": {"train": {"dataset": "rows"}}, **spec}
        file.write_text(json.dumps({"spec": spec}))
        return file

    return write


def test_a_job_s_description_is_refused_with_the_path_of_its_fault(shell, described):
    done = shell.run("jobs", "submit", described(optimization={"epochs": -1}))
    assert (done.code, done.out) == (1, "")
    assert "spec.optimization.epochs" in done.err
    done = shell.run("jobs", "validate", described())
    assert done.code == 4
    assert "No dataset is registered as 'rows'" in done.err


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_description_that_is_no_json_object_is_a_wrong_command_line(shell, tmp_path, content):
    file = tmp_path / "job.json"
    file.write_bytes(content.encode("latin-1"))
    done = shell.run("jobs", "submit", file)
    assert done.code == 2
    assert str(file) in done.err


def test_credentials_are_read_from_a_file_and_never_shown(shell, tmp_path):
    file = tmp_path / "fields.json"
    file.write_text('{"service_account_key": {"private_key": "do-not-show"}}')
    created = shell.run("secrets", "create", "bucket", "gcs", "--from", file)
    assert created.code == 0, created.err
    listed = shell.run("secrets", "list")
    assert created.out.strip() in listed.out
    assert "service_account_key" in listed.out
    again = shell.run("secrets", "create", "bucket", "gcs", "--from", file)
    assert again.code == 5
    for done in (created, listed, again, shell.run("secrets", "list", "--json")):
        assert "do-not-show" not in done.out + done.err
    assert shell.run("secrets", "delete", "bucket").code == 0
    assert shell.run("secrets", "delete", "bucket").code == 4


def test_a_faulty_file_of_credentials_is_not_repeated(shell, tmp_path):
    file = tmp_path / "fields.json"
    file.write_text('{"token": "do-not-show",}')
    done = shell.run("secrets", "create", "hub", "hub", "--from", file)
    assert done.code == 2
    assert "do-not-show" not in done.out + done.err


def test_credentials_are_asked_for_on_a_terminal_only(shell):
    done = shell.run("secrets", "create", "hub", "hub")
    assert done.code == 2
    assert "--from" in done.err
    assert "known: s3" in shell.run("secrets", "create", "hub", "nothing").err


def test_a_terminal_is_asked_for_credentials_without_showing_them(shell):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "secrets", "create", "asked", "hub", "--json"],
        env=shell.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    os.close(theirs)
    assert process.stderr
    assert process.stderr.read(len("token: ")) == "token: "  # what is typed before is thrown away
    os.write(ours, b"do-not-show\n")
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0, err
    assert json.loads(out)["field_names"] == ["token"]
    assert "do-not-show" not in out + err


def test_an_open_server_has_one_owner_and_hands_out_no_keys(shell):
    assert shell.run("org", "show", "--json").json == {
        "organisation": "local", "name": "local", "user": None, "role": "owner", "project": None,
    }  # fmt: skip
    done = shell.run("org", "keys", "create", "mine", "owner")
    assert (done.code, done.out) == (5, "")


def test_projects_are_created_and_archived(shell):
    id = shell.run("org", "projects", "create", "help desk").out.strip()
    assert "help desk" in shell.run("org", "projects", "list").out
    assert shell.run("org", "projects", "archive", id).code == 0
    [project] = shell.run("org", "projects", "list", "--json").json
    assert project["archived_at"] is not None


def test_labels_have_a_key(shell):
    assert shell.run("jobs", "list", "--label", "nothing").code == 2
    assert shell.run("jobs", "list", "--label", "team=search", "--state", "running").code == 0
    assert shell.run("jobs", "list", "--state", "nothing").code == 1


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


@pytest.mark.parametrize(
    "verb",
    [
        "get",
        "watch",
        "logs",
        "cancel",
        "pause",
        "resume",
        "metrics",
        "samples",
        "sample-sheet",
        "artifacts",
        "download",
    ],
)
def test_an_unknown_job_exits_with_4(shell, verb):
    done = shell.run("jobs", verb, NO_SUCH_JOB)
    assert (done.code, done.out) == (4, "")
    assert "No job has the id" in done.err


def test_an_unknown_model_exits_with_4_and_says_what_to_do(shell, rows):
    done = shell.run("train", rows, "--model", "nobody/nothing")
    assert done.code == 4
    assert "TUNESMITH_MODEL_ROOTS" in done.err


def test_logs_come_in_one_form_at_a_time(shell):
    assert shell.run("jobs", "logs", NO_SUCH_JOB, "--plot", "--json").code == 2


@pytest.mark.parametrize("command", ["integrations", "tensorboard"])
def test_trackers_of_a_job_that_is_not_there_are_not_found(shell, command):
    done = shell.run("jobs", command, NO_SUCH_JOB)
    assert done.code == 4
    assert "No job has the id" in done.err
