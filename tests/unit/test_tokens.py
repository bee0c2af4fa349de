"""Access tokens: what one proves, and each reason that one is refused for."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from relay.call.tokens import Tokens
from relay.config import Account, TokenKey
from relay.errors import TokenRefused
from relay.residency.claims import LEEWAY_S, LONGEST_S, MOST_OCTETS
from tests.unit.token_samples import (
    PRIVATE,
    PUBLIC,
    PUBLIC_PEM,
    SECRET,
    WALL,
    b64,
    claims,
    hs256,
    part,
    token,
)

HEAD = {"alg": "HS256", "kid": "k1"}
ES_HEAD = {"kid": "k2"}


class Clock:
    def __init__(self) -> None:
        self.wall = WALL

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)


def tokens(clock: Clock | None = None, region: str = "ie1") -> Tokens:
    """Of an account with a key of each kind, and another account with a secret of its own."""
    app = Account.model_construct(
        name="app",
        caller_number="+35315550100",
        keys=(
            TokenKey(id="k1", secret=SecretStr(SECRET)),
            TokenKey(id="k2", algorithm="ES256", public_key="app.pem"),
        ),
    )
    other = Account(name="other", keys=(TokenKey(id="k1", secret=SecretStr(SECRET[::-1])),))
    keys = {
        ("app", "k1"): SECRET.encode(),
        ("app", "k2"): PUBLIC,
        ("other", "k1"): SECRET[::-1].encode(),
    }
    return Tokens(region, (app, other), keys, clock or Clock())


def reason(presented: str, of: Tokens | None = None, now: float = 0.0) -> str:
    with pytest.raises(TokenRefused) as refused:
        (of or tokens()).admit(presented, now)
    assert refused.value.status_hint == 401
    assert refused.value.__cause__ is None
    return refused.value.reason


def test_a_good_token_says_who_and_what() -> None:
    client = tokens().admit(token(number="+35315550111"), 50.0)
    assert (client.account.name, client.identity, client.token_id) == ("app", "alice", "t1")
    assert client.may_call_out and client.may_be_called
    assert client.caller_number == "+35315550111"
    assert client.until == 50.0 + 3600


def test_what_a_token_does_not_allow_is_not_allowed() -> None:
    client = tokens().admit(token(out=None, in_=None), 0.0)
    assert not client.may_call_out and not client.may_be_called
    assert client.caller_number == "+35315550100"  # the account's


def test_es256_as_any_library_makes_it() -> None:
    made = jwt.encode(claims(), PRIVATE, "ES256", headers=ES_HEAD)
    assert tokens().admit(made, 0.0).identity == "alice"


def test_hs256_as_any_library_makes_it() -> None:
    made = jwt.encode(claims(), SECRET, "HS256", headers={"kid": "k1"})
    assert tokens().admit(made, 0.0).identity == "alice"


# --- the signature


def test_a_changed_octet_of_any_part_is_refused() -> None:
    head, body, signature = token().split(".")
    other = part(claims(sub="bob"))
    assert reason(f"{head}.{other}.{signature}") == "tampered"
    assert reason(f"{head}.{body}.{b64(bytes(32))}") == "tampered"
    assert reason(f"{part({**HEAD, 'typ': 'x'})}.{body}.{signature}") == "tampered"


def test_another_accounts_key_is_no_good() -> None:
    """The same key id in two accounts: whose it is the claims say, and the signature proves."""
    assert reason(hs256(HEAD, claims(iss="other"))) == "tampered"


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", ""])
def test_no_signature_is_none(alg: str) -> None:
    """RFC 8725 section 2.1."""
    for signature in ("", "AAAA"):
        presented = f"{part({'alg': alg, 'kid': 'k1'})}.{part(claims())}.{signature}"
        assert reason(presented) == "unknown_key"


def test_a_public_key_is_no_secret() -> None:
    """RFC 8725 section 2.1: HS256 with the ES256 key, which everybody may know."""
    for kid in ("k1", "k2"):
        presented = hs256({"alg": "HS256", "kid": kid}, claims(), PUBLIC_PEM)
        assert reason(presented) == ("tampered" if kid == "k1" else "unknown_key")


def test_a_secret_does_not_verify_es256() -> None:
    made = jwt.encode(claims(), PRIVATE, "ES256", headers={"kid": "k1"})
    assert reason(made) == "unknown_key"


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_another_algorithm_than_the_keys_is_refused(alg: str) -> None:
    made = jwt.encode(claims(), SECRET * 2, alg, headers={"kid": "k1"})
    assert reason(made) == "unknown_key"


def test_another_curve_and_rsa_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert reason(jwt.encode(claims(), other, "ES256", headers=ES_HEAD)) == "tampered"
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    assert reason(jwt.encode(claims(), pem, "RS256", headers=ES_HEAD)) == "unknown_key"


@pytest.mark.parametrize("kid", ["k3", "", "../../etc/passwd", "k1' OR '1'='1", "K1"])
def test_an_unknown_key_id_is_refused(kid: str) -> None:
    assert reason(hs256({"alg": "HS256", "kid": kid}, claims())) in ("unknown_key", "malformed")


def test_an_unknown_account_is_refused() -> None:
    assert reason(hs256(HEAD, claims(iss="nobody"))) == "unknown_key"


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": "x"},
    ],
)
def test_critical_header_parameters_are_refused(extra: dict[str, object]) -> None:
    """RFC 7515 section 4.1.11: none is understood here."""
    assert reason(hs256({**HEAD, **extra}, claims())) == "malformed"


def test_keys_that_a_token_brings_along_are_not_looked_at() -> None:
    """RFC 8725 section 2.1: jwk, jku, x5u and x5c name nothing."""
    mine = ec.generate_private_key(ec.SECP256R1())
    for extra in ({"jku": "https://evil.example/keys"}, {"jwk": {"kty": "oct", "k": "AAAA"}}):
        made = jwt.encode(claims(), mine, "ES256", headers={**ES_HEAD, **extra})
        assert reason(made) == "tampered"


# --- its form


@pytest.mark.parametrize(
    "presented",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b",
        "é.b.c",
        "x" * (MOST_OCTETS + 1),
        f"{part(HEAD)}.{part([])}.AAAA",
        f"{part([])}.{part({})}.AAAA",
        f"{part(HEAD)}.{b64(b'not json')}.AAAA",
        f"{part(HEAD)}.{b64(b'[' * 2800)}.AAAA",
        f"{b64(b'{' * 2800)}.{part({})}.AAAA",
        f"{part(HEAD)}.{b64(bytes(range(128, 256)))}.AAAA",
        f"{part({'alg': 'HS256'})}.{part({'iss': 'app'})}.AAAA",
        f"{part({'alg': 'HS256', 'kid': 7})}.{part({'iss': 'app'})}.AAAA",
        f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part({'iss': ['app']})}.AAAA",
        "\x00" * 20,
    ],
)
def test_what_is_no_token_is_malformed(presented: str) -> None:
    assert reason(presented) == "malformed"


@pytest.mark.parametrize("value", [None, "", 7, True, [], {}])
@pytest.mark.parametrize("name", ["sub", "region", "jti"])
def test_a_claim_of_another_type_is_malformed(name: str, value: object) -> None:
    assert reason(token(**{name: value})) == "malformed"


@pytest.mark.parametrize(
    "value",
    [None, "1795663800", True, False, 0, -1, 1e300, float("inf"), float("nan"), [], 2**4000],
)
def test_an_expiry_of_another_type_is_malformed(value: object) -> None:
    assert reason(token(exp=value)) == "malformed"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "alice@example.com"},
        {"sub": "a b"},
        {"sub": "a\r\nTo: x"},
        {"sub": "x" * 65},
        {"sub": "-alice"},
        {"sub": "alicé"},
        {"jti": "x" * 129},
        {"jti": "a\nb"},
        {"out": 1},
        {"in_": "yes"},
        {"number": "0035315550100"},
        {"number": 35315550100},
        {"nbf": "now"},
        {"iat": True},
    ],
)
def test_values_that_cannot_be_meant_are_malformed(changes: dict[str, object]) -> None:
    assert reason(token(**changes)) == "malformed"


def test_milliseconds_are_no_seconds() -> None:
    """What JavaScript's Date.now() gives would be good for fifty thousand years."""
    assert reason(token(exp=(WALL + 3600) * 1000)) == "malformed"
    assert reason(token(exp=WALL + LONGEST_S + LEEWAY_S + 1)) == "malformed"
    assert tokens().admit(token(exp=WALL + LONGEST_S), 0.0)


