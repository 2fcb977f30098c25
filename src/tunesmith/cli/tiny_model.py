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
    _build("tunesmith.training.tiny_model", "text", str(directory))
    data(str(directory))


@command(app, "vision-language", "tunesmith tiny-model vision-language ./models/tiny-vision")
def vision_language(
    directory: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder to write the model to.")],
) -> None:
    """Write a tiny model that reads pictures too, in transformers' layout.

    It is built by the interpreter of the setting `worker_python`.
    """
    _build("tunesmith.training.tiny_vision_model", str(directory))
    data(str(directory))


@command(app, "image", "tunesmith tiny-model image ./models/tiny-flux")
def image(
    directory: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder to write the model to.")],
) -> None:
    """Write a tiny text-to-image model in diffusers' layout, of the family FLUX.1.

    It is built by the interpreter of the setting `worker_python`, which needs the extra `images`.
    """
    _build("tunesmith.training.diffusion.tiny_model", str(directory))
    data(str(directory))


def _build(*arguments: str) -> None:
    with settings_faults():
        from tunesmith.server.settings import load_settings

        python = load_settings().worker_python
    try:
        ended = subprocess.run([python, "-m", *arguments], check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CommandError(
            f"The interpreter {python!r} does not start: {error.strerror}.",
            hint="Correct TUNESMITH_WORKER_PYTHON, or worker_python in tunesmith.toml.",
        ) from error
    if ended.returncode != 0:
        raise CommandError(
            f"The model was not built: {python} ended with {ended.returncode}.", hint="Run `tunesmith doctor`."
        )
