import json
import threading

import pytest

from signed_tokens import AUDIENCE, ISSUER, ec_key, public_ec, public_rsa, rsa_key, token
from tunesmith.access.signing_keys import SigningKeys
from tunesmith.access.tokens import Tokens, TokenSettings
from tunesmith.spec.errors import SettingsError, UnauthenticatedError, UnavailableError

OLD = public_rsa(rsa_key("old"), "old")
NEW = public_rsa(rsa_key("new"), "new")


def test_a_token_is_checked_with_a_key_from_an_address(key_set_server):
    key_set_server.publish(OLD)
    tokens = Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, jwks=key_set_server.url))
    assert tokens.claims(token(rsa_key("old"), "RS256", "old")).user == "ada"
    with pytest.raises(UnauthenticatedError):
        tokens.claims(token(rsa_key("new"), "RS256", "new"))


def test_keys_are_read_once_and_kept(key_set_server, clock):
    key_set_server.publish(OLD)
    keys = SigningKeys(key_set_server.url, clock)
    for _ in range(20):
        assert keys.find("old") is not None
    assert key_set_server.requests == 1


def test_a_new_key_is_found_when_a_token_names_it(key_set_server, clock):
    key_set_server.publish(OLD)
    keys = SigningKeys(key_set_server.url, clock)
    assert keys.find("old") is not None
    key_set_server.publish(OLD, NEW)
    clock.now += 31
    assert keys.find("new") is not None
    assert key_set_server.requests == 2


def test_unknown_keys_do_not_cause_a_request_each(key_set_server, clock):
    key_set_server.publish(OLD)
    keys = SigningKeys(key_set_server.url, clock)
    for number in range(100):
        clock.now += 1
        assert keys.find(f"unknown-{number}") is None
    assert key_set_server.requests <= 5


def test_an_unknown_key_that_is_looked_for_does_not_hold_up_the_known_ones(key_set_server, clock):
    key_set_server.publish(OLD)
    keys = SigningKeys(key_set_server.url, clock)
    assert keys.find("old") is not None
    clock.now += 31
    key_set_server.asked.clear()
    key_set_server.may_answer.clear()
    stranger = threading.Thread(target=keys.find, args=("unknown",))
    stranger.start()
    assert key_set_server.asked.wait(10)
    assert keys.find("old") is not None
    with pytest.raises(UnavailableError, match="just being read"):
        keys.find("new")
    assert stranger.is_alive()
    key_set_server.may_answer.set()
    stranger.join()
    assert key_set_server.requests == 2


def test_the_first_tokens_wait_for_the_first_reading_together(key_set_server, clock):
    key_set_server.publish(OLD)
    key_set_server.may_answer.clear()
    keys = SigningKeys(key_set_server.url, clock)
    found = []
    threads = [threading.Thread(target=lambda: found.append(keys.find("old"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert key_set_server.asked.wait(10)
    key_set_server.may_answer.set()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert None not in found
    assert key_set_server.requests == 1


def test_a_withdrawn_key_is_dropped_within_minutes(key_set_server, clock):
    key_set_server.publish(OLD, NEW)
    keys = SigningKeys(key_set_server.url, clock)
    assert keys.find("old") is not None
    key_set_server.publish(NEW)
    clock.now += 299
    assert keys.find("old") is not None
    clock.now += 1
    assert keys.find("old") is None


def test_an_outage_of_the_issuer_locks_nobody_out_at_once(key_set_server, clock):
    key_set_server.publish(OLD)
    keys = SigningKeys(key_set_server.url, clock)
    assert keys.find("old") is not None
    key_set_server.status = 503
    clock.now += 3599
    assert keys.find("old") is not None
    clock.now += 1
    with pytest.raises(UnavailableError):
        keys.find("old")
    key_set_server.status = 200
    clock.now += 30
    assert keys.find("old") is not None


def test_while_an_address_does_not_answer_it_is_asked_rarely(key_set_server, clock):
    key_set_server.status = 500
    keys = SigningKeys(key_set_server.url, clock)
    for _ in range(10):
        with pytest.raises(UnavailableError):
            keys.find("old")
    assert key_set_server.requests == 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"{", b'{"keys": 5}', b'{"keys": []}', b"[" * 5000, b"x" * 2**21]
)
def test_an_answer_that_is_no_key_set_is_refused(key_set_server, clock, content):
    key_set_server.content = content
    with pytest.raises(UnavailableError):
        SigningKeys(key_set_server.url, clock).find("old")


def test_redirects_are_not_followed(key_set_server, clock):
    key_set_server.publish(OLD)
    key_set_server.status = 302
    key_set_server.headers = {"Location": key_set_server.url}
    with pytest.raises(UnavailableError):
        SigningKeys(key_set_server.url, clock).find("old")
    assert key_set_server.requests == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "x"},
        {**OLD, "kid": "x", "use": "enc"},
        {**OLD, "kid": "x", "alg": "RS512"},
        {**OLD, "kid": "x", "alg": "HS256"},
        {**OLD, "kid": 7},
        {name: value for name, value in OLD.items() if name != "kid"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!", "kid": "x"},
        "nonsense",
    ],
)
def test_keys_that_tokens_cannot_be_signed_with_are_passed_over(tmp_path, clock, entry):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [entry, public_ec(ec_key(), "good")]}))
    keys = SigningKeys(str(file), clock)
    assert keys.find("x") is None
    assert keys.find("good").algorithm_name == "ES256"


def test_a_changed_file_is_read_again(tmp_path, clock):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [OLD]}))
    keys = SigningKeys(str(file), clock)
    file.write_text(json.dumps({"keys": [NEW]}))
    clock.now += 30
    assert keys.find("new") is not None


@pytest.mark.parametrize("content", [None, "nonsense", '{"keys": []}'])
def test_a_file_without_keys_stops_the_start(tmp_path, content):
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"keys\.json"):
        SigningKeys(str(file))


@pytest.mark.parametrize(
    "address",
    [
        "http://login.example.org/keys",
        "ftp://127.0.0.1/keys",
        "https://user:pw@login.example.org/keys",
        "https:///keys",
    ],
)
def test_an_address_that_anybody_could_answer_for_stops_the_start(address):
    with pytest.raises(SettingsError) as refused:
        SigningKeys(address)
    assert refused.value.param == "token_jwks"
    assert "pw" not in refused.value.info.sentence()
