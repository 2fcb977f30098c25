"""`tunesmith secrets`: values come from a terminal, a file or stdin, never from the command line."""

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data, data_json, moment, say, table

app = group("Credentials for other services, stored by the server.")


@command(
    app,
    "create",
    "tunesmith secrets create rows s3",
    "tunesmith secrets create bucket gcs --from fields.json",
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What requests call it.")],
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="s3, gcs, hub, http, wandb, mlflow or webhook.")],
    source: Annotated[
        typer.FileText | None,
        typer.Option("--from", metavar="FILE", help="JSON object of the fields; - is stdin. [asked for]"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="The only host that it may be sent to. [the purpose's default]")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Store credentials under a name and print their id.

    Without --from, the fields are asked for on the terminal and not shown. Values of --from that are no texts are
    stored as JSON, so that a service account's key can be pasted as it is.
    """
    fields = _read(source) if source else _ask(purpose)
    request = {"name": name, "purpose": purpose, "fields": fields, **({"host": host} if host else {})}
    with Client(url) as client:
        secret = client.change("POST", "/secrets", request)
    data_json(secret) if as_json else data(secret["id"])


@command(app, "list", "tunesmith secrets list")
def list_secrets(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List stored credentials by name, without their values."""
    with Client(url) as client:
        found = client.listed("/secrets")
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "NAME", "PURPOSE", "HOST", "FIELDS", "UPDATED"),
        [
            (
                each["id"],
                each["name"],
                each["purpose"],
                each["host"] or "-",
                ", ".join(each["field_names"]),
                moment(each["updated_at"]),
            )
            for each in found
        ],
        empty="No stored credentials. Store some with `tunesmith secrets create NAME PURPOSE`.",
    )


@command(app, "delete", "tunesmith secrets delete rows")
def delete(
    secret: Annotated[str, typer.Argument(metavar="NAME", help="Name or id.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Forget stored credentials."""
    with Client(url) as client:
        deleted = client.change("DELETE", f"/secrets/{quote(secret, safe='')}")
    if as_json:
        data_json(deleted)
    else:
        say(f"Secret {deleted['id']} is deleted.")


def _read(source: typer.FileText) -> dict[str, str]:
    try:
        fields: Any = json.load(source)
    except ValueError:  # whose text would show a part of the content
        raise CommandError(f"{source.name} is not JSON.", code=ExitCode.USAGE) from None
    if not isinstance(fields, dict):
        raise CommandError(f"{source.name} holds no JSON object.", code=ExitCode.USAGE)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


def _ask(purpose: str) -> dict[str, str]:
    """The fields of a purpose from a person at a terminal; those left empty are left out."""
    import getpass

    from tunesmith.access.purposes import KINDS, PURPOSES

    kind = next((KINDS[each] for each in PURPOSES if each == purpose), None)
    if kind is None:
        raise CommandError(f"The purpose {purpose!r} is unknown; known: {', '.join(PURPOSES)}.", code=ExitCode.USAGE)
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for the fields.", hint="Use --from.", code=ExitCode.USAGE)
    asked = {name: getpass.getpass(f"{name}: ") for name in kind.required}
    asked |= {name: getpass.getpass(f"{name} (empty for none): ") for name in kind.optional}
    return {name: value for name, value in asked.items() if value}