def test_the_longest_token_that_is_taken() -> None:
    spare = MOST_OCTETS - len(token(note=""))
    long = token(note="x" * (spare * 3 // 4 - 8))
    assert MOST_OCTETS - 30 < len(long) <= MOST_OCTETS
    assert tokens().admit(long, 0.0).identity == "alice"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_that_is_presented_raises_anything_else(head: bytes, body: bytes) -> None:
    for presented in (
        f"{b64(head)}.{b64(body)}.AAAA",
        head.decode("latin-1"),
        f"{part(HEAD)}.{b64(body)}.AAAA",
    ):
        assert reason(presented) in ("malformed", "unknown_key", "tampered")


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(("sub", "region", "exp", "jti", "out", "in", "number", "nbf", "aud")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=2),
        ),
        min_size=1,
    )
)
def test_no_signed_claims_raise_anything_else(changes: dict[str, object]) -> None:
    """A backend of the account errs, too."""
    try:
        tokens().admit(hs256(HEAD, {**claims(), **changes}), 0.0)
    except TokenRefused as refused:
        json.dumps(str(refused))


# --- the region


def test_another_regions_token_is_refused() -> None:
    assert reason(token(region="au1")) == "other_region"
    assert reason(token(), tokens(region="au1")) == "other_region"
    assert reason(token(region="IE1")) == "other_region"


