"""A trunk with a password in virtual time: challenge, answer, call, and what goes wrong."""

from __future__ import annotations

import ipaddress

import pytest

from relay.call.authentication import Authentication, covers
from relay.call.leg import Leg
from relay.config import Trunk
from relay.residency.boundary import Boundary
from relay.sip.digest import Challenge, Credentials, ha1
from relay.sip.message import Request, Response
from relay.sip.nonce import LIFETIME_S
from tests.scenario.world import NUMBER, PBX, RELAY, World

PASSWORD = "open sesame"
ACME = {"username": "acme", "password": PASSWORD}
REGION = Boundary((ipaddress.ip_network("192.0.2.0/24"),))
ANSWER = {"Proxy-Authenticate": "Proxy-Authorization", "WWW-Authenticate": "Authorization"}


def guarded(allow: bool = True, **options: float) -> World:
    """A world whose PBX has a password; without `allow` only that tells who it is."""
    own = {"credentials": [ACME], "allow": [f"{PBX}/32"] if allow else []}
    world = World(pbx=own, **options)  # type: ignore[arg-type]
    trunks = tuple(world.router.trunks.values())
    if not allow:
        world.router.trunks["by its name"] = world.router.trunks.pop(PBX)
    world.calls.authentication = Authentication(trunks, "t1", REGION, b"secret")
    return world


def answer(
    request: Request,
    challenge: Response,
    algorithm: str = "SHA-256",
    password: str = PASSWORD,
    user: str = "acme",
    count: int = 1,
    uri: str | None = None,
) -> Request:
    """The request again with credentials, as a PBX sends it."""
    name = next(name for name in ANSWER if name in challenge.headers)
    offered = [Challenge.parse(value)[0] for value in challenge.headers.fields(name)]
    chosen = next(c for c in offered if c.algorithm == algorithm)
    key = ha1(algorithm, user, chosen.realm, password)
    given = chosen.answer(user, key, request.method, uri or request.uri, count, "c0")
    return again(request, (ANSWER[name], str(given)))


def again(request: Request, *fields: tuple[str, str]) -> Request:
    headers = request.headers.copy()
    headers.remove("Via")
    headers.set("CSeq", f"{request.cseq.number + 1} {request.method}")
    for name, value in fields:
        headers.set(name, value)
    return Request(request.method, request.uri, headers, request.body)


def challenged(world: World, **headers: str) -> Response:
    """Call, and wait for the challenge."""
    world.pbx.responses.clear()
    world.pbx.call(**headers)
    world.run_until(lambda: 407 in world.pbx.statuses())
    return world.pbx.responses[-1]


def met(world: World, **options: str) -> Request:
    """Call, be challenged, and the answer to that."""
    challenge = challenged(world)
    return answer(world.pbx.invite, challenge, **options)  # type: ignore[arg-type]


def send(world: World, request: Request) -> None:
    world.pbx.responses.clear()
    world.pbx.invite = request
    world.pbx.invite_tx = world.pbx.send(request)


def call(world: World, request: Request) -> None:
    send(world, request)
    world.run_until(lambda: bool(world.pbx.statuses()) and world.pbx.statuses()[-1] >= 200)
    assert world.pbx.statuses()[-1] == 200
    world.run_until(lambda: not any(leg.waits_for_ack for leg in _legs(world)))


def _legs(world: World) -> list[Leg]:
    return [leg for call in world.calls.active.values() for leg in call.legs]


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_a_challenge_is_answered_and_the_call_is_made_and_ended(
    allow: bool, algorithm: str
) -> None:
    world = guarded(allow)
    challenge = challenged(world)
    offered = [Challenge.parse(v)[0] for v in challenge.headers.fields("Proxy-Authenticate")]
    assert [c.algorithm for c in offered] == ["SHA-256", "MD5"]
    assert {c.realm for c in offered} == {"t1"} and not any(c.stale for c in offered)
    call(world, answer(world.pbx.invite, challenge, algorithm))
    world.pbx.in_dialog("INVITE", world.pbx.invite.body)  # not challenged
    world.run(1.0)
    assert world.pbx.statuses()[-1] == 200
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.pbx.statuses("BYE") == [200]
    sent = [name for request in world.carrier.requests for name in request.headers.names()]
    assert not any("uthorization" in name for name in sent)
    assert world.relay.counters == {"digest_missing": 1}
    assert not world.bugs


