"""Who is let in over a WebSocket, in virtual time: tokens as Bearer and in a digest."""

from __future__ import annotations

import pytest

from relay.call.client_entry import MOST_TRIES
from relay.call.tokens import MOST_OCTETS
from relay.sip.message import Response
from relay.sip.nonce import LIFETIME_S
from tests.scenario.web import AOR, Page, Region
from tests.scenario.world import PBX
from tests.unit.token_samples import WALL, claims, hs256, token

EARLY = {"nbf": WALL + 3000}
REFUSALS = [
    ("tampered", token()[:-8] + "AAAAAAAA", "signature"),
    ("unknown_key", hs256({"alg": "HS256", "kid": "k9"}, claims()), "signs with the key"),
    ("other_region", token(region="au1"), "not for region ie1"),
    ("expired", token(exp=WALL - 1), "has expired"),
    ("not_yet_valid", token(**EARLY), "not valid yet"),
    ("malformed", token(sub=None), "sub is missing"),
]


def warning(response: Response) -> str:
    return response.headers.get("Warning") or ""


# --- in


@pytest.mark.parametrize("digest", [False, True])
def test_a_token_registers_its_identity(digest: bool) -> None:
    region = Region()
    page = region.page(token(), digest=digest)
    assert page.register().status == 200
    assert region.of() == [page.name]
    assert region.trusted == [page.hop.link]
    assert region.counters == ({"token_missing": 1} if digest else {})
    said = region.journal.last("client_registered")
    assert said == {"account": "app", "identity": "alice", "source": page.hop.host}


def test_the_last_challenge_is_for_the_libraries_that_look_at_no_other() -> None:
    """RFC 8898: Bearer, then digest; of several fields JsSIP and SIP.js keep the last one."""
    response = Region().page().register()
    assert response.status == 401
    fields = response.headers.fields("WWW-Authenticate")
    assert fields[0] == 'Bearer realm="ie1"'
    assert [field.split()[0] for field in fields] == ["Bearer", "Digest", "Digest"]
    assert "algorithm=SHA-256" in fields[1] and 'algorithm=MD5, qop="auth"' in fields[2]


def test_anything_but_a_register_is_asked_with_407() -> None:
    page = Region().page()
    for method in ("INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"):
        response = page.ask(method, f"sip:bob@{AOR}", [("Contact", page.contact)])
        assert response.status == 407
        assert len(response.headers.fields("Proxy-Authenticate")) == 3


def test_jssip_sends_its_jwt_as_it_was_given() -> None:
    page = Region().page()
    assert page.register(Authorization=token()).status == 200


@pytest.mark.parametrize("spelled", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_spelled_in_any_way(spelled: str) -> None:
    page = Region().page()
    assert page.register(Authorization=f"{spelled} {token()}").status == 200


def test_sha_256_is_taken_too() -> None:
    from relay.sip.digest import Challenge, ha1

    page = Region().page(token())
    page.token, page.digest = "", False
    asked = page.register()
    (challenge,) = Challenge.parse(asked.headers.fields("WWW-Authenticate")[1])
    key = ha1("SHA-256", token(), "ie1", token())
    given = challenge.answer(token(), key, "REGISTER", f"sip:{AOR}", 1, "c0")
    assert page.register(Authorization=str(given)).status == 200


@pytest.mark.parametrize("digest", [False, True])
def test_the_longest_token_passes_all_limits(digest: bool) -> None:
    spare = (MOST_OCTETS - len(token(note=""))) * 3 // 4 - 8
    long = token(note="x" * spare)
    assert MOST_OCTETS - 30 < len(long) <= MOST_OCTETS
    page = Region().page(long, digest=digest)
    assert page.register().status == 200
    page = Region().page("x" * (MOST_OCTETS + 1), digest=digest)
    assert page.register().status == 401


# --- refused


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize(("reason", "presented", "text"), REFUSALS)
def test_each_refusal_has_its_reason_and_its_counter(
    reason: str, presented: str, text: str, digest: bool
) -> None:
    region = Region()
    response = region.page(presented, digest=digest).register()
    assert response.status == 401
    bearer = response.headers.fields("WWW-Authenticate")[0]
    assert 'error="invalid_token"' in bearer and text in bearer
    assert text in warning(response)
    assert region.counters[f"token_{reason}"] == 1
    assert region.journal.last("token_refused")["reason"] == reason
    assert not region.of() and not region.trusted
    assert presented not in repr(region.journal.events)


def test_a_revoked_token_is_refused() -> None:
    region = Region()
    region.calls.revoke("app", ["t1"], region.now)
    response = region.page(token()).register()
    assert response.status == 401 and "revoked" in warning(response)
    assert region.counters["token_revoked"] == 1


def test_another_region_s_page_learns_why() -> None:
    """Refused as it is, and served by nobody else (never forwarded)."""
    region = Region()
    page = region.page(token(region="au1"))
    assert page.ask("INVITE", f"sip:+35315550199@{AOR}", []).status == 407
    assert "not for region ie1" in warning(page.responses[-1])


def test_a_token_in_two_halves_of_a_digest_must_be_the_same() -> None:
    region = Region()
    page = region.page(token(), digest=True)
    asked = page.send(page.request("REGISTER", f"sip:{AOR}", []))
    answer = page.answer(asked, "REGISTER", f"sip:{AOR}", password="guessed")
    refused = page.send(page.request("REGISTER", f"sip:{AOR}", [answer]))
    assert refused.status == 401 and "user name and its password" in warning(refused)
    assert region.counters["token_wrong"] == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("qop=auth", "qop=auth-int"), "qop=auth"),
        (("algorithm=MD5", "algorithm=SHA-512-256"), "SHA-256 and MD5"),
        (("nc=00000001", "nc=1"), "nc or cnonce"),
        (("response=", "answer="), "response"),
        ((f"sip:{AOR}", "sip:au1.example"), "uri"),
    ],
)
def test_a_digest_that_makes_no_sense_gets_400(change: tuple[str, str], text: str) -> None:
    region = Region()
    page = region.page(token(), digest=True)
    asked = page.send(page.request("REGISTER", f"sip:{AOR}", []))
    uri = "sip:au1.example" if text == "uri" else f"sip:{AOR}"
    name, value = page.answer(asked, "REGISTER", uri)
    value = value if text == "uri" else value.replace(*change)
    refused = page.send(page.request("REGISTER", f"sip:{AOR}", [(name, value)]))
    assert refused.status == 400 and text in warning(refused)
    assert region.counters["token_unusable"] == 1


