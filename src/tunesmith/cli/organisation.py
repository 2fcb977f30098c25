"""`tunesmith org`: the caller's organisation over the API of a running server."""

import time
from typing import Annotated
from urllib.parse import quote

import typer

from tunesmith.cli.client import Client, Json
from tunesmith.cli.commands import DEFAULT_URL, AsJson, Url, command, group
from tunesmith.cli.output import data, data_json, fields, moment, say, table

app = group("Your organisation on a running server: members, projects and API keys.")
members = group("Who belongs to the organisation.")
projects = group("Parts of the organisation's work.")
keys = group("The organisation's API keys.")
app.add_typer(members, name="members")
app.add_typer(projects, name="projects")
app.add_typer(keys, name="keys")

_DAY_SECONDS = 24 * 3600

User = Annotated[str, typer.Argument(metavar="USER", help="As tokens name the user in `sub`.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="owner, member or viewer.")]


@command(app, "show", "tunesmith org show")
def show(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show the organisation, user and role that the API key stands for."""
    with Client(url) as client:
        found = client.read("/organisation")
    if as_json:
        data_json(found)
    else:
        fields([(name.capitalize(), value or "-") for name, value in found.items()])


@command(members, "list", "tunesmith org members list")
def list_members(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List members by name."""
    with Client(url) as client:
        found = client.listed("/organisation/members")
    if as_json:
        data_json(found)
        return
    rows = [(each["user"], each["role"], moment(each["created_at"])) for each in found]
    table(("USER", "ROLE", "CREATED"), rows, empty="No members are listed.")


@command(members, "add", "tunesmith org members add ana@example.org member")
def add_member(user: User, role: Role, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a user with a role, which then wins over that of the user's tokens."""
    with Client(url) as client:
        _tell_member(client.change("POST", "/organisation/members", {"user": user, "role": role}), as_json)


@command(members, "change", "tunesmith org members change ana@example.org viewer")
def change_member(user: User, role: Role, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Give a member another role. The last owner stays one."""
    with Client(url) as client:
        _tell_member(client.change("PUT", f"/organisation/members/{quote(user)}", {"role": role}), as_json)


@command(members, "remove", "tunesmith org members remove ana@example.org")
def remove_member(user: User, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Strike a member off and revoke the member's API keys."""
    with Client(url) as client:
        removed = client.change("DELETE", f"/organisation/members/{quote(user)}")
    if as_json:
        data_json(removed)
    else:
        say(f"{removed['id']} is no member any more.")


@command(projects, "list", "tunesmith org projects list")
def list_projects(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List projects by name."""
    with Client(url) as client:
        found = client.listed("/projects")
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "NAME", "CREATED", "ARCHIVED"),
        [(each["id"], each["name"], moment(each["created_at"]), moment(each["archived_at"])) for each in found],
        empty="No projects yet. Create one with `tunesmith org projects create NAME`.",
    )


@command(projects, "create", "tunesmith org projects create 'help desk'")
def create_project(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique within the organisation.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Create a project and print its id."""
    with Client(url) as client:
        project = client.change("POST", "/projects", {"name": name})
    data_json(project) if as_json else data(project["id"])


@command(projects, "archive", "tunesmith org projects archive proj_0123456789abcdef0123456789abcdef")
def archive_project(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the project.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Close a project for new jobs."""
    with Client(url) as client:
        project = client.change("POST", f"/projects/{quote(id, safe='')}/archive")
    if as_json:
        data_json(project)
    else:
        say(f"Project {project['name']} is archived.")


@command(keys, "list", "tunesmith org keys list")
def list_keys(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List API keys by their last letters, oldest first."""
    with Client(url) as client:
        found = client.listed("/keys")
    if as_json:
        data_json(found)
        return
    table(
        ("ID", "KEY", "NAME", "ROLE", "USER", "EXPIRES", "LAST USED", "REVOKED"),
        [
            (
                each["id"],
                f"…{each['last_four']}",
                each["name"],
                each["role"],
                each["user"] or "-",
                *(moment(each[at]) for at in ("expires_at", "last_used_at", "revoked_at")),
            )
            for each in found
        ],
        empty="The organisation has no keys.",
    )


@command(keys, "create", "tunesmith org keys create 'nightly run' member --days 30")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    role: Role,
    user: Annotated[str | None, typer.Option(metavar="USER", help="Whose it is. [a machine's]")] = None,
    project: Annotated[str | None, typer.Option(metavar="ID", help="The only project that it may work in.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="How long it is valid. [until it is revoked]")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once."""
    request: Json = {"name": name, "role": role, "user": user, "project": project}
    request["expires_at"] = time.time() + days * _DAY_SECONDS if days else None
    with Client(url) as client:
        key = client.change("POST", "/keys", request)
    say(f"Key {key['id']}, role {key['role']}. Keep it now: it is not shown again.")
    data_json(key) if as_json else data(key["key"])


@command(keys, "revoke", "tunesmith org keys revoke 0123456789abcdef0123456789abcdef")
def revoke_key(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """End an API key at once."""
    with Client(url) as client:
        key = client.change("DELETE", f"/keys/{quote(id, safe='')}")
    if as_json:
        data_json(key)
    else:
        say(f"Key {key['id']} is revoked.")


def _tell_member(member: Json, as_json: bool) -> None:
    if as_json:
        data_json(member)
    else:
        say(f"{member['user']} is {member['role']}.")