def test_only_the_algorithms_of_the_configuration_are_offered_and_taken() -> None:
    world = guarded()
    trunks = (world.router.trunks[PBX],)
    both = challenged(world)
    world.calls.authentication = Authentication(trunks, "t1", REGION, b"secret", ("SHA-256",))
    offered = challenged(world).headers.fields("Proxy-Authenticate")
    assert [Challenge.parse(value)[0].algorithm for value in offered] == ["SHA-256"]
    send(world, answer(world.pbx.invite, both, "MD5"))
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [400]


def test_a_challenge_costs_no_transaction_and_no_call() -> None:
    world = guarded()
    challenged(world)
    world.run(1.0)
    assert len(world.relay._layer) == 0
    assert world.calls.idle and world.media.open_count == 0 and not world.journal.events
    assert not world.carrier.requests


def test_a_lost_challenge_is_made_again_for_the_repeated_request() -> None:
    world = guarded()
    seen: list[bytes] = []

    def lose(source: str, to: str, data: bytes) -> bool:
        if source == RELAY and data.startswith(b"SIP/2.0 407"):
            seen.append(data)
            return len(seen) <= 2
        return False

    world.drop = lose
    call(world, met(world))
    assert len(seen) >= 3


def test_a_repeated_answer_is_the_same_transaction_and_no_replay() -> None:
    """The 100 and all else is lost for two seconds: the INVITE comes again, with its count."""
    world = guarded()
    request = met(world)
    until = world.now + 2.0
    world.drop = lambda source, to, data: source == RELAY and to == PBX and world.now < until
    call(world, request)
    assert "digest_stale" not in world.relay.counters
    assert len(world.carrier.got("INVITE")) == 1


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize(("user", "password"), [("acme", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_password_and_an_unknown_user_look_alike(
    allow: bool, user: str, password: str
) -> None:
    world = guarded(allow)
    challenge = challenged(world)
    send(world, answer(world.pbx.invite, challenge, user=user, password=password))
    world.run_until(lambda: bool(world.pbx.statuses()))
    refused = world.pbx.responses[-1]
    assert refused.status == 407
    assert refused.headers.names() == challenge.headers.names()
    (new,) = Challenge.parse(refused.headers.fields("Proxy-Authenticate")[0])
    assert not new.stale
    assert world.relay.counters["digest_wrong"] == 1
    assert world.journal.last("authentication_failed")["source"] == PBX
    assert not world.carrier.requests


def test_wrong_passwords_in_a_flood_are_one_line_a_second() -> None:
    world = guarded()
    challenge = challenged(world)
    for number in range(50):
        world.pbx.send(answer(world.pbx.invite, challenge, password=str(number)))
        world.run(0.1)
    assert world.relay.counters["digest_wrong"] == 50
    assert 5 <= world.journal.names().count("authentication_failed") <= 6


def test_the_password_of_another_trunk_is_no_good() -> None:
    """The PBX's address says whose call it is: the carrier's user name means nothing there."""
    world = guarded()
    other = Trunk(
        name="other",
        allow=("192.0.2.9/32",),  # type: ignore[arg-type]
        credentials=({"username": "other", "password": PASSWORD},),  # type: ignore[arg-type]
    )
    trunks = (world.router.trunks[PBX], other)
    world.calls.authentication = Authentication(trunks, "t1", REGION, b"secret")
    send(world, met(world, user="other"))
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [407]


def test_a_replayed_answer_is_never_accepted() -> None:
    """Copied into another call, and counted up without the password."""
    world = guarded()
    first = met(world)
    assert first is not None
    call(world, first)
    value = first.headers.get("Proxy-Authorization") or ""
    given = Credentials.parse(value)
    assert given is not None
    for stolen, stale in ((value, True), (value.replace("nc=00000001", "nc=00000002"), False)):
        world.pbx.responses.clear()
        world.pbx.call(Proxy_Authorization=stolen)
        world.run_until(lambda: bool(world.pbx.statuses()))
        refused = world.pbx.responses[-1]
        assert refused.status == 407
        (new,) = Challenge.parse(refused.headers.fields("Proxy-Authenticate")[0])
        assert new.stale is stale and new.nonce != given.nonce
    assert world.relay.counters["digest_stale"] == 1
    assert len(world.carrier.got("INVITE")) == 1


def test_the_next_count_of_a_nonce_saves_the_challenge() -> None:
    world = guarded()
    world.pbx.call()
    challenge = challenged(world)
    call(world, answer(world.pbx.invite, challenge))
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    world.pbx.dialog = None
    world.pbx.acks.clear()
    world.carrier.acks.clear()
    second = again(world.pbx.invite, ("Call-ID", "second"))
    call(world, answer(second, challenge, count=2))
    assert len(world.carrier.got("INVITE")) == 2


def test_an_expired_nonce_is_stale_and_the_next_one_is_good() -> None:
    world = guarded()
    challenge = challenged(world)
    world.run(LIFETIME_S + 1)
    send(world, answer(world.pbx.invite, challenge))
    world.run_until(lambda: 407 in world.pbx.statuses())
    renewed = world.pbx.responses[-1]
    (new,) = Challenge.parse(renewed.headers.fields("Proxy-Authenticate")[0])
    assert new.stale
    call(world, answer(world.pbx.invite, renewed))


def test_a_nonce_of_before_a_restart_is_stale() -> None:
    world = guarded()
    challenge = challenged(world)
    trunks = (world.router.trunks[PBX],)
    world.calls.authentication = Authentication(trunks, "t1", REGION, b"restarted")
    send(world, answer(world.pbx.invite, challenge))
    world.run_until(lambda: 407 in world.pbx.statuses())
    assert "stale=true" in (world.pbx.responses[-1].headers.get("Proxy-Authenticate") or "")


@pytest.mark.parametrize("allow", [True, False])
def test_a_cancelled_challenged_call_ends_on_both_sides(allow: bool) -> None:
    world = guarded(allow)
    world.carrier.on_request = lambda tx, request: (
        world.carrier.ring(tx, request) if request.method == "INVITE" else None
    )
    send(world, met(world))
    world.run_until(lambda: 180 in world.pbx.statuses())
    world.pbx.cancel()
    world.run_until(lambda: world.calls.idle)
    assert world.pbx.statuses()[-1] == 487
    assert len(world.carrier.cancelled) == 1


def test_a_cancel_of_a_challenged_request_is_not_challenged() -> None:
    """It crosses the 407: there is nothing to cancel any more."""
    world = guarded()
    invite = world.pbx.call()
    world.run_until(lambda: 407 in world.pbx.statuses())
    cancel = again(invite, ("CSeq", "1 CANCEL"))
    cancel.method = "CANCEL"
    world.pbx.send(cancel)
    world.run_until(lambda: bool(world.pbx.statuses("CANCEL")))
    assert world.pbx.statuses("CANCEL") == [481]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("qop=auth", "qop=auth-int"), "qop=auth"),
        (("algorithm=SHA-256", "algorithm=SHA-512-256"), "SHA-256 and MD5"),
        (("nc=00000001", "nc=1"), "nc or cnonce"),
        (("response=", "answer="), "response"),
    ],
)
def test_credentials_that_make_no_sense_get_400_and_a_reason(
    change: tuple[str, str], text: str
) -> None:
    world = guarded()
    request = met(world)
    assert request is not None
    value = request.headers.get("Proxy-Authorization") or ""
    request.headers.set("Proxy-Authorization", value.replace(*change))
    send(world, request)
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [400]
    assert text in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert world.relay.counters["digest_unusable"] == 1


