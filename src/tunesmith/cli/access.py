"""`tunesmith keys` and `tunesmith secrets`: the operator's hand on a home that no server uses.

They open the database themselves instead of asking a server. The first key must come from somewhere: a server that
asks for credentials lets nobody in who has none, and an open one has no business handing out keys to everybody on the
machine. Whoever can write the home owns the server anyway. The database has one writing process, so these commands
hold the home's lock while they work, and where a server holds it, they say so and leave the home alone.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.commands import AsJson, command, group
from tunesmith.cli.outcome import CommandError, ExitCode, settings_faults
from tunesmith.cli.output import data, data_json, moment, say, table
from tunesmith.cli.serving import Home

if TYPE_CHECKING:
    from tunesmith.server import home as homes
    from tunesmith.spec.errors import TunesmithError
    from tunesmith.store.database import Database

keys = group("API keys, of a home that no server uses.")
secrets = group("Stored credentials, of a home that no server uses.")

_DAY_SECONDS = 24 * 3600

Org = Annotated[str, typer.Option("--org", metavar="ORG", help="Id of the organisation.")]


@command(keys, "create", "tunesmith keys create --org acme --role owner", "tunesmith keys create --org acme --days 30")
def create(
    org: Org,
    role: Annotated[str, typer.Option(metavar="ROLE", help="owner, member or viewer.")] = "member",
    name: Annotated[str, typer.Option(metavar="NAME", help="What the key is for.")] = "command line",
    user: Annotated[str | None, typer.Option(metavar="USER", help="Whose it is. [a machine's]")] = None,
    project: Annotated[str | None, typer.Option(metavar="ID", help="The only project that it may work in.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is valid. [until it is revoked]")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once.

    An organisation that does not exist yet is created.
    """
    from tunesmith.access.caller import Role
    from tunesmith.access.keys import ApiKeys
    from tunesmith.access.organisations import Organisations

    if role not in list(Role):
        raise CommandError(f"The role {role!r} is none of {', '.join(Role)}.", code=ExitCode.USAGE)
    with _offline(home) as (_, database):
        Organisations(database).ensure(org)
        key, plaintext = ApiKeys(database).create(
            org,
            name=name,
            role=Role(role),
            user=user,
            project=project,
            expires_at=time.time() + days * _DAY_SECONDS if days else None,
        )
    say(f"Key {key.id} of {org}, role {key.role}. Keep it now: it is not shown again.")
    data_json({**key.model_dump(mode="json"), "key": plaintext}) if as_json else data(plaintext)


@command(keys, "list", "tunesmith keys list --org acme")
def list_keys(org: Org, home: Home = None, as_json: AsJson = False) -> None:
    """List an organisation's API keys by their last letters, oldest first."""
    from tunesmith.access.keys import PREFIX, ApiKeys

    with _offline(home) as (_, database):
        found = ApiKeys(database).listed(org)
    if as_json:
        data_json([key.model_dump(mode="json") for key in found])
        return
    table(
        ("ID", "KEY", "NAME", "ROLE", "USER", "CREATED", "EXPIRES", "LAST USED", "REVOKED"),
        [
            (
                key.id,
                f"{PREFIX}…{key.last_four}",
                key.name,
                key.role,
                key.user or "-",
                moment(key.created_at),
                moment(key.expires_at),
                moment(key.last_used_at),
                moment(key.revoked_at),
            )
            for key in found
        ],
        empty=f"The organisation {org!r} has no keys. Make one with `tunesmith keys create --org {org}`.",
    )


@command(keys, "revoke", "tunesmith keys revoke 0123456789abcdef0123456789abcdef --org acme")
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    org: Org,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """End an API key at once. Revoking it again changes nothing."""
    from tunesmith.access.keys import ApiKeys

    with _offline(home) as (_, database):
        key = ApiKeys(database).revoke(org, id)
    if as_json:
        data_json(key.model_dump(mode="json"))
    else:
        say(f"Key {key.id} is revoked.")


@command(secrets, "rotate", "tunesmith secrets rotate")
def rotate(home: Home = None, as_json: AsJson = False) -> None:
    """Encrypt all stored credentials with a new key and delete the old keys.

    Cut off at any moment, it leaves every credential usable; run it again to complete it. Backups of the database need
    the keys of the same moment.
    """
    from tunesmith.access.secrets import open_secrets

    with _offline(home) as (folder, database):
        count = open_secrets(database, folder.keys).rotate()
    if as_json:
        data_json({"secrets": count})
    else:
        say(f"Stored credentials encrypted with a new key: {count}.")


@contextmanager
def _offline(home: Home) -> "Iterator[tuple[homes.Home, Database]]":
    """A home held by this command, and its database."""
    from tunesmith.server.home import Home as HomeFolder
    from tunesmith.server.home import HomeLock
    from tunesmith.server.settings import load_settings
    from tunesmith.spec.errors import SettingsError, TunesmithError
    from tunesmith.store.database import Database

    with settings_faults():
        folder = HomeFolder(load_settings(home=home).home)
    with ExitStack() as held:
        try:
            held.enter_context(HomeLock(folder))
        except SettingsError as error:
            hint = "A running server does this itself, over its API; or stop it first."
            raise CommandError(error.message, hint=hint, code=ExitCode.USAGE) from error
        database = Database(folder.database)
        held.callback(database.close)
        try:
            database.migrate()
            yield folder, database
        except TunesmithError as error:
            raise CommandError(error.message, hint=error.hint, code=_code(error)) from error


def _code(error: "TunesmithError") -> ExitCode:
    from tunesmith.spec.errors import ConflictError, InvalidRequestError, NotFoundError, SettingsError

    if isinstance(error, NotFoundError):
        return ExitCode.NOT_FOUND
    if isinstance(error, ConflictError):
        return ExitCode.CONFLICT
    return ExitCode.USAGE if isinstance(error, InvalidRequestError | SettingsError) else ExitCode.FAILURE
