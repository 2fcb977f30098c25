"""What a newcomer reads: the help of every command, and its page in the documentation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tunesmith import __version__
from tunesmith.cli.application import create_application
from tunesmith.cli.outcome import ExitCode

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from _commands(child, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(create_application())))


def test_these_are_the_commands():
    assert {" ".join(path) for path in COMMANDS} == {
        "serve",
        "train",
        "jobs list",
        "jobs submit",
        "jobs validate",
        "jobs get",
        "jobs watch",
        "jobs logs",
        "jobs cancel",
        "jobs pause",
        "jobs resume",
        "jobs samples",
        "jobs sample-sheet",
        "plan",
        "jobs priority",
        "jobs metrics",
        "jobs artifacts",
        "jobs download",
        "jobs recipe",
        "jobs integrations",
        "jobs tensorboard",
        "data inspect",
        "datasets add",
        "datasets list",
        "datasets delete",
        "files add",
        "files list",
        "files delete",
        "models list",
        "models delete",
        "models export",
        "models exports",
        "models delete-export",
        "models push",
        "models pushes",
        "secrets create",
        "secrets list",
        "secrets delete",
        "secrets rotate",
        "keys create",
        "keys list",
        "keys revoke",
        "org show",
        "org members list",
        "org members add",
        "org members change",
        "org members remove",
        "org projects list",
        "org projects create",
        "org projects archive",
        "org keys list",
        "org keys create",
        "org keys revoke",
        "webhooks create",
        "webhooks list",
        "webhooks get",
        "webhooks change",
        "webhooks delete",
        "webhooks rotate",
        "webhooks test",
        "webhooks deliveries",
        "webhooks redeliver",
        "tiny-model image",
        "tiny-model text",
        "tiny-model vision-language",
        "doctor",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_begins_with_an_example_of_the_command(path):
    shown = CliRunner().invoke(create_application(), [*path, "--help"])
    assert shown.exit_code == 0
    usage, _, rest = shown.stdout.partition("\n\n")
    assert usage.startswith("Usage:")
    assert rest.startswith(f"  $ tunesmith {' '.join(path)}")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_page_names_the_command_and_its_options(path):
    page = PAGE.read_text()
    assert f"`tunesmith {' '.join(path)}" in page
    section = page.partition(f"### `tunesmith {' '.join(path)}")[2].partition("\n### ")[0]
    documented = set(re.findall(r"--[a-z-]+", section)) | {"--url", "--help"}
    assert {option for option in _options(COMMANDS[path]) if option.startswith("--")} <= documented


def test_every_command_that_answers_data_can_answer_json():
    without = {path for path, command in COMMANDS.items() if "--json" not in _options(command)}
    assert {" ".join(path) for path in without} == {
        "serve",
        "jobs tensorboard",
        "tiny-model image",
        "tiny-model text",
        "tiny-model vision-language",
    }


def test_no_command_takes_a_credential_on_its_command_line():
    for path, command in COMMANDS.items():
        words = {part for option in _options(command) if option[0] == "-" for part in option.split("-")}
        assert not words & {"key", "token", "password", "secret", "field", "value"}, path


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("code", ExitCode)
def test_the_page_lists_the_exit_code(code):
    assert f"| {code.value} |" in PAGE.read_text()


def test_version(shell):
    assert shell.run("--version").out == f"tunesmith {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("jobs",), ("train",), ("train", "no-such-file", "--model", "m"), ("jobs", "list", "--limit", "0")],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2(shell, arguments):
    assert shell.run(*arguments).code == 2


def test_completion_can_be_shown(shell):
    done = shell.run("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.code == 0
    assert "_TUNESMITH_COMPLETE" in done.out