def test_lines_of_refusals_are_one_a_second() -> None:
    region = Region()
    for _ in range(5):
        page = region.page(token()[:-8] + "AAAAAAAA")
        for _ in range(5):
            page.register()
        region.run(0.3)
    assert region.journal.names().count("token_refused") == 2
    assert region.journal.last("token_refused")["count"] > 5


# --- replayed and stolen


def challenged(page: Page) -> tuple[tuple[str, str], bytes]:
    """The answer to a challenge and the request with it, not sent yet."""
    asked = page.send(page.request("REGISTER", f"sip:{AOR}", []))
    answer = page.answer(asked, "REGISTER", f"sip:{AOR}")
    return answer, page.request("REGISTER", f"sip:{AOR}", [("Contact", page.contact), answer])


def test_a_digest_that_was_overheard_is_good_for_nothing_again() -> None:
    region = Region()
    page = region.page(token(), digest=True)
    answer, request = challenged(page)
    assert page.send(request).status == 200
    refused = page.send(page.request("REGISTER", f"sip:{AOR}", [answer]))
    assert refused.status == 401 and "stale=true" in refused.headers.fields("WWW-Authenticate")[-1]
    assert region.counters["token_stale"] == 1


def test_a_digest_is_good_on_the_connection_that_it_was_asked_on_only() -> None:
    """Of the same address, too: behind one NAT, or one proxy, there are many."""
    region = Region()
    page, thief = region.page(token(), digest=True), region.page()
    answer, request = challenged(page)
    stolen = thief.send(thief.request("REGISTER", f"sip:{AOR}", [("Contact", "x"), answer]))
    assert stolen.status == 401 and region.counters["token_stale"] == 1
    assert not region.of()
    assert page.send(request).status == 200  # it was not used up


def test_an_old_nonce_is_stale_and_a_new_one_is_answered() -> None:
    region = Region()
    page = region.page(token(), digest=True)
    _, request = challenged(page)
    region.run(LIFETIME_S + 1)
    stale = page.send(request)
    assert stale.status == 401 and "stale=true" in stale.headers.fields("WWW-Authenticate")[-1]
    answer = page.answer(stale, "REGISTER", f"sip:{AOR}")
    fields = [("Contact", page.contact), answer]
    assert page.send(page.request("REGISTER", f"sip:{AOR}", fields)).status == 200


def test_a_nonce_comes_before_the_token() -> None:
    """Who was not asked on this connection does not learn what is wrong with a token."""
    region = Region()
    page, thief = region.page(token()[:-8] + "AAAAAAAA", digest=True), region.page()
    answer, _ = challenged(page)
    refused = thief.send(thief.request("REGISTER", f"sip:{AOR}", [answer]))
    assert refused.status == 401 and not warning(refused)
    assert region.counters["token_stale"] == 1 and region.counters["token_tampered"] == 0


def test_a_connection_is_of_one_identity() -> None:
    """Who takes over a connection would take over what is sent on it."""
    region = Region()
    page = region.page(token())
    assert page.register().status == 200
    page.identity, page.token = "bob", token(sub="bob", jti="t2")
    refused = page.register()
    assert refused.status == 403 and "another client" in warning(refused)
    assert region.counters["token_other_client"] == 1
    assert region.of("alice") == [page.name] and not region.of("bob")


