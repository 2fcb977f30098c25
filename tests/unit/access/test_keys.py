import sqlite3
import threading

import pytest

from tunesmith.access.caller import Role
from tunesmith.access.keys import PREFIX, ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.spec.errors import (
    ApiKeyNotFoundError,
    ConflictError,
    InvalidRequestError,
    ProjectNotFoundError,
    UnauthenticatedError,
)


@pytest.fixture
def keys(database, clock):
    return ApiKeys(database, clock)


def test_a_key_tells_whose_it_is(keys):
    key, plaintext = keys.create("acme", name="nightly", role=Role.VIEWER, user="ada")
    caller = keys.caller(plaintext)
    assert (caller.org, caller.user, caller.role, caller.project) == ("acme", "ada", Role.VIEWER, None)
    assert plaintext.startswith(PREFIX)
    assert len(plaintext) == len(PREFIX) + 43  # 256 bits in base64
    assert key.last_four == plaintext[-4:]


def test_two_keys_are_never_the_same(keys):
    made = {keys.create("acme", name="n", role=Role.MEMBER)[1] for _ in range(50)}
    assert len(made) == 50


def test_the_database_holds_no_key(keys, tmp_path):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    contents = b"".join(file.read_bytes() for file in tmp_path.glob("tunesmith.db*"))
    assert b"nightly" in contents
    assert plaintext.encode() not in contents
    assert plaintext[len(PREFIX) : -4].encode() not in contents


def test_the_list_shows_the_last_letters_only(keys):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    [listed] = keys.listed("acme")
    assert plaintext[:-4] not in listed.model_dump_json()
    assert keys.listed("other") == []


@pytest.mark.parametrize("change", ["x", "", PREFIX + "A" * 43])
def test_an_unknown_key_is_refused_without_repeating_it(keys, change):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    given = change if change.startswith(PREFIX) else plaintext[:-1] + change
    with pytest.raises(UnauthenticatedError) as refused:
        keys.caller(given)
    assert given not in refused.value.info.sentence()


def test_a_revoked_key_is_refused_at_once_and_revoking_again_changes_nothing(keys, clock):
    key, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    first = keys.revoke("acme", key.id)
    clock.now += 5
    assert keys.revoke("acme", key.id) == first
    with pytest.raises(UnauthenticatedError, match="revoked"):
        keys.caller(plaintext)


def test_a_key_ends_at_its_time(keys, clock):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER, expires_at=clock.now + 60)
    clock.now += 59
    assert keys.caller(plaintext).org == "acme"
    clock.now += 1
    with pytest.raises(UnauthenticatedError, match="expired"):
        keys.caller(plaintext)


def test_a_key_of_another_organisation_is_as_unknown_as_none(keys):
    key, _ = keys.create("acme", name="nightly", role=Role.MEMBER)
    messages = []
    for id in (key.id, "f" * 32):
        with pytest.raises(ApiKeyNotFoundError) as refused:
            keys.revoke("other", id)
        messages.append(refused.value.info.sentence().replace(id, ""))
    assert messages[0] == messages[1]
    assert keys.listed("acme")[0].revoked_at is None


def test_its_last_use_is_noted_once_a_minute(keys, clock, database):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    assert keys.listed("acme")[0].last_used_at is None
    begin = clock.now
    for _ in range(90):
        keys.caller(plaintext)
        clock.now += 1
    assert keys.listed("acme")[0].last_used_at == begin + 60


def test_a_full_disk_keeps_nobody_out(keys, database):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    with database.write() as connection:
        connection.exec_driver_sql("create table room (used blob)")
        connection.exec_driver_sql(
            "create trigger filled after update on api_keys begin insert into room values (zeroblob(1000000)); end"
        )
        pages = connection.exec_driver_sql("pragma page_count").scalar()
        connection.exec_driver_sql(f"pragma max_page_count = {pages}")
    assert keys.caller(plaintext).org == "acme"
    assert keys.listed("acme")[0].last_used_at is None


def test_a_members_key_may_never_do_more_than_the_member(keys, database):
    _, plaintext = keys.create("acme", name="nightly", role=Role.OWNER, user="ada")
    people = Organisations(database)
    people.add_member("acme", "ada", Role.MEMBER)
    assert keys.caller(plaintext).role is Role.MEMBER
    people.change_member("acme", "ada", Role.VIEWER)
    assert keys.caller(plaintext).role is Role.VIEWER
    people.change_member("acme", "ada", Role.OWNER)
    _, lesser = keys.create("acme", name="reader", role=Role.VIEWER, user="ada")
    assert keys.caller(lesser).role is Role.VIEWER


def test_the_keys_of_a_removed_member_are_revoked(keys, database):
    people = Organisations(database)
    people.add_member("acme", "ada", Role.MEMBER)
    people.add_member("other", "ada", Role.MEMBER)
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER, user="ada")
    _, elsewhere = keys.create("other", name="nightly", role=Role.MEMBER, user="ada")
    people.remove_member("acme", "ada")
    with pytest.raises(UnauthenticatedError, match="revoked"):
        keys.caller(plaintext)
    assert keys.caller(elsewhere).org == "other"


def test_a_key_may_be_bound_to_a_project(keys, database):
    project = Organisations(database).create_project("acme", "support")
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER, project=project.id)
    assert keys.caller(plaintext).project == project.id
    with pytest.raises(ProjectNotFoundError):
        keys.create("other", name="nightly", role=Role.MEMBER, project=project.id)
    Organisations(database).archive_project("acme", project.id)
    with pytest.raises(ConflictError):
        keys.create("acme", name="nightly", role=Role.MEMBER, project=project.id)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": " "}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"user": ""}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"expires_at": 1.0}, "expires_at"),
        ({"expires_at": float("nan")}, "expires_at"),
        ({"expires_at": float("inf")}, "expires_at"),
        ({"role": Role.OWNER, "project": "proj_1"}, "role"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_its_field(keys, changes, param):
    with pytest.raises(InvalidRequestError) as refused:
        keys.create("acme", **{"name": "nightly", "role": Role.MEMBER, **changes})
    assert refused.value.param == param
    assert keys.listed("acme") == []


def test_many_callers_at_once_are_all_known(keys):
    _, plaintext = keys.create("acme", name="nightly", role=Role.MEMBER)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(keys.caller(plaintext).org)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["acme"] * 16


def test_keys_are_found_by_their_digest_through_an_index(tmp_path, database):
    with sqlite3.connect(tmp_path / "tunesmith.db") as connection:
        plan = connection.execute("explain query plan select * from api_keys where digest = 'x'").fetchall()
    assert "USING INDEX" in plan[0][3]
