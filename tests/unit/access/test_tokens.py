import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from signed_tokens import AUDIENCE, ISSUER, SECRET, ec_key, payload, public_ec, public_rsa, rsa_key, token
from tunesmith.access.caller import Role
from tunesmith.access.tokens import MAX_TOKEN_BYTES, Tokens, TokenSettings
from tunesmith.spec.errors import SettingsError, UnauthenticatedError


@pytest.fixture
def tokens():
    return Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET))


@pytest.fixture
def published(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [public_rsa(rsa_key(), "r"), public_ec(ec_key(), "e")]}))
    return Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(file)))


def refusal(tokens, given):
    with pytest.raises(UnauthenticatedError) as refused:
        tokens.claims(given)
    assert given not in refused.value.info.sentence()
    return refused.value.message


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# --- valid ones ------------------------------------------------------------------------------------------------------


def test_a_token_signed_with_the_secret_tells_organisation_user_and_role(tokens):
    claims = tokens.claims(token(role="viewer"))
    assert (claims.org, claims.user, claims.role) == ("acme", "ada", Role.VIEWER)


def test_a_token_without_a_role_is_a_members(tokens):
    assert tokens.claims(token()).role is Role.MEMBER


def test_a_token_without_a_subject_is_nobodys(tokens):
    assert tokens.claims(token(sub=None)).user is None


def test_the_organisation_may_stand_in_org_id(tokens):
    assert tokens.claims(token(org=None, org_id="0b8e6a2e-5f0c-4a3b-9d1f-6f7a8b9c0d1e")).org.startswith("0b8e6a2e")


def test_the_audience_may_be_one_of_several(tokens):
    assert tokens.claims(token(aud=["elsewhere", AUDIENCE])).org == "acme"


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(rsa_key(), "RS256", "r"), (ec_key(), "ES256", "e")])
def test_a_token_signed_with_a_published_key_is_valid(published, key, algorithm, kid):
    assert published.claims(token(key, algorithm, kid)).org == "acme"


def test_clocks_may_differ_by_some_seconds(tokens):
    now = int(time.time())
    assert tokens.claims(token(exp=now - 10, nbf=now + 10, iat=now + 10)).org == "acme"


# --- forged ones -----------------------------------------------------------------------------------------------------


def test_another_secret_forges_nothing(tokens):
    assert "signature" in refusal(tokens, token(b"another secret of thirty-two bytes!!"))


def test_a_changed_claim_breaks_the_signature(tokens):
    head, _, signature = token().split(".")
    assert "signature" in refusal(tokens, f"{head}.{part(payload(role='owner'))}.{signature}")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("which", ["tokens", "published"])
def test_a_token_without_a_signature_is_refused_however_none_is_spelled(request, which, name):
    forged = f"{part({'alg': name, 'typ': 'JWT', 'kid': 'r'})}.{part(payload())}."
    assert "algorithm" in refusal(request.getfixturevalue(which), forged)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize(("key", "kid"), [(rsa_key(), "r"), (ec_key(), "e")])
def test_a_public_key_is_no_secret_for_hs256(published, key, kid, encoding):
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(payload())}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert "algorithm" in refusal(published, f"{signed}.{signature}")


def test_a_token_of_another_algorithm_is_refused_although_its_key_is_the_right_one(published, tokens):
    assert "algorithm" in refusal(published, token(rsa_key(), "RS512", "r"))
    assert "algorithm" in refusal(published, token(rsa_key(), "PS256", "r"))
    assert "algorithm" in refusal(tokens, token(SECRET * 2, "HS512"))


def test_a_key_of_one_type_does_not_sign_for_another(published):
    assert "algorithm" in refusal(published, token(ec_key(), "ES256", "r"))


def test_an_unpublished_key_with_a_published_id_is_refused(published):
    assert "signature" in refusal(published, token(rsa_key("other"), "RS256", "r"))


@pytest.mark.parametrize("kid", [None, "unknown", "../../etc/passwd"])
def test_a_token_that_names_no_published_key_is_refused(published, kid):
    assert "kid" in refusal(published, token(rsa_key(), "RS256", kid))


def test_keys_and_addresses_inside_a_token_are_not_looked_at(published):
    mallory = rsa_key("other")
    headers = {"kid": "m", "jwk": public_rsa(mallory, "m"), "jku": "http://127.0.0.1:9/keys"}
    assert "kid" in refusal(published, jwt.encode(payload(), mallory, "RS256", headers=headers))


def test_a_critical_extension_that_nobody_knows_is_refused(tokens):
    forged = jwt.encode(payload(), SECRET, "HS256", headers={"crit": ["exotic"], "exotic": 1})
    assert refusal(tokens, forged) == "The token is malformed."


