"""`tunesmith models`."""

from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data_json, moment, say, table

app = group("Base models, and those that jobs produced.")


@command(app, "list", "tunesmith models list")
def list_models(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List produced models, newest first, then base models."""
    with Client(url) as client:
        found = client.models()
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "KIND", "BASE", "CREATED", "PATH"),
        [
            (each["id"], each["kind"], each["base"] or "-", moment(each["created_at"]), str(each["path"]))
            for each in found
        ],
        empty="No models. Name folders with TUNESMITH_MODEL_ROOTS or [model_aliases] in tunesmith.toml of the server.",
    )


@command(app, "delete", "tunesmith models delete ft:smollm2:local:support:3f0c9a5e")
def delete(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a produced model.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete a produced model and its weights."""
    with Client(url) as client:
        deleted = client.change("DELETE", f"/models/{quote(id)}")
    if as_json:
        data_json(deleted)
    else:
        say(f"Model {deleted['id']} is deleted.")
