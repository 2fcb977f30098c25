"""Rows of organisations, API keys and secrets."""

import pytest
from sqlalchemy.exc import IntegrityError

from tunesmith.store import api_keys, organisations, secrets
from tunesmith.store.api_keys import ApiKey
from tunesmith.store.database import Database
from tunesmith.store.secrets import Secret


@pytest.fixture
def connection(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    with database.write() as connection:
        yield connection
    database.close()


def key(id, **changes):
    values = {"org": "acme", "name": "n", "role": "member", "user": None, "project": None, "last_four": "abcd"}
    times = {"created_at": 1.0, "expires_at": None, "last_used_at": None, "revoked_at": None}
    return ApiKey(**{"id": id, **values, **times, **changes})


def secret(id, **changes):
    values = {"org": "acme", "name": None, "purpose": "hub", "host": None, "field_names": ("token",)}
    return Secret(**{"id": id, **values, "created_at": 1.0, "updated_at": 1.0, **changes})


def test_organisations_are_listed_by_id(connection):
    for id in ("b", "a"):
        organisations.add(connection, id, id.upper(), 1.0)
    assert [each.id for each in organisations.all_by_id(connection)] == ["a", "b"]
    assert organisations.get(connection, "a").name == "A"
    assert organisations.get(connection, "c") is None


def test_members_belong_to_one_organisation(connection):
    ada = organisations.add_member(connection, "acme", "ada", "owner", 1.0)
    organisations.add_member(connection, "other", "ada", "viewer", 1.0)
    assert organisations.count_owners(connection, "acme") == 1
    assert organisations.change_member(connection, ada, "member") == organisations.member(connection, "acme", "ada")
    assert organisations.count_owners(connection, "acme") == 0
    organisations.remove_member(connection, ada)
    assert organisations.members_of(connection, "acme") == []
    assert organisations.member(connection, "other", "ada").role == "viewer"


def test_projects_belong_to_one_organisation(connection):
    made = organisations.add_project(connection, "acme", "proj_1", "Support", 1.0)
    assert organisations.project(connection, "other", "proj_1") is None
    assert organisations.archive_project(connection, made, 2.0) == organisations.project(connection, "acme", "proj_1")
    assert [each.archived_at for each in organisations.projects_of(connection, "acme")] == [2.0]
    with pytest.raises(IntegrityError):
        organisations.add_project(connection, "acme", "proj_2", "Support", 1.0)


def test_a_key_is_found_by_its_digest_and_only_listed_for_its_organisation(connection):
    api_keys.add(connection, key("k1", user="ada"), "d1")
    api_keys.add(connection, key("k2", org="other", user="ada"), "d2")
    assert api_keys.by_digest(connection, "d2").id == "k2"
    assert api_keys.by_digest(connection, "d3") is None
    assert api_keys.get(connection, "acme", "k2") is None
    assert [each.id for each in api_keys.of_org(connection, "acme")] == ["k1"]
    with pytest.raises(IntegrityError):
        api_keys.add(connection, key("k3"), "d1")


def test_the_keys_of_a_user_are_revoked_in_one_organisation(connection):
    api_keys.add(connection, key("k1", user="ada"), "d1")
    api_keys.add(connection, key("k2", user="ada", revoked_at=5.0), "d2")
    api_keys.add(connection, key("k3", user="bob"), "d3")
    api_keys.add(connection, key("k4", org="other", user="ada"), "d4")
    api_keys.revoke_of_user(connection, "acme", "ada", 9.0)
    revoked = {digest: api_keys.by_digest(connection, digest).revoked_at for digest in ("d1", "d2", "d3", "d4")}
    assert revoked == {"d1": 9.0, "d2": 5.0, "d3": None, "d4": None}


def test_a_secrets_record_has_no_fields(connection):
    secrets.add(connection, secret("s1", name="hub"), b"sealed")
    secrets.add(connection, secret("s2"), b"other")
    assert secrets.get(connection, "acme", "s1") == secret("s1", name="hub")
    assert secrets.get(connection, "other", "s1") is None
    assert secrets.by_name(connection, "acme", "hub").id == "s1"
    assert secrets.by_name(connection, "other", "hub") is None
    assert [each.id for each in secrets.named(connection, "acme")] == ["s1"]
    assert secrets.all_sealed(connection) == {"s1": b"sealed", "s2": b"other"}
    secrets.change(connection, "s1", sealed=b"again")
    assert secrets.sealed(connection, "s1") == b"again"
    secrets.remove(connection, "s1")
    assert secrets.get(connection, "acme", "s1") is None


def test_a_name_is_given_once_and_no_name_often(connection):
    for id in ("s1", "s2"):
        secrets.add(connection, secret(id), b"")
    secrets.add(connection, secret("s3", name="hub"), b"")
    secrets.add(connection, secret("s4", name="hub", org="other"), b"")
    with pytest.raises(IntegrityError):
        secrets.add(connection, secret("s5", name="hub"), b"")
