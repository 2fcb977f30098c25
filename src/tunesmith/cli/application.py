"""All commands under one name."""

from typing import Annotated

import typer

from tunesmith.cli import (
    access,
    datasets,
    doctor,
    exports,
    files,
    jobs,
    models,
    organisation,
    plan,
    results,
    secrets,
    serving,
    steering,
    submission,
    tiny_model,
    tracking,
    training,
    webhooks,
)
from tunesmith.cli.commands import group
from tunesmith.cli.data import app as training_data
from tunesmith.cli.output import data

_HELP = """\b
$ tunesmith serve
$ tunesmith train support.jsonl --model smollm2

Fine-tune models on your own machine: one server, and commands that talk to it.
"""


def create_application() -> typer.Typer:
    """The command line."""
    app = group(_HELP)
    app.callback()(_options)
    for noun in (serving, training, plan):
        noun.register(app)
    app.add_typer(jobs.app, name="jobs")
    for part in (submission, steering, results, tracking):
        jobs.app.add_typer(part.app)
    app.add_typer(training_data, name="data")
    app.add_typer(datasets.app, name="datasets")
    app.add_typer(files.app, name="files")
    app.add_typer(models.app, name="models")
    models.app.add_typer(exports.app)
    app.add_typer(organisation.app, name="org")
    app.add_typer(access.keys, name="keys")
    app.add_typer(secrets.app, name="secrets")
    secrets.app.add_typer(access.secrets)
    app.add_typer(webhooks.app, name="webhooks")
    app.add_typer(tiny_model.app, name="tiny-model")
    doctor.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        import tunesmith

        data(f"tunesmith {tunesmith.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options before the command."""
