import threading

import pytest

from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.access.organisations import Organisations
from tunesmith.spec.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    OrganisationNotFoundError,
    ProjectNotFoundError,
)

ADA = Caller(org="acme", user="ada", role=Role.OWNER)


@pytest.fixture
def organisations(database):
    return Organisations(database)


def test_an_organisation_is_created_once(organisations):
    made = organisations.create("acme", "Acme Corporation")
    assert organisations.get(ADA, "acme") == made
    with pytest.raises(ConflictError):
        organisations.create("acme", "Again")
    assert [each.id for each in organisations.listed()] == ["acme"]


def test_another_organisation_reads_like_one_that_does_not_exist(organisations):
    organisations.create("other", "Other")
    told = []
    for id in ("other", "nobody"):
        with pytest.raises(OrganisationNotFoundError) as refused:
            organisations.get(ADA, id)
        told.append(refused.value.info.sentence().replace(id, ""))
    assert told[0] == told[1]


@pytest.mark.parametrize("id", ["", ".", "..", "-x", "a/b", "a b", "ä", "a" * 65, "a\n"])
def test_an_id_that_is_not_plain_is_refused(organisations, id):
    for make in (organisations.ensure, lambda given: organisations.create(given, "Name")):
        with pytest.raises(InvalidRequestError) as refused:
            make(id)
        assert refused.value.param == "id"


@pytest.mark.parametrize("id", ["local", "0b8e6a2e-5f0c-4a3b-9d1f-6f7a8b9c0d1e", "a.b_c-d", "a" * 64])
def test_a_plain_id_is_kept_as_it_is(organisations, id):
    assert organisations.ensure(id).id == id
    assert organisations.ensure(id) == organisations.ensure(id)


def test_many_first_uses_at_once_make_one_organisation(organisations):
    made = []
    threads = [threading.Thread(target=lambda: made.append(organisations.ensure("acme"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16
    assert len(organisations.listed()) == 1


# --- members ---------------------------------------------------------------------------------------------------------


def test_members_are_added_changed_and_removed(organisations):
    organisations.add_member("acme", "ada", Role.OWNER)
    organisations.add_member("acme", "bob", Role.VIEWER)
    organisations.change_member("acme", "bob", Role.MEMBER)
    assert [(each.user, each.role) for each in organisations.members("acme")] == [("ada", "owner"), ("bob", "member")]
    assert organisations.role_of("acme", "bob") is Role.MEMBER
    assert organisations.role_of("other", "bob") is None
    organisations.remove_member("acme", "bob")
    assert organisations.role_of("acme", "bob") is None


def test_the_last_owner_stays(organisations):
    organisations.add_member("acme", "ada", Role.OWNER)
    organisations.add_member("acme", "bob", Role.MEMBER)
    organisations.add_member("other", "eve", Role.OWNER)
    with pytest.raises(ConflictError, match="last owner"):
        organisations.remove_member("acme", "ada")
    with pytest.raises(ConflictError, match="last owner"):
        organisations.change_member("acme", "ada", Role.MEMBER)
    organisations.change_member("acme", "ada", Role.OWNER)
    organisations.change_member("acme", "bob", Role.OWNER)
    organisations.remove_member("acme", "ada")
    assert [each.user for each in organisations.members("acme")] == ["bob"]


def test_two_owners_cannot_remove_each_other_at_once(organisations):
    organisations.add_member("acme", "ada", Role.OWNER)
    organisations.add_member("acme", "bob", Role.OWNER)
    refused = []

    def remove(user):
        try:
            organisations.remove_member("acme", user)
        except ConflictError as error:
            refused.append(error)

    threads = [threading.Thread(target=remove, args=(user,)) for user in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert len(organisations.members("acme")) == 1


def test_a_member_is_listed_once(organisations):
    organisations.add_member("acme", "ada", Role.OWNER)
    with pytest.raises(ConflictError):
        organisations.add_member("acme", "ada", Role.VIEWER)
    assert organisations.role_of("acme", "ada") is Role.OWNER


@pytest.mark.parametrize("user", ["", "a" * 256, "a\x00b", "a\nb"])
def test_a_user_that_cannot_be_is_refused(organisations, user):
    with pytest.raises(InvalidRequestError):
        organisations.add_member("acme", user, Role.MEMBER)


def test_a_member_of_another_organisation_is_unknown(organisations):
    organisations.add_member("other", "eve", Role.MEMBER)
    for act in (organisations.remove_member, lambda org, user: organisations.change_member(org, user, Role.OWNER)):
        with pytest.raises(NotFoundError):
            act("acme", "eve")
    assert organisations.role_of("other", "eve") is Role.MEMBER


# --- projects --------------------------------------------------------------------------------------------------------


def test_projects_are_made_listed_and_archived(organisations):
    made = organisations.create_project("acme", "Support")
    assert made.id.startswith("proj_")
    assert organisations.project("acme", made.id) == made
    archived = organisations.archive_project("acme", made.id)
    assert archived.archived_at is not None
    assert organisations.archive_project("acme", made.id) == archived
    assert organisations.projects("acme") == [archived]


def test_a_projects_name_is_unique_in_its_organisation(organisations):
    organisations.create_project("acme", "Support")
    organisations.create_project("other", "Support")
    with pytest.raises(ConflictError):
        organisations.create_project("acme", "Support")


def test_a_project_of_another_organisation_is_as_unknown_as_none(organisations):
    made = organisations.create_project("other", "Support")
    told = []
    for id in (made.id, "proj_0"):
        for act in (organisations.project, organisations.archive_project):
            with pytest.raises(ProjectNotFoundError) as refused:
                act("acme", id)
            told.append(refused.value.info.sentence().replace(id, ""))
    assert len(set(told)) == 1
    assert organisations.project("other", made.id).archived_at is None


def test_a_caller_may_name_the_projects_that_it_may_work_in(organisations):
    one, two = organisations.create_project("acme", "One"), organisations.create_project("acme", "Two")
    foreign = organisations.create_project("other", "Three")
    organisations.archive_project("acme", two.id)
    bound = ADA.model_copy(update={"project": two.id})
    for door in (organisations.require_project, organisations.require_open_project):
        door(ADA, one.id, param="project")
        door(LOCAL, "any text", param="project")
        told = set()
        for caller, id in ((ADA, foreign.id), (ADA, "proj_0"), (bound, one.id)):
            with pytest.raises(ProjectNotFoundError) as refused:
                door(caller, id, param="filter.project")
            assert refused.value.param == "filter.project"
            told.add(refused.value.info.sentence().replace(id, ""))
        assert len(told) == 1
    organisations.require_project(bound, two.id, param="project")
    with pytest.raises(ConflictError, match="is archived"):
        organisations.require_open_project(bound, two.id, param="project")


@pytest.mark.parametrize("name", ["", "  ", "n" * 129, "a\x1b[0m"])
def test_a_name_that_cannot_be_is_refused(organisations, name):
    with pytest.raises(InvalidRequestError):
        organisations.create_project("acme", name)
