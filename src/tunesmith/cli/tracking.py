"""`tunesmith jobs integrations` and `tensorboard`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from tunesmith.cli.client import Client, job_id
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.jobs import Id
from tunesmith.cli.outcome import CommandError
from tunesmith.cli.output import data_json, moment, table

app = group("Trackers.")


@command(app, "integrations", "tunesmith jobs integrations 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def integrations(id: Id, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show which services are told of a job, where to look, and what went wrong."""
    with Client(url) as client:
        found = client.listed(f"/jobs/{job_id(id)}/integrations", {})
    if as_json:
        data_json(found)
        return
    table(
        ("KIND", "STATE", "LAST TOLD", "WHERE", "ERROR"),
        [
            (each["kind"], each["state"], moment(each["told_at"]), each["url"] or "-", each["error"] or "-")
            for each in found
        ],
        empty="Nobody is told of this job.",
    )


@command(app, "tensorboard", "tunesmith jobs tensorboard 3f0c9a5e8d7b4c21a6f4e0d9b8c7a615")
def tensorboard(
    id: Id,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 picks a free one.")] = 6006,
    url: Url = DEFAULT_URL,
) -> None:
    """Start TensorBoard on the event files of a job, on the machine of the server. Ctrl-C ends it."""
    known = job_id(id)
    with Client(url) as client:
        found = client.listed(f"/jobs/{known}/integrations", {})
    folder = _folder([each["url"] for each in found if each["kind"] == "tensorboard"], known)
    if find_spec("tensorboard") is None:
        raise CommandError(
            "TensorBoard is not installed here.", hint="Install it with pip install 'tunesmith[tensorboard]'."
        )
    # In the place of this process, so that it gets signals itself.
    os.execv(
        sys.executable,
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)],
    )


def _folder(urls: list[str | None], id: str) -> Path:
    """The folder of a job's event files.

    Raises:
        CommandError: there is none yet, or not on this machine.
    """
    url = next((each for each in urls if each is not None), None)
    if url is None:
        raise CommandError(f"Job {id} has reported no figures yet.", hint="Try again when it has made its first step.")
    folder = Path(unquote(urlsplit(url).path))
    if not folder.is_dir():
        raise CommandError(
            f"The event files are not on this machine: {folder}.", hint="Run this on the machine of the server."
        )
    return folder
