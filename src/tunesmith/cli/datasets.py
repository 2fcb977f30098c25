"""`tunesmith datasets`."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data_json, fields, moment, say, size, table

app = group("Datasets registered under a name.")

_SHOWN_PROBLEMS = 5


@command(app, "add", "tunesmith datasets add support@v1 support.jsonl")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, such as support@v1.")],
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Rows, JSON lines.")
    ],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Register a file under a name. The same content again is no error."""
    with Client(url) as client:
        dataset = client.add_dataset(name, file)
    if as_json:
        data_json(dataset)
        return
    fields(
        [
            ("Name", dataset["name"]),
            ("Format", dataset["format"] or "-"),
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
    """List registered datasets by name."""
    with Client(url) as client:
        found = client.datasets()
    if as_json:
        data_json(found)
        return
    table(
        ("NAME", "FORMAT", "ROWS", "UNUSABLE", "SIZE", "CREATED"),
        [
            (
                each["name"],
                each["format"] or "-",
                str(each["rows"]),
                str(each["unusable_rows"]),
                size(each["bytes"]),
                moment(each["created_at"]),
            )
            for each in found
        ],
        empty="No datasets yet. Register one with `tunesmith datasets add NAME FILE`.",
    )