def test_a_weak_key_is_refused_although_it_was_published(tmp_path):
    weak = rsa_key("weak", 1024)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [public_rsa(weak, "w")]}))
    signed = part({"alg": "RS256", "kid": "w"}) + "." + part(payload())
    from jwt.algorithms import RSAAlgorithm

    signature = base64.urlsafe_b64encode(RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed.encode(), weak)).rstrip(b"=")
    tokens = Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(file)))
    assert "weak" in refusal(tokens, f"{signed}.{signature.decode()}")


# --- valid signatures, wrong claims ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -(10**30)}, "expired"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"nbf": int(time.time()) + 600}, "not valid yet"),
        ({"iat": int(time.time()) + 600}, "not valid yet"),
        ({"nbf": "later"}, "malformed"),
        ({"aud": "elsewhere"}, "audience"),
        ({"aud": ["elsewhere"]}, "audience"),
        ({"aud": []}, "`aud`"),
        ({"aud": {"tunesmith": 1}}, "audience"),
        ({"iss": "https://login.example.com"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"exp": None}, "`exp`"),
        ({"aud": None}, "`aud`"),
        ({"iss": None}, "`iss`"),
        ({"org": None}, "`org`"),
        ({"org": ""}, "`org`"),
        ({"org": "../acme"}, "`org`"),
        ({"org": "a" * 65}, "`org`"),
        ({"org": "acme\n"}, "`org`"),
        ({"org": ["acme"]}, "`org`"),
        ({"sub": "a\x00b"}, "`sub`"),
        ({"sub": "a" * 256}, "`sub`"),
        ({"role": "admin"}, "`role`"),
        ({"role": "OWNER"}, "`role`"),
        ({"role": ["owner"]}, "`role`"),
    ],
)
def test_a_wrong_claim_is_named(tokens, changes, word):
    assert word in refusal(tokens, token(**changes))


def test_a_subject_that_is_no_text_is_refused(tokens):
    signed = f"{part({'alg': 'HS256'})}.{part({**payload(), 'sub': 7})}"
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert "`sub`" in refusal(tokens, f"{signed}.{signature}")


# --- no tokens at all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        "a.b.c",
        "..",
        "!!!.???.***",
        f"{part([])}.{part({})}.",
        f"{part({'alg': 'HS256', 'kid': 7})}.{part({})}.AAAA",
        base64.urlsafe_b64encode(b"[" * 4000).rstrip(b"=").decode() + ".e30.AAAA",
        base64.urlsafe_b64encode(b"\xff\xfe").rstrip(b"=").decode() + ".e30.AAAA",
    ],
)
@pytest.mark.parametrize("which", ["tokens", "published"])
def test_what_is_no_token_is_refused(request, which, given):
    refusal(request.getfixturevalue(which), given)


@pytest.mark.parametrize("given", ["é.é.é", "\udcff.\udcff.\udcff"])
def test_letters_beyond_ascii_are_refused(tokens, given):
    assert "ASCII" in refusal(tokens, given)


def test_a_huge_token_is_refused_although_it_is_signed(tokens):
    huge = token(filler="x" * MAX_TOKEN_BYTES)
    assert str(MAX_TOKEN_BYTES) in refusal(tokens, huge)


# --- settings --------------------------------------------------------------------------------------------------------

NOTHING = {"secret": None, "secret_file": None, "jwks": None, "issuer": None, "audience": None}
NAMED = {**NOTHING, "issuer": ISSUER, "audience": AUDIENCE}


def test_without_a_key_there_are_no_tokens():
    assert TokenSettings.read(**NOTHING) is None


def test_the_secret_may_lie_in_a_file(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    settings = TokenSettings.read(**{**NAMED, "secret_file": tmp_path / "secret"})
    assert Tokens(settings).claims(token()).org == "acme"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"secret": "s" * 32, "jwks": "keys.json"}, "token_jwks"),
        ({"secret": "s" * 32, "issuer": None}, "token_issuer"),
        ({"secret": "s" * 32, "audience": ""}, "token_audience"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, param):
    with pytest.raises(SettingsError) as refused:
        TokenSettings.read(**{**NAMED, **changes})
    assert refused.value.param == param
    assert "s" * 32 not in refused.value.info.sentence()


def test_a_secret_that_can_be_guessed_is_refused():
    with pytest.raises(SettingsError, match="31 bytes and needs 32"):
        Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, secret=b"s" * 31))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="secret"):
        TokenSettings.read(**{**NAMED, "secret_file": tmp_path / "secret"})


def test_the_secret_is_not_shown_with_the_settings():
    assert "thirty" not in repr(TokenSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET))


@pytest.mark.parametrize("at", ["9999999999", 10**18, True, 1e300, -1])
def test_an_end_that_is_no_number_of_seconds_is_refused(at):
    with pytest.raises(UnauthenticatedError, match=r"exp|expired|malformed"):
        Tokens(TokenSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET)).claims(token(exp=at))
