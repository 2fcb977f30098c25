"""`tunesmith serve`: how it begins and how it ends."""

import signal
import socket
import subprocess
import sys

import pytest

from tunesmith import __version__

WITHOUT_WARM_PARENT = {"TUNESMITH_WARM_WORKERS": "false"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_line_tells_address_and_home_and_a_signal_ends_it_without_a_word(start_server, tmp_path, number):
    server = start_server(tmp_path, **WITHOUT_WARM_PARENT)
    line = (
        f"Tunesmith {__version__} serves {server.url} (home {tmp_path}); "
        "Ctrl-C ends the server, running trainings go on.\n"
    )
    assert server.stderr == [line]
    server.process.send_signal(number)
    assert server.process.wait(timeout=30) == 0
    assert server.stderr == [line]


def test_a_home_serves_one_server(start_server, tmp_path, shell):
    server = start_server(tmp_path, **WITHOUT_WARM_PARENT)
    done = shell.run("serve", "--home", tmp_path, "--port", "0")
    assert done.code == 2
    assert f"process {server.process.pid}" in done.err
    assert "--home" in done.err


def test_a_port_that_is_taken_is_named(tmp_path, shell):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = shell.run("serve", "--home", tmp_path, "--port", str(port))
    assert done.code == 2
    assert str(port) in done.err
    assert "--port" in done.err


@pytest.mark.parametrize(
    ("options", "environment", "named"),
    [
        (("--host", "0.0.0.0"), {}, "authentication"),
        (("--port", "70000"), {}, "port"),
        ((), {"TUNESMITH_PORT": "many"}, "port"),
        ((), {"TUNESMITH_RUNNER": "cloud"}, "cloud"),
    ],
)
def test_a_setting_that_is_not_allowed_exits_with_2(tmp_path, shell, options, environment, named):
    done = shell.run("serve", "--home", tmp_path, *options, **environment)
    assert done.code == 2
    assert named in done.err


def test_a_faulty_settings_file_exits_with_2(tmp_path, shell):
    (tmp_path / "tunesmith.toml").write_text("port = \n")
    done = shell.run("serve", "--home", tmp_path)
    assert done.code == 2
    assert "tunesmith.toml" in done.err


@pytest.mark.parametrize(
    ("imports", "foreign"),
    [
        ("tunesmith.server.serve", {"plotext", "rich", "torch"}),
        ("tunesmith.cli.application", {"fastapi", "httpx2", "plotext", "rich", "sqlalchemy", "torch"}),
    ],
)
def test_server_and_command_line_import_nothing_that_only_the_other_needs(imports, foreign):
    code = f"import sys, {imports}; print(*sorted({foreign} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""
