"""`tunesmith doctor`."""

import os
import socket

import pytest

NAMES = {"python", "sqlite", "settings", "worker", "devices", "home", "disk", "server", "port", "models"}


@pytest.fixture
def quick(tmp_path):
    """An interpreter that imports nothing, for checks that are not about it."""
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\necho \'{"python": "3.11.0", "versions": {"torch": "2.13.0"}, "missing": {}, "cuda_devices": 1}\'\n'
    )
    script.chmod(0o755)
    return {"TUNESMITH_WORKER_PYTHON": str(script)}


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


@pytest.fixture
def doctor(shell, tmp_path, quick):
    """Run it on a home below the test's folder and give its findings by name."""

    def run(*options, code=0, **environment):
        home = () if "--home" in options else ("--home", tmp_path / "home")
        done = shell.run("doctor", *home, "--json", *options, **{**quick, **environment})
        assert done.code == code, done.out
        assert done.json["ok"] is (code == 0)
        return {check["name"]: check for check in done.json["checks"]}

    return run


def test_it_checks_interpreter_libraries_devices_home_port_and_models(doctor, free_port, tmp_path):
    found = doctor("--port", free_port)
    assert set(found) == NAMES
    assert all(set(check) == {"name", "status", "message", "hint"} for check in found.values())
    assert {name: found[name]["status"] for name in ("python", "settings", "worker", "home", "server", "port")} == {
        "python": "pass", "settings": "pass", "worker": "pass", "home": "pass", "server": "pass", "port": "pass"
    }  # fmt: skip
    assert found["models"]["status"] == "warn"
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_the_interpreter_of_this_environment_can_train(doctor, free_port):
    import sys

    worker = doctor("--port", free_port, TUNESMITH_WORKER_PYTHON=sys.executable)["worker"]
    assert worker["status"] == "pass"
    for library in ("torch", "transformers", "peft"):
        assert library in worker["message"]


def test_people_get_lines(shell, quick, free_port, tmp_path):
    done = shell.run("doctor", "--home", tmp_path / "home", "--port", free_port, **quick)
    assert done.code == 0
    assert "pass  python: " in done.out


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('echo \'{"python": "3.11.0", "versions": {}, "missing": {"torch": "ModuleNotFoundError: none"}}\'', "torch"),
        ("echo gibberish", "no answer"),
        ("echo broken >&2; exit 3", "broken"),
    ],
)
def test_an_interpreter_that_cannot_train_fails(doctor, quick, free_port, tmp_path, script, told):
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    worker = doctor("--port", free_port, code=1)["worker"]
    assert worker["status"] == "fail"
    assert told in worker["message"]
    assert "TUNESMITH_WORKER_PYTHON" in worker["hint"]


def test_an_interpreter_that_does_not_exist_fails(doctor, free_port):
    worker = doctor("--port", free_port, code=1, TUNESMITH_WORKER_PYTHON="/nowhere/python")["worker"]
    assert "/nowhere/python" in worker["message"]


def test_a_port_that_another_program_holds_fails(doctor):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # it does not listen, so nobody waits for its answer
        port = str(other.getsockname()[1])
        found = doctor("--port", port, code=1)
    assert found["port"]["status"] == "fail"
    assert port in found["port"]["message"]


def test_a_running_server_is_recognised(doctor, start_server, tmp_path):
    home = tmp_path / "served"
    server = start_server(home, TUNESMITH_WARM_WORKERS="false")
    port = server.url.rpartition(":")[2]
    found = doctor("--home", str(home), "--port", port)
    assert f"process {server.process.pid}" in found["server"]["message"]
    assert found["port"]["status"] == "pass"
    elsewhere = doctor("--home", str(tmp_path / "other"), "--port", port, code=1)
    assert "another home" in elsewhere["port"]["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_fails(doctor, free_port, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert doctor("--home", str(locked / "home"), "--port", free_port, code=1)["home"]["status"] == "fail"


def test_a_home_that_is_a_file_fails(doctor, free_port, tmp_path):
    (tmp_path / "file").touch()
    assert doctor("--home", str(tmp_path / "file"), "--port", free_port, code=1)["home"]["status"] == "fail"


def test_faulty_settings_fail(doctor):
    assert doctor(code=1, TUNESMITH_PORT="many")["settings"]["status"] == "fail"


def test_models_are_checked_one_by_one(doctor, free_port, tmp_path):
    home, roots = tmp_path / "home", tmp_path / "roots"
    for name in ("whole", "without-weights"):
        (roots / name).mkdir(parents=True)
        (roots / name / "config.json").write_text('{"model_type": "llama"}')
    (roots / "whole" / "model.safetensors").touch()
    found = doctor("--port", free_port, TUNESMITH_MODEL_ROOTS=str(roots))
    assert found["models"] == {"name": "models", "status": "pass", "message": "1 usable base model", "hint": None}

    home.mkdir()
    (home / "tunesmith.toml").write_text(f'[model_aliases]\nbroken = "{roots / "without-weights"}"\n')
    found = doctor("--port", free_port, code=1)
    assert "broken" in found["models"]["message"]
    assert doctor("--port", free_port, code=1, TUNESMITH_MODEL_ROOTS="/nowhere")["models"]["status"] == "fail"
