"""Tokens of staff: what one proves, each reason that one is refused for, what a role may do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from relay.access.roles import ALLOWED, May, Role, on_this_node
from relay.access.staff import StaffTokens
from relay.config import read
from relay.errors import ConfigError, Forbidden, TokenRefused
from tests.unit.access_samples import AOIFE, HOUR, JANE, MAEVE, NOW, POLICY, staff, staff_token
from tests.unit.token_samples import PUBLIC, PUBLIC_PEM, WALL, b64, hs256
from tests.unit.token_samples import token as client_token

EXAMPLE = (Path(__file__).parents[2] / "relay.example.toml").read_text("utf-8")
TOKENS = StaffTokens("ie1", {"s1": PUBLIC}, {"gone"})


def reason(token: str, of: StaffTokens = TOKENS) -> str:
    with pytest.raises(TokenRefused) as refused:
        of.admit(token, NOW)
    return refused.value.reason


def test_a_key_speaks_for_its_jurisdictions_only() -> None:
    """Who issues tokens elsewhere makes nobody an approver inside."""
    elsewhere = StaffTokens("ie1", {"s1": PUBLIC}, speaks_for={"s1": ("US", "CA")})
    assert reason(staff_token(roles=["approver"]), elsewhere) == "other_jurisdiction"
    assert elsewhere.admit(staff_token(jurisdiction="CA"), NOW).jurisdiction == "CA"


def test_a_good_token_says_who_whose_law_and_which_roles() -> None:
    found = TOKENS.admit(staff_token(roles=["reviewer", "approver"]), NOW)
    assert (found.name, found.jurisdiction) == ("maeve", "EU")
    assert found.roles == {Role.REVIEWER, Role.APPROVER}
    assert found.until == NOW + HOUR


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": WALL}, "expired"),
        ({"exp": WALL + 90_000}, "malformed"),
        ({"exp": None}, "malformed"),
        ({"nbf": WALL + 60}, "not_yet_valid"),
        ({"iat": WALL + 60}, "not_yet_valid"),
        ({"region": "us1"}, "other_region"),
        ({"region": None}, "malformed"),
        ({"aud": "us1"}, "other_region"),
        ({"jti": "gone"}, "revoked"),
        ({"jti": None}, "malformed"),
        ({"sub": "+353861234567"}, "malformed"),
        ({"sub": None}, "malformed"),
        ({"jurisdiction": None}, "malformed"),
        ({"jurisdiction": "E\nU"}, "malformed"),
        ({"roles": None}, "malformed"),
        ({"roles": []}, "malformed"),
        ({"roles": "reviewer"}, "malformed"),
        ({"roles": ["reviewer", "root"]}, "unknown_role"),
        ({"roles": [["reviewer"]]}, "unknown_role"),
        ({"typ": "JWT"}, "not_staff"),
        ({"kid": "s2"}, "unknown_key"),
    ],
)
def test_a_claim_that_is_no_good(changes: dict[str, Any], why: str) -> None:
    assert reason(staff_token(**changes)) == why


def test_another_key_or_a_changed_octet_is_refused() -> None:
    assert reason(staff_token(ec.generate_private_key(ec.SECP256R1()))) == "tampered"
    head, body, signature = staff_token().split(".")
    assert reason(f"{head}.{staff_token(sub='eve').split('.')[1]}.{signature}") == "tampered"
    assert reason(f"{head}.{body}.") == "tampered"


def test_the_algorithm_is_not_the_tokens_choice() -> None:
    """RFC 8725 section 2.1."""
    claims = jwt.decode(staff_token(), options={"verify_signature": False})
    for alg in ("HS256", "none"):
        head = {"alg": alg, "kid": "s1", "typ": "staff+jwt"}
        assert reason(hs256(head, claims, PUBLIC_PEM)) == "unknown_key"


def test_a_voice_clients_token_is_no_token_of_staff() -> None:
    assert reason(client_token()) == "not_staff"


def test_without_keys_the_refusal_says_so() -> None:
    with pytest.raises(TokenRefused, match=r"no key of staff is configured"):
        StaffTokens("ie1", {}).admit(staff_token(), NOW)


def test_what_each_role_may_do() -> None:
    for role in Role:
        holder = staff("x", role.value)
        assert {what for what in May if holder.may(what)} == ALLOWED[role]
    assert not ALLOWED[Role.APPROVER] & {May.READ_CALLS, May.PLAY, May.READ_RECEIPTS}


def test_a_refusal_names_the_role_that_would_do() -> None:
    with pytest.raises(Forbidden, match="approver may not play recordings: it takes reviewer"):
        POLICY.check_may(AOIFE, May.PLAY)
    with pytest.raises(Forbidden, match=r"from US nobody may approve grants: it takes staff of EU"):
        POLICY.check_inside(JANE, May.APPROVE)
    assert POLICY.inside(MAEVE) and not POLICY.inside(JANE)


def test_who_runs_the_node_reads_and_does_not_approve() -> None:
    host = on_this_node("root@n1", POLICY, NOW + timedelta(minutes=1))
    assert POLICY.inside(host) and host.may(May.PLAY) and not host.may(May.APPROVE)
    assert host.actor().kind == "host"


def test_a_key_that_cannot_be_read_and_an_id_twice_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "staff.pem").write_bytes(PUBLIC_PEM)
    good = f'{{ id = "s1", public_key = "{tmp_path}/staff.pem" }}'
    bad = f'{{ id = "s1", public_key = "{tmp_path}/nothing.pem" }}'
    read(f"{EXAMPLE}\n[access]\nkeys = [{good}]\n", "x.toml")
    with pytest.raises(ConfigError) as mistakes:
        read(f"{EXAMPLE}\n[access]\nkeys = [{good}, {bad}]\nrevoked = '/nothing'\n", "x.toml")
    assert [text.split(":")[0] for text in mistakes.value.mistakes] == [
        "access.keys[1].id",
        "access.keys[1].public_key",
        "access.revoked",
    ]


@given(st.text(max_size=200) | st.binary(max_size=60).map(lambda octets: f"e30.{b64(octets)}.AA"))
def test_whatever_is_shown_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.admit(text, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(("sub", "region", "jurisdiction", "roles", "iat", "nbf", "exp", "jti", "aud")),
    json_values,
)
def test_whatever_a_claim_says_it_is_understood_or_refused(name: str, value: object) -> None:
    """Signed by the right key: who issues tokens may be wrong, too."""
    try:
        found = TOKENS.admit(staff_token(**{name: value}), NOW)
    except TokenRefused:
        return
    assert found.roles and found.name and found.until <= NOW + timedelta(seconds=86_430)
