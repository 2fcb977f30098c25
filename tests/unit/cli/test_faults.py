"""What goes wrong between client and server, as a sentence and an exit code."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tunesmith.cli.client import job_id
from tunesmith.cli.faults import refused
from tunesmith.cli.outcome import CommandError
from tunesmith.cli.output import duration, printable, size

URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ('{"error": {"code": "conflict", "message": "It has ended.", "param": null, "hint": "Look."}}', "It has ended.",
         "Look."),
        ('{"error": {"message": "No such file.", "type": "x", "code": "y", "param": null}}', "No such file.", None),
        ('{"detail": "Busy."}', "Busy.", None),
        ('{"detail": [{"loc": ["body", "model"], "msg": "model is required.", "type": "x"}]}', "model is required.",
         None),
        ('{"message": "Not here."}', "Not here.", None),
        ('{"error": "Not found"}', "Not found", None),
    ],
)  # fmt: skip
def test_the_reason_is_found_in_every_dialect_s_shape(body, message, hint):
    error = refused(URL, 409, body)
    assert (error.message, error.hint) == (message, hint)


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", "3", '{"detail": []}'])
def test_without_a_reason_the_status_is_told(body):
    assert "500" in refused(URL, 500, body).message


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 3), (403, 3), (404, 4), (409, 5), (422, 1), (429, 5), (500, 1), (503, 1)]
)
def test_the_status_decides_the_exit_code(status, code):
    assert refused(URL, status, "{}").code == code


HEX = "3f0c9a5e8d7b4c21a6f4e0d9b8c7a615"


@pytest.mark.parametrize("given", [HEX, f"ftjob-{HEX}", "3f0c9a5e-8d7b-4c21-a6f4-e0d9b8c7a615", HEX.upper()])
def test_a_job_s_id_is_understood_in_all_its_forms(given):
    assert job_id(given) == HEX


@pytest.mark.parametrize("given", ["", "x", "..", f"{HEX}0", f"file-{HEX}"])
def test_what_is_no_id_names_no_job(given):
    with pytest.raises(CommandError, match="32 hexadecimal digits") as raised:
        job_id(given)
    assert raised.value.code == 4


COMMANDS = (
    ("jobs", "list"),
    ("jobs", "get", HEX),
    ("jobs", "watch", HEX),
    ("jobs", "logs", HEX),
    ("jobs", "cancel", HEX),
    ("datasets", "list"),
    ("datasets", "add", "name", __file__),
    ("models", "list"),
    ("train", __file__, "--model", "m"),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_without_a_server_every_command_says_where_it_looked_and_how_to_start_one(shell, arguments):
    done = shell.run(*arguments)
    assert done.code == 6
    assert shell.url in done.err
    assert "tunesmith serve" in done.err
    assert done.out == ""


def test_the_option_wins_over_the_environment(shell):
    assert "http://127.0.0.1:19 " in shell.run("jobs", "list", "--url", "http://127.0.0.1:19/").err


@pytest.mark.parametrize("url", ["localhost:23478", "ftp://127.0.0.1", "http://", ""])
def test_what_is_no_address_is_a_wrong_command_line(shell, url):
    done = shell.run("jobs", "list", "--url", url)
    assert done.code == 2
    assert "http://" in done.err


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<html>hello</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Quiet."""


@pytest.fixture
def other_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_another_program_s_answer_is_told_apart(shell, other_server):
    done = shell.run("jobs", "list", "--url", other_server)
    assert done.code == 1
    assert "is not a Tunesmith server" in done.err


def test_what_could_steer_a_terminal_is_not_printed():
    assert printable("a\x1b[31mb\tc\n\x07") == "a�[31mb\tc\n�"


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.4, "0:00"), (245, "4:05"), (3723, "1:02:03")])
def test_spans_of_time(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2 * 10**12, "2.0 TB")])
def test_sizes(count, shown):
    assert size(count) == shown
