"""`tunesmith files`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data, data_json, moment, say, size, table

app = group("Uploaded files, and those that jobs produced.")


@command(app, "add", "tunesmith files add support.jsonl")
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, metavar="FILE", help="Rows.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Upload training data and print the file's id."""
    with Client(url) as client:
        added = client.send("/files", {}, file)
    if as_json:
        data_json(added)
        return
    report = added["report"]
    say(f"{report['rows']} rows of the format {report['format']}, {report['problem_count']} of them unusable.")
    for problem in report["problems"][:5]:
        say(f"Line {problem['line']}: {problem['reason']}")
    data(added["id"])


@command(app, "list", "tunesmith files list")
def list_files(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most files to show.")] = 20,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List files, newest first."""
    with Client(url) as client:
        found = client.listed("/files", {"limit": limit})
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "NAME", "PURPOSE", "SIZE", "CREATED"),
        [
            (each["id"], each["filename"], each["purpose"], size(each["bytes"]), moment(each["created_at"]))
            for each in found
        ],
        empty="No files yet. Upload one with `tunesmith files add FILE`.",
    )


@command(app, "delete", "tunesmith files delete 0123456789abcdef0123456789abcdef")
def delete(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the file.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete a file. Jobs that already use it are not disturbed."""
    with Client(url) as client:
        deleted = client.change("DELETE", f"/files/{quote(id, safe='')}")
    if as_json:
        data_json(deleted)
    else:
        say(f"File {deleted['id']} is deleted.")
