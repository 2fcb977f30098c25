"""Commands against a server that asks for an API key."""

import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def keys(shell_for, home):
    """A key of each role, made before the server starts."""
    offline = shell_for("http://127.0.0.1:9")
    made = {}
    for role in ("owner", "viewer"):
        done = offline.run("keys", "create", "--org", "acme", "--role", role, "--home", home)
        assert done.code == 0, done.err
        made[role] = done.out.strip()
    return made


@pytest.fixture(scope="module")
def server(start_server, home, keys):
    return start_server(home, TUNESMITH_AUTHENTICATION="required", TUNESMITH_WARM_WORKERS="false")


@pytest.fixture
def shell(server, shell_for):
    return shell_for(server.url)


def test_without_a_key_the_variable_is_named(shell):
    done = shell.run("jobs", "list")
    assert (done.code, done.out) == (3, "")
    assert "TUNESMITH_API_KEY" in done.err


def test_the_key_of_the_environment_is_sent(shell, keys):
    done = shell.run("org", "show", TUNESMITH_API_KEY=keys["owner"])
    assert done.code == 0
    assert "acme" in done.out


@pytest.mark.parametrize("key", ["ts_unknown", "two words", "ts_\u00e4", "ts_\nX-Other: header"])
def test_a_key_that_is_refused_is_not_repeated(shell, key):
    done = shell.run("jobs", "list", TUNESMITH_API_KEY=key)
    assert done.code in (2, 3)
    assert key not in done.out + done.err


def test_a_viewer_may_look_and_nothing_else(shell, keys):
    assert shell.run("jobs", "list", TUNESMITH_API_KEY=keys["viewer"]).code == 0
    done = shell.run("org", "members", "add", "ana", "member", TUNESMITH_API_KEY=keys["viewer"])
    assert done.code == 3
    assert "viewer" in done.err


def test_an_owner_manages_members(shell, keys):
    def run(*arguments):
        return shell.run("org", "members", *arguments, TUNESMITH_API_KEY=keys["owner"])

    assert run("add", "ana/of acme", "owner").err == "ana/of acme is owner.\n"
    assert run("add", "bo", "member").code == 0
    assert run("change", "bo", "viewer", "--json").json["role"] == "viewer"
    assert run("change", "ana/of acme", "viewer").code == 5  # the last owner
    assert run("remove", "bo").code == 0
    assert [each["user"] for each in run("list", "--json").json] == ["ana/of acme"]


def test_a_key_is_shown_once_and_revoked(shell, keys):
    owner = {"TUNESMITH_API_KEY": keys["owner"]}
    made = shell.run("org", "keys", "create", "nightly", "viewer", "--days", "1", "--json", **owner).json
    assert made["key"].startswith("ts_")
    assert made["expires_at"] > made["created_at"]
    assert shell.run("jobs", "list", TUNESMITH_API_KEY=made["key"]).code == 0

    listed = shell.run("org", "keys", "list", **owner)
    assert made["id"] in listed.out
    assert made["key"] not in listed.out

    assert shell.run("org", "keys", "revoke", made["id"], **owner).code == 0
    assert shell.run("jobs", "list", TUNESMITH_API_KEY=made["key"]).code == 3
