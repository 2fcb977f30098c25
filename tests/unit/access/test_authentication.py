import pytest
from starlette.datastructures import Headers

from signed_tokens import AUDIENCE, ISSUER, SECRET, token
from tunesmith.access.authentication import Checked, Open
from tunesmith.access.caller import LOCAL, Role
from tunesmith.access.keys import ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.tokens import Tokens, TokenSettings
from tunesmith.spec.errors import UnauthenticatedError


@pytest.fixture
def organisations(database):
    return Organisations(database)


@pytest.fixture
def checked(database, organisations):
    tokens = Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET))
    return Checked(ApiKeys(database), tokens, organisations)


@pytest.fixture
def key(database):
    return ApiKeys(database).create("acme", name="nightly", role=Role.MEMBER)[1]


def bearer(credential):
    return {"authorization": f"Bearer {credential}"}


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer anything"}, {"authorization": "\x00"}])
def test_an_open_server_takes_everybody_for_the_local_organisation(headers):
    assert Open().caller(headers) == LOCAL


def test_a_key_is_taken_from_either_header(checked, key):
    for headers in (bearer(key), {"authorization": f"bearer  {key} "}, {"x-api-key": key}):
        assert checked.caller(headers).org == "acme"
    assert checked.caller(Headers({"Authorization": f"Bearer {key}"})).org == "acme"


def test_a_token_is_taken_too(checked):
    caller = checked.caller(bearer(token(role="owner")))
    assert (caller.org, caller.user, caller.role) == ("acme", "ada", Role.OWNER)


def test_a_wrong_authorization_is_not_made_good_by_the_other_header(checked, key):
    with pytest.raises(UnauthenticatedError):
        checked.caller({"authorization": "Bearer nonsense", "x-api-key": key})


def test_the_organisation_of_a_valid_token_is_created_on_first_use(checked, organisations):
    with pytest.raises(UnauthenticatedError):
        checked.caller(bearer(token(b"another secret of thirty-two bytes!!", org="new-org")))
    assert organisations.listed() == []
    checked.caller(bearer(token(org="new-org")))
    assert [each.id for each in organisations.listed()] == ["new-org"]


def test_the_list_of_members_wins_over_the_tokens_role(checked, organisations):
    organisations.add_member("acme", "ada", Role.VIEWER)
    assert checked.caller(bearer(token(role="owner"))).role is Role.VIEWER
    assert checked.caller(bearer(token(role="owner", sub="bob"))).role is Role.OWNER
    assert checked.caller(bearer(token(role="owner", org="other"))).role is Role.OWNER


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic YWRhOnNlY3JldA=="},
        {"authorization": "Bearer two words"},
        {"authorization": "Bearer \x00"},
        {"authorization": "Bearer ts_\xff\xfe"},
        {"authorization": "Bearer ts_\udcff"},
        {"authorization": "Bearer ts_unknown"},
        {"authorization": "Bearer sk-somebody-elses"},
        {"authorization": "Bearer " + "x" * 100_000},
        {"authorization": "Bearer ts_" + "x" * 100_000},
        {"x-api-key": "ts_unknown"},
        {"x-api-key": " "},
    ],
)
def test_a_refusal_says_what_is_accepted_and_never_what_was_sent(checked, headers):
    with pytest.raises(UnauthenticatedError) as refused:
        checked.caller(headers)
    told = refused.value.info.sentence()
    assert "API key (ts_…) or a token (JWT)" in told
    assert len(told) < 250
    for secret in ("unknown-", "somebody", "YWRh", "words", "xxx"):
        assert secret not in told


def test_a_server_without_tokens_asks_for_keys_only(database, organisations, key):
    checked = Checked(ApiKeys(database), None, organisations)
    assert checked.caller(bearer(key)).org == "acme"
    with pytest.raises(UnauthenticatedError) as refused:
        checked.caller(bearer(token()))
    assert "JWT" not in refused.value.info.sentence()
