"""The operator's commands on a home that no server uses."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from tunesmith.access.authentication import Checked
from tunesmith.access.caller import Role
from tunesmith.access.keys import ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.secrets import open_secrets
from tunesmith.cli import access
from tunesmith.cli.commands import group
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.server.home import Home, HomeLock
from tunesmith.spec.errors import UnauthenticatedError


@pytest.fixture
def home(database, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    return Home(tmp_path)


def run(*arguments):
    app = group("Commands.")
    app.add_typer(access.keys, name="keys")
    app.add_typer(access.secrets, name="secrets")
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, CommandError):
        raise done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_the_first_key_opens_a_server_that_asks_for_credentials(home, database):
    done = run("keys", "create", "--org", "acme", "--role", "owner")
    [plaintext] = done.stdout.splitlines()
    checked = Checked(ApiKeys(database), None, Organisations(database))
    caller = checked.caller({"authorization": f"Bearer {plaintext}"})
    assert (caller.org, caller.role) == ("acme", Role.OWNER)
    assert plaintext not in done.stderr
    assert [each.id for each in Organisations(database).listed()] == ["acme"]


def test_a_key_can_have_a_name_a_user_and_an_end(home, database):
    run("keys", "create", "--org", "acme", "--name", "nightly", "--user", "ada", "--days", "30")
    [key] = ApiKeys(database).listed("acme")
    assert (key.name, key.user, key.role) == ("nightly", "ada", "member")
    assert round((key.expires_at - key.created_at) / 86400) == 30


def test_json_has_the_key_once(home):
    made = json.loads(run("keys", "create", "--org", "acme", "--json").stdout)
    [listed] = json.loads(run("keys", "list", "--org", "acme", "--json").stdout)
    assert made["key"].endswith(listed["last_four"])
    assert "key" not in listed


def test_a_list_shows_the_last_letters(home):
    made = json.loads(run("keys", "create", "--org", "acme", "--json").stdout)
    shown = run("keys", "list", "--org", "acme").stdout
    assert f"ts_…{made['last_four']}" in shown
    assert made["key"] not in shown


def test_a_revoked_key_opens_nothing(home, database):
    made = json.loads(run("keys", "create", "--org", "acme", "--json").stdout)
    run("keys", "revoke", made["id"], "--org", "acme")
    with pytest.raises(UnauthenticatedError):
        ApiKeys(database).caller(made["key"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("revoke", "f" * 32, "--org", "acme"), ExitCode.NOT_FOUND),
        (("create", "--org", "a/b"), ExitCode.USAGE),
        (("create", "--org", "acme", "--role", "admin"), ExitCode.USAGE),
        (("create", "--org", "acme", "--project", "proj_0"), ExitCode.NOT_FOUND),
    ],
)
def test_a_mistake_ends_with_its_code(home, arguments, code):
    with pytest.raises(CommandError) as ended:
        run("keys", *arguments)
    assert ended.value.code == code


@pytest.mark.parametrize(
    "arguments", [("keys", "create", "--org", "acme"), ("keys", "list", "--org", "acme"), ("secrets", "rotate")]
)
def test_a_home_that_a_server_holds_is_left_alone(home, arguments):
    with HomeLock(home), pytest.raises(CommandError) as ended:
        run(*arguments)
    assert "in use by another server" in ended.value.message
    assert "API" in ended.value.hint
    assert not home.keys.exists()


def test_secrets_are_encrypted_with_a_new_key(home, database):
    before = open_secrets(database, home.keys)
    id = before.put_for_request("acme", "hub", {"token": "canary"})
    assert "new key: 1." in run("secrets", "rotate").stderr
    assert [file.name for file in home.keys.iterdir()] == ["0002.key"]
    after = open_secrets(database, home.keys)
    assert after.reveal("acme", id, purpose="hub", host=None)["token"] == "canary"
    assert json.loads(run("secrets", "rotate", "--json").stdout) == {"secrets": 1}


def test_a_rotation_without_the_keys_says_what_is_missing(home, database):
    open_secrets(database, home.keys).put_for_request("acme", "hub", {"token": "canary"})
    shutil.rmtree(home.keys)
    with pytest.raises(CommandError, match="missing") as ended:
        run("secrets", "rotate")
    assert "backup" in ended.value.hint