def test_credentials_without_qop_are_refused() -> None:
    """RFC 2069's: nothing in them tells a replay."""
    world = guarded()
    challenge = challenged(world)
    (offered,) = Challenge.parse(challenge.headers.fields("Proxy-Authenticate")[0])
    old = Challenge(offered.realm, offered.nonce, "MD5")
    key = ha1("MD5", "acme", "t1", PASSWORD)
    given = old.answer("acme", key, "INVITE", world.pbx.invite.uri, 1, "")
    send(world, again(world.pbx.invite, ("Proxy-Authorization", str(given))))
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [400]


def test_credentials_for_another_number_are_refused() -> None:
    world = guarded()
    challenge = challenged(world)
    send(world, answer(world.pbx.invite, challenge, uri=f"sip:+35315550000@{RELAY}"))
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [400]


@pytest.mark.parametrize(
    ("given", "wanted", "good"),
    [
        ("sip:+1@a.example", "sip:+1@a.example", True),
        ("sip:+1@A.example:5060;transport=udp", "sip:+1@a.example", True),
        ("sip:a.example", "sip:+1@a.example", True),
        ("sip:+2@a.example", "sip:+1@a.example", False),
        ("sip:+1@b.example", "sip:+1@a.example", False),
        ("sips:+1@a.example", "sip:+1@a.example", False),
        ("tel:+1", "sip:+1@a.example", False),
        ("*", "sip:+1@a.example", False),
    ],
)
def test_what_a_digest_uri_covers(given: str, wanted: str, good: bool) -> None:
    assert covers(given, wanted) is good


