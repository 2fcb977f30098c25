"""`tunesmith datasets`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data_json, fields, moment, say, size, table

app = group("Datasets registered under a name.")

_SHOWN_PROBLEMS = 5


@command(app, "add", "tunesmith datasets add support support.jsonl")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, such as support.")],
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Rows, JSON lines.")
    ],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Register a file as the next version of a name.

    The newest version's content again is no new version.
    """
    with Client(url) as client:
        dataset = client.send("/datasets", {"name": name}, file)
    if as_json:
        data_json(dataset)
        return
    fields(
        [
            ("Name", dataset["reference"]),
            ("Format", dataset["format"]),
            ("Rows", str(dataset["rows"])),
            ("Unusable", str(dataset["unusable_rows"])),
            ("Size", size(dataset["bytes"])),
            ("SHA-256", dataset["sha256"]),
        ]
    )
    for problem in dataset["problems"][:_SHOWN_PROBLEMS]:
        say(f"Line {problem['line']}: {problem['reason']}")


@command(app, "list", "tunesmith datasets list")
def list_datasets(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List registered datasets by name, the newest version of each first."""
    with Client(url) as client:
        found = client.listed("/datasets")
    if as_json:
        data_json(found)
        return
    table(
        ("NAME", "FORMAT", "ROWS", "UNUSABLE", "SIZE", "CREATED"),
        [
            (
                each["reference"],
                each["format"],
                str(each["rows"]),
                str(each["unusable_rows"]),
                size(each["bytes"]),
                moment(each["created_at"]),
            )
            for each in found
        ],
        empty="No datasets yet. Register one with `tunesmith datasets add NAME FILE`.",
    )


@command(app, "delete", "tunesmith datasets delete support@1")
def delete(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A version; without, the newest one.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete a version of a dataset. Jobs that already use it are not disturbed."""
    with Client(url) as client:
        deleted = client.change("DELETE", f"/datasets/{quote(reference)}")
    if as_json:
        data_json(deleted)
    else:
        say(f"Dataset {deleted['id']} is deleted.")