def test_the_same_identity_of_another_account_is_another_client() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    page.token = token(iss="other", jti="t2")
    assert page.register().status == 403


def test_a_token_registers_no_other_identity() -> None:
    region = Region()
    page = region.page(token(), identity="bob")
    refused = page.register()
    assert refused.status == 403 and "another identity" in warning(refused)
    assert not region.of("alice") and not region.of("bob")


# --- what a connection has proved


def test_a_connection_that_has_proved_a_token_is_its_clients() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    page.token = ""
    assert page.ask("OPTIONS", f"sip:{AOR}", []).status == 200


def test_it_is_until_the_token_expires() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    page.token = ""
    region.run(3599)
    assert page.ask("OPTIONS", f"sip:{AOR}", []).status == 200
    region.run(2)
    assert page.ask("OPTIONS", f"sip:{AOR}", []).status == 407


def test_an_expired_token_is_told_apart_from_none() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    region.run(3601)
    refused = page.register()
    assert refused.status == 401 and "has expired" in warning(refused)


def test_what_comes_over_a_websocket_is_never_a_trunks() -> None:
    """Whatever its address: a browser may run on the PBX's own server."""
    region = Region()
    page = region.page()
    page.hop = page.hop._replace(host=PBX)
    assert page.ask("INVITE", f"sip:+35315550199@{AOR}", []).status == 407
    assert region.calls.identify(page.hop) is None
    assert not region.calls.active


def test_a_trunk_needs_no_token_and_a_token_is_nothing_to_it() -> None:
    """Bearer over UDP proves nobody: trunks have passwords, addresses and certificates."""
    region = Region()
    page = region.page(token())
    page.hop = page.hop._replace(transport="udp")
    assert page.register().status == 403


def test_who_proves_nothing_is_answered_a_few_times_only() -> None:
    region = Region()
    page = region.page()
    for _ in range(MOST_TRIES):
        assert page.register().status == 401
    answered = len(page.responses)
    for _ in range(50):
        page.push(page.request("REGISTER", f"sip:{AOR}", []))
    assert len(page.responses) == answered
    assert region.counters["client_dropped"] == 50
    assert len(region.relay._layer) == 0
    page.close()
    assert not region.calls.clients._tries


def test_a_proved_connection_is_not_limited_so() -> None:
    region = Region()
    page = region.page(token(), digest=True)
    for _ in range(5 * MOST_TRIES):
        assert page.register().status == 200
        region.run(1.0)


def test_strangers_and_refusals_cost_no_transaction() -> None:
    region = Region()
    for _, presented, _ in REFUSALS:
        region.page(presented, digest=True).register()
    region.page().ask("INVITE", f"sip:+35315550199@{AOR}", [])
    assert len(region.relay._layer) == 0 and not region.calls.active


# --- what nobody can answer a challenge to


def test_acks_cancels_and_responses_of_strangers_do_nothing() -> None:
    region = Region()
    page = region.page()
    page.push(page.request("ACK", f"sip:{AOR}", []))
    page.push(
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/WSS x;branch=z9hG4bKx\r\nTo: <sip:a@b>;tag=1\r\n"
        b"From: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    assert not page.responses
    assert page.send(page.request("CANCEL", f"sip:{AOR}", [])).status == 481
    assert region.counters["stray_responses"] == 1


def test_a_request_of_a_stranger_inside_a_dialog_is_asked_for_a_token() -> None:
    """It may be a client that has come back on another connection."""
    page = Region().page()
    data = page.request("BYE", f"sip:{AOR}", [])
    assert (
        page.send(data.replace(b"To: <sip:alice@ie1.example>", b"To: <sip:a@b>;tag=x")).status
        == 407
    )


def test_a_clients_request_inside_no_dialog_gets_481_without_state() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    data = page.request("BYE", f"sip:{AOR}", [])
    data = data.replace(b"To: <sip:alice@ie1.example>", b"To: <sip:a@b>;tag=x")
    before = len(region.relay._layer)
    assert page.send(data).status == 481
    assert len(region.relay._layer) == before
    assert region.calls.counters["refused_481"] == 1


def test_a_head_that_cannot_be_read_harms_nobody() -> None:
    region = Region()
    page = region.page(token())
    page.register()
    for field in (b"To: <sip:", b"CSeq: x REGISTER", b"Via: nothing"):
        name = field.partition(b":")[0]
        lines = page.request("REGISTER", f"sip:{AOR}", []).split(b"\r\n")
        data = b"\r\n".join(field if line.startswith(name + b":") else line for line in lines)
        page.push(data)
    assert region.of() == [page.name]
    assert page.register().status == 200