def test_an_audience_is_this_region_or_no_good() -> None:
    """RFC 7519 section 4.1.3."""
    assert tokens().admit(token(aud="ie1"), 0.0)
    assert tokens().admit(token(aud=["ie1"]), 0.0)
    for audience in ("au1", ["au1"], ["ie1", "au1"], 7, None, {}):
        if audience is not None:
            assert reason(token(aud=audience)) == "other_region"


# --- time


def test_an_expired_token_is_refused_from_its_second_on() -> None:
    clock = Clock()
    for wall in (WALL + 3600, WALL + 7200):
        clock.wall = wall
        assert reason(token(), tokens(clock)) == "expired"
    clock.wall = WALL + 3599.5
    assert tokens(clock).admit(token(), 0.0).until == 0.5


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_tomorrow_is_refused(name: str) -> None:
    """Another server's clock may be ahead by half a minute, not by more."""
    assert reason(token(**{name: WALL + LEEWAY_S + 1})) == "not_yet_valid"
    assert tokens().admit(token(**{name: WALL + LEEWAY_S - 1}), 0.0)


def test_a_clock_that_is_put_back_keeps_no_token_alive() -> None:
    clock = Clock()
    checked = tokens(clock)
    assert checked.admit(token(), 100.0).until == 3700.0
    clock.wall -= 86000
    assert checked.admit(token(), 3000.0).until == 3700.0
    assert reason(token(), checked, 3700.0) == "expired"
    assert reason(token(), checked, 90000.0) == "expired"


def test_a_clock_that_is_put_forward_ends_no_token_that_was_seen() -> None:
    clock = Clock()
    checked = tokens(clock)
    checked.admit(token(), 100.0)
    clock.wall += 86000
    assert checked.admit(token(), 3000.0).until == 3700.0
    assert reason(token(jti="t2"), checked, 3000.0) == "expired"  # that one is new


def test_what_is_remembered_is_bounded_and_only_of_right_signatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.call.tokens.MOST_SEEN", 5)
    checked = tokens()
    reason(token()[:-4] + "AAAA", checked)
    assert len(checked._seen) == 0
    for number in range(20):
        checked.admit(token(jti=f"t{number}"), 0.0)
        assert len(checked._seen) <= 5


# --- revocation


def test_a_revoked_token_is_refused_also_when_it_was_seen_before() -> None:
    checked = tokens()
    checked.admit(token(), 0.0)
    checked.revoke("app", {"t1", "t9"})
    assert reason(token(), checked) == "revoked"
    assert checked.admit(token(jti="t2"), 0.0)


def test_a_list_is_of_one_account_and_replaces_the_one_before() -> None:
    checked = tokens()
    checked.revoke("other", {"t1"})
    assert checked.admit(token(), 0.0)
    checked.revoke("app", {"t1"})
    checked.revoke("app", {"t2"})
    assert checked.admit(token(), 0.0)
