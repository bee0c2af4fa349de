"""A carrier that asks who we are, in virtual time: every request of ours, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from relay.call.authorization import Login
from relay.config import Credential
from relay.sip.digest import Challenge, Credentials, ha1
from relay.sip.message import Request
from tests.scenario.test_prack import Callee
from tests.scenario.world import CARRIER, PBX, RELAY, World, sdp

USER, PASSWORD, REALM = "ie1-relay", "open sesame", "carrier.example"


class Carrier:
    """Challenges what `asks` says; answers the rest as a phone does."""

    def __init__(self, world: World, status: int = 407, algorithms: tuple[str, ...] = ("MD5",)):
        self.world = world
        self.status = status
        self.algorithms = algorithms
        self.asks: Callable[[Request], bool] = lambda request: True
        self.before: Callable[[object, Request], None] = lambda tx, request: None
        self.stale = False
        self.password = PASSWORD
        self.made = 0
        self.counts: dict[str, int] = {}
        self.accepted: list[Request] = []
        self.challenged: list[Request] = []
        self.qop: tuple[str, ...] = ("auth",)
        world.carrier.on_request = self.on_request

    def on_request(self, tx: object, request: Request) -> None:
        self.before(tx, request)
        if self.asks(request) and not self.is_right(request):
            self.challenged.append(request)
            self.challenge(tx, request)
        else:
            self.accepted.append(request)
            self.world.carrier.answer_all(tx, request)

    def challenge(self, tx: object, request: Request) -> None:
        self.made += 1
        self.counts[f"n{self.made}"] = 0
        response = request.response(self.status, to_tag=f"c{self.made}")
        name = {401: "WWW-Authenticate", 407: "Proxy-Authenticate"}[self.status]
        for algorithm in self.algorithms:
            value = Challenge(REALM, f"n{self.made}", algorithm, self.qop, "o", self.stale)
            response.headers.add(name, str(value))
        self.world.carrier.layer.respond(tx, response, self.world.now)

    def is_right(self, request: Request) -> bool:
        name = {401: "Authorization", 407: "Proxy-Authorization"}[self.status]
        value = request.headers.get(name)
        given = Credentials.parse(value) if value else None
        if given is None or given.nonce not in self.counts:
            return False
        count = int(given.count or "1", 16)
        good = self.counts[given.nonce] < count if self.qop else True
        self.counts[given.nonce] = count
        key = ha1(given.algorithm, USER, REALM, self.password)
        return good and given.proves(key, request.method) and given.uri == request.uri


def asking(
    status: int = 407, algorithms: tuple[str, ...] = ("MD5",), **options: Any
) -> tuple[World, Carrier]:
    world = World(**options)
    credential = Credential(username=USER, password=SecretStr(PASSWORD))
    world.calls.logins["carrier"] = Login("carrier", credential, world.calls)
    return world, Carrier(world, status, algorithms)


def answered(world: World) -> None:
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()) and world.pbx.statuses()[-1] >= 200)
    assert world.pbx.statuses()[-1] == 200
    world.run(1.0)


def refused(world: World) -> list[int]:
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.calls.idle
    return world.pbx.statuses()


def hung_up(world: World) -> None:
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert not world.bugs
    assert world.media.open_count == 0


@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256", "MD5"), ("SHA-999", "SHA-512-256")])
def test_a_challenged_invite_is_sent_again_with_credentials(
    status: int, algorithms: tuple[str, ...]
) -> None:
    world, carrier = asking(status, algorithms)
    answered(world)
    first, second = carrier.challenged[0], carrier.accepted[0]
    assert (first.cseq.number, second.cseq.number) == (1, 2)
    assert first.call_id == second.call_id and first.from_ == second.from_
    assert second.to.tag is None and second.body == first.body
    assert first.via.branch != second.via.branch
    (ack,) = world.carrier.acks  # that of the challenge ends with the transaction
    assert ack.cseq.number == 2
    name = "Authorization" if status == 401 else "Proxy-Authorization"
    assert ack.headers.get(name) == second.headers.get(name)
    hung_up(world)
    (bye,) = world.carrier.got("BYE")
    assert bye.cseq.number == 3
    assert not any("uthenticate" in n for r in world.pbx.responses for n in r.headers.names())


def test_a_challenge_without_qop_is_answered_too() -> None:
    world, carrier = asking()
    carrier.qop = ()
    answered(world)
    value = carrier.accepted[0].headers.get("Proxy-Authorization") or ""
    assert "qop" not in value and "nc=" not in value
    hung_up(world)


def test_the_next_requests_of_the_trunk_carry_credentials_at_once() -> None:
    world, carrier = asking()
    answered(world)
    hung_up(world)
    world.pbx.dialog = None
    world.pbx.responses.clear()
    answered(world)
    hung_up(world)
    assert len(carrier.challenged) == 1
    given = [
        Credentials.parse(request.headers.get("Proxy-Authorization") or "")
        for request in carrier.accepted
    ]
    assert [c.count for c in given if c is not None] == [f"{n:08x}" for n in range(1, 5)]
    assert len({c.cnonce for c in given if c is not None}) == 4


@pytest.mark.parametrize("stale", [True, False])
def test_credentials_that_were_sent_at_once_and_are_too_old_are_renewed(stale: bool) -> None:
    """Many carriers do not say stale=true."""
    world, carrier = asking()
    answered(world)
    hung_up(world)
    carrier.counts.clear()
    carrier.stale = stale
    world.pbx.dialog = None
    world.pbx.responses.clear()
    answered(world)
    hung_up(world)
    assert len(carrier.challenged) == 2
    assert "credentials_refused" not in world.journal.names()


def test_two_calls_that_are_challenged_with_one_nonce_count_on() -> None:
    """Kamailio gives all challenges of a second the same nonce."""
    world, carrier = asking()
    deal, waiting = world.carrier.on_request, []

    def together(tx: object, request: Request) -> None:
        if "Proxy-Authorization" in request.headers:
            deal(tx, request)
            return
        waiting.append((tx, request))
        if len(waiting) == 2:
            for each in waiting:
                carrier.made = 0
                carrier.challenge(*each)

    world.carrier.on_request = together
    world.pbx.call()
    world.pbx.call()
    world.run_until(lambda: world.pbx.statuses().count(200) == 2)
    given = [
        Credentials.parse(request.headers.get("Proxy-Authorization") or "")
        for request in carrier.accepted
    ]
    assert [(c.nonce, c.count) for c in given if c] == [("n1", "00000001"), ("n1", "00000002")]
    assert not carrier.challenged


def test_a_wrong_password_fails_the_call_once_and_is_told() -> None:
    world, carrier = asking()
    carrier.password = "another"
    assert refused(world) == [502]
    assert len(carrier.challenged) == 2
    told = world.journal.last("credentials_refused")
    assert told["trunk"] == "carrier" and told["method"] == "INVITE"
    assert world.calls.counters["credentials_refused"] == 1
    assert PASSWORD not in repr(world.journal.events)


def test_a_nonce_that_is_stale_again_and_again_is_given_up() -> None:
    world, carrier = asking()
    carrier.password, carrier.stale = "another", True
    assert refused(world) == [502]
    assert len(carrier.challenged) == 3


@pytest.mark.parametrize("algorithms", [("SHA-999",), ("MD5-sess",), ()])
def test_a_challenge_that_nobody_could_answer_is_told(algorithms: tuple[str, ...]) -> None:
    world, _ = asking(algorithms=algorithms)
    assert refused(world) == [502]
    assert "algorithm" in str(world.journal.last("credentials_refused")["problem"])


def test_without_credentials_of_ours_a_challenge_is_502() -> None:
    world = World()
    Carrier(world)
    assert refused(world) == [502]


def test_a_proxy_and_the_carrier_behind_it_may_both_ask() -> None:
    world, carrier = asking(407)
    proxy_asks = carrier.on_request

    def behind(tx: object, request: Request) -> None:
        if "Authorization" in request.headers or "Proxy-Authorization" not in request.headers:
            proxy_asks(tx, request)
            return
        response = request.response(401, to_tag="behind")
        response.headers.add(
            "WWW-Authenticate", str(Challenge("behind", "m", "SHA-256", ("auth",)))
        )
        world.carrier.layer.respond(tx, response, world.now)

    world.carrier.on_request = behind
    answered(world)
    assert [r.cseq.number for r in world.carrier.got("INVITE")] == [1, 2, 3]
    given = Credentials.parse(carrier.accepted[0].headers.get("Authorization") or "")
    assert given is not None and given.realm == "behind"
    hung_up(world)


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO"])
@pytest.mark.parametrize("status", [401, 407])
def test_a_challenged_request_inside_the_dialog_is_sent_again(method: str, status: int) -> None:
    world, carrier = asking(status)
    carrier.asks = lambda request: request.to.tag is not None and request.method == method
    answered(world)
    world.pbx.responses.clear()
    if method == "BYE":
        world.pbx.bye()
    else:
        body = b"Signal=1\r\n" if method == "INFO" else sdp(PBX, 4002)
        world.pbx.in_dialog(method, body)
    world.run_until(lambda: 200 in world.pbx.statuses(method))
    world.run(1.0)  # the BYE of the caller is answered before its own is
    assert world.pbx.statuses(method) == [200]
    assert [r.cseq.number for r in carrier.challenged] == [2]
    again = carrier.accepted[-1]
    assert (again.method, again.cseq.number) == (method, 3)
    if method == "BYE":
        world.run_until(lambda: world.calls.idle)
        return
    world.run(1.0)
    if method == "INVITE":
        assert world.carrier.acks[-1].cseq.number == 3
    hung_up(world)
    assert world.carrier.got("BYE")[-1].cseq.number == 4


def test_a_challenged_prack_is_sent_again_in_its_early_dialog() -> None:
    world, carrier = asking()
    callee = Callee(world)
    deal = world.carrier.on_request
    carrier.asks = lambda request: request.method == "PRACK"

    def on_request(tx: object, request: Request) -> None:
        if request.method == "PRACK" and not carrier.is_right(request):
            carrier.challenged.append(request)
            carrier.challenge(tx, request)
        else:
            deal(tx, request)

    world.carrier.on_request = on_request
    world.pbx.call()
    world.run_until(lambda: bool(callee.invites))
    callee.progress(1)
    world.run_until(lambda: bool(callee.pracks))
    (refused,), (prack,) = carrier.challenged, callee.pracks
    assert prack.headers.get("RAck") == refused.headers.get("RAck") == "1 1 INVITE"
    assert prack.cseq.number == refused.cseq.number + 1
    callee.answer()
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)
    hung_up(world)
    assert world.carrier.got("BYE")[-1].cseq.number == prack.cseq.number + 1


@pytest.mark.parametrize(("allow", "method"), [("INVITE, UPDATE", "UPDATE"), ("", "INVITE")])
def test_a_challenged_refresh_of_the_session_is_sent_again(allow: str, method: str) -> None:
    world, carrier = asking(carrier={"session_expires_s": 100})
    carrier.asks = lambda request: request.to.tag is not None
    world.carrier.headers = {"Session-Expires": "100;refresher=uac", "Require": "timer"}
    if allow:
        world.carrier.headers["Allow"] = allow
    answered(world)
    world.run(300)
    assert len(world.calls.active) == 1
    refreshes = [r for r in carrier.accepted if r.method == method and r.to.tag is not None]
    assert len(refreshes) == 6
    assert [r.method for r in carrier.challenged] == [method]  # then they have them at once
    hung_up(world)


def test_a_challenged_notify_of_a_transfer_is_sent_again() -> None:
    """And so is the INVITE of the transfer, which goes to the same trunk."""
    world, carrier = asking(carrier={"transfer": "enable-all"})
    answered(world)
    assert world.carrier.dialog is not None
    refer = world.carrier.dialog.request("REFER", contact=f"<sip:{CARRIER}:5060>")
    refer.headers.add("Refer-To", f"<sip:+35315550177@{RELAY}>")
    carrier.counts.clear()  # all nonces are too old now
    world.carrier.send(refer)
    world.run_until(lambda: any(r.method == "NOTIFY" for r in carrier.accepted))
    assert "NOTIFY" in {request.method for request in carrier.challenged}
    assert "credentials_refused" not in world.journal.names()
    world.run(60)
    assert not world.bugs


def test_the_callers_trunk_may_ask_for_credentials_too() -> None:
    """A call from the carrier: our BYE towards it is challenged."""
    world = World()
    credential = Credential(username=USER, password=SecretStr(PASSWORD))
    world.calls.logins["carrier"] = Login("carrier", credential, world.calls)
    world.carrier.call()
    world.run_until(lambda: 200 in world.carrier.statuses())
    world.run(1.0)
    carrier = Carrier(world)
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert [request.method for request in carrier.accepted] == ["BYE"]
    assert len(carrier.challenged) == 1


def test_a_call_that_was_cancelled_is_not_sent_again() -> None:
    """The caller's CANCEL and the carrier's 407 cross."""
    world, carrier = asking()
    world.carrier.on_request = lambda tx, request: None
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.requests))
    world.pbx.cancel()
    world.run(0.1)
    invite_tx = next(iter(world.carrier.layer._live.servers.values()))
    carrier.challenge(invite_tx, world.carrier.requests[0])
    world.run_until(lambda: world.calls.idle)
    world.run(1.0)
    assert world.pbx.statuses() == [487]
    assert len(world.carrier.got("INVITE")) == 1


def test_a_call_that_is_cancelled_after_the_challenge_is_cancelled_at_the_carrier() -> None:
    """The CANCEL belongs to the second INVITE: the first one's 100 means nothing for it."""
    world, carrier = asking()
    silent = True

    def ring(tx: object, request: Request) -> None:
        if carrier.is_right(request):
            if not silent:
                world.carrier.ring(tx, request)
        else:
            carrier.challenge(tx, request)

    world.carrier.on_request = ring
    world.drop = lambda source, to, data: (
        source == CARRIER and data.startswith(b"SIP/2.0 100") and b"CSeq: 2 " in data
    )
    world.pbx.call()
    world.run_until(lambda: len(world.carrier.got("INVITE")) == 2)
    world.pbx.cancel()
    world.run(0.2)
    assert not world.carrier.cancelled  # nothing provisional came for the second INVITE
    world.drop = lambda source, to, data: False
    second = world.carrier.got("INVITE")[-1]
    tx = next(t for t in world.carrier.layer._live.servers.values() if t.request is second)
    world.carrier.ring(tx, second)
    world.run_until(lambda: world.calls.idle)
    assert [r.cseq.number for r in world.carrier.cancelled] == [2]
    assert world.pbx.statuses() == [487]


def test_lost_messages_change_nothing() -> None:
    for seed in range(8):
        world, carrier = asking(loss=0.2, seed=seed)
        answered(world)
        world.run_until(lambda world=world: bool(world.carrier.acks))
        hung_up(world)
        assert carrier.accepted[0].cseq.number == 2


def test_nothing_of_the_credentials_reaches_the_other_leg() -> None:
    world, _ = asking()
    answered(world)
    hung_up(world)
    for source, to, data in world.wire:
        if source == RELAY and to == PBX:
            assert USER.encode() not in data and REALM.encode() not in data