def test_options_of_a_trunk_needs_no_password_and_register_gets_401() -> None:
    world = guarded()
    options = again(world.pbx.call(), ("CSeq", "7 OPTIONS"))
    options.method = "OPTIONS"
    register = again(options, ("CSeq", "8 REGISTER"), ("Call-ID", "other"))
    register.method = "REGISTER"
    world.pbx.send(options)
    world.pbx.send(register)
    world.run_until(lambda: bool(world.pbx.statuses("REGISTER")))
    assert world.pbx.statuses("OPTIONS") == [200]
    assert world.pbx.statuses("REGISTER") == [401]
    send(world, answer(register, world.pbx.responses[-1]))
    world.run_until(lambda: bool(world.pbx.statuses("REGISTER")))
    assert world.pbx.statuses("REGISTER") == [405]  # there is no registrar here


def test_a_secure_trunk_is_asked_for_no_password_in_clear() -> None:
    own = {"credentials": [ACME], "allow": [f"{PBX}/32"], "secure": True}
    world = World(pbx=own)
    trunks = tuple(world.router.trunks.values())
    world.calls.authentication = Authentication(trunks, "t1", REGION, b"secret")
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [403]
    assert "TLS" in (world.pbx.responses[-1].headers.get("Warning") or "")


def test_a_certificate_and_a_password_are_both_needed() -> None:
    """The password of a trunk with `tls_names` is no good for a stranger without one."""
    trunk = Trunk(
        name="acme",
        tls_names=("pbx.acme.example",),
        credentials=(ACME,),  # type: ignore[arg-type]
    )
    check = Authentication((trunk,), "t1", REGION, b"secret")
    world = World()
    world.calls.authentication = check
    del world.router.trunks[PBX]
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [403]


def test_a_stranger_is_challenged_only_inside_the_region() -> None:
    world = guarded(allow=False)
    trunks = (Trunk(name="acme", credentials=(ACME,)),)  # type: ignore[arg-type]
    elsewhere = Boundary((ipaddress.ip_network("198.51.100.0/24"),))
    world.calls.authentication = Authentication(trunks, "t1", elsewhere, b"secret")
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [403]
    assert world.relay.counters == {"unknown_source": 1}


def test_a_stranger_gets_403_when_no_trunk_is_known_by_name() -> None:
    world = guarded(allow=True)
    del world.router.trunks[PBX]
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [403]


def test_only_who_made_the_call_may_speak_in_the_dialog_of_a_trunk_known_by_name() -> None:
    """The right tags from another address inside the region end nothing."""
    world = guarded(allow=False)
    call(world, met(world))
    assert world.pbx.dialog is not None
    bye = world.pbx.dialog.request("BYE")
    thief = world.carrier  # an address of another trunk
    thief.send(bye)
    world.run(1.0)
    assert thief.statuses("BYE") == [403]
    assert len(world.calls.active) == 1
    world.carrier.bye()
    world.run_until(lambda: world.calls.idle)
    assert len(world.pbx.got("BYE")) == 1


def test_loss_on_every_message_ends_well() -> None:
    for seed in range(8):
        world = guarded(loss=0.2, seed=seed)
        request = met(world)
        call(world, request)
        world.pbx.bye()
        world.run_until(lambda world=world: world.calls.idle)
        assert not world.bugs
    assert NUMBER in world.carrier.got("INVITE")[0].uri
