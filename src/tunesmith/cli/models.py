"""`tunesmith models`."""

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data_json, moment, table

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
