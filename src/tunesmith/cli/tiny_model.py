"""`tunesmith tiny-model`."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.commands import command, group
from tunesmith.cli.outcome import CommandError, settings_faults
from tunesmith.cli.output import data

app = group("Tiny random models for tests and trials.")


@command(app, "text", "tunesmith tiny-model text ./models/tiny")
def text(
    directory: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder to write the model to.")],
) -> None:
    """Write a tiny language model in transformers' layout.

    It is built by the interpreter of the setting `worker_python`.
    """
    _build(["tunesmith.training.tiny_model", "text"], directory)


@command(app, "vision-language", "tunesmith tiny-model vision-language ./models/tiny-vision")
def vision_language(
    directory: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder to write the model to.")],
) -> None:
    """Write a tiny model that reads pictures too, in transformers' layout.

    It is built by the interpreter of the setting `worker_python`.
    """
    _build(["tunesmith.training.tiny_vision_model"], directory)


def _build(builder: list[str], directory: Path) -> None:
    """Have a module write a model."""
    with settings_faults():
        from tunesmith.server.settings import load_settings

        python = load_settings().worker_python
    command = [python, "-m", *builder, str(directory)]
    try:
        ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CommandError(
            f"The interpreter {python!r} does not start: {error.strerror}.",
            hint="Correct TUNESMITH_WORKER_PYTHON, or worker_python in tunesmith.toml.",
        ) from error
    if ended.returncode != 0:
        raise CommandError(
            f"The model was not built: {python} ended with {ended.returncode}.", hint="Run `tunesmith doctor`."
        )
    data(str(directory))
