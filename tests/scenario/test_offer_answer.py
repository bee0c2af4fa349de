"""Every kind of leg with every other: a plain trunk, an SDES trunk, a voice client.

What a call does with its media must work for any two of them, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from relay.call.ports import LegMedia, Side
from relay.sip.message import Request
from tests.scenario.test_attack import assert_clean
from tests.scenario.world import (
    CARRIER,
    CLIENT_NUMBER,
    NUMBER,
    PBX,
    RELAY,
    Device,
    Phone,
    World,
    sdp,
    webrtc,
)

KEYS = {  # of an a=crypto line
    PBX: "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
    CARRIER: "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
}
SDES = {"srtp": "required", "srtp_suites": ("AES_CM_128_HMAC_SHA1_80",)}
KINDS = ("plain", "sdes", "client")
PAIRS = list(product(KINDS, KINDS))
Describe = Callable[..., bytes]


class Party:
    """A phone, and how it describes itself."""

    def __init__(self, phone: Phone, kind: str) -> None:
        self.phone = phone
        self.kind = kind
        self.ufrag = "aB3+"
        self.codecs = "0 8 101"

    def body(self, offer: bool, direction: str = "sendrecv") -> bytes:
        host = self.phone.host
        if self.kind == "client":
            text = webrtc("actpass" if offer else "active", self.ufrag, self.codecs)
            return text + f"a={direction}\r\n".encode()
        lines = [f"a={direction}"]
        if self.kind == "sdes":
            lines.append(f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEYS[host]}")
        text = sdp(host, 4000, self.codecs, "\r\n".join(lines))
        return text.replace(b"RTP/AVP", b"RTP/SAVP") if self.kind == "sdes" else text


class Call:
    """A call between two kinds; `caller` and `callee` are its parties."""

    def __init__(
        self, caller: str, callee: str, delayed: bool = False, target: str = "plain"
    ) -> None:
        """`delayed`: nobody calls yet. `target` is the carrier, when a client is called."""
        self.world = world = World(
            pbx=SDES if caller == "sdes" else {},
            carrier=SDES if "sdes" in (callee, target) else {},
            account={"transfer": "enable-all"},
        )
        self.caller = Party(self._phone(caller, "alice", world.pbx), caller)
        self.callee = Party(self._phone(callee, "bob", world.carrier), callee)
        world.router.clients["+35315550122"] = "bob"
        self.number = "+35315550122" if callee == "client" else NUMBER
        for party in (self.caller, self.callee):
            party.phone.on_request = self._answers(party)
        self.direction = "sendrecv"  # of what is answered
        if not delayed:
            self.caller.phone.call(self.number, self.caller.body(True))

    def _phone(self, kind: str, identity: str, trunk: Phone) -> Phone:
        return self.world.device(identity) if kind == "client" else trunk

    def _answers(self, party: Party) -> Callable[[object, Request], None]:
        def on_request(tx: object, request: Request) -> None:
            offered = bool(request.body)
            body = party.body(not offered, self.direction)
            if request.method == "INVITE":
                party.phone.answer(tx, request, body=body)
            elif request.method == "UPDATE" and offered:
                party.phone.reply(tx, request, 200, body=body)
            else:
                party.phone.reply(tx, request, 200)

        return on_request

    def connected(self) -> Call:
        self.world.run_until(lambda: bool(self.callee.phone.acks) and bool(self.updates(0)))
        self.world.run(0.2)
        return self

    def updates(self, call: int = 0) -> list[LegMedia]:
        return self.world.media.calls[call].updates[Side.CALLER]

    def leg(self, side: Side) -> LegMedia:
        return self.world.media.calls[0].updates[side][-1]

    def party(self, side: Side) -> Party:
        return self.caller if side is Side.CALLER else self.callee

    def in_dialog(self, side: Side, method: str, body: bytes) -> bytes:
        """A request from one side; returns the description that answers it."""
        phone = self.party(side).phone
        before = len(phone.responses)
        phone.in_dialog(method, body)
        self.world.run_until(
            lambda: any(r.status >= 200 and r.body for r in phone.responses[before:])
        )
        self.world.run(0.2)
        return next(r.body for r in phone.responses[before:] if r.status >= 200)

    def end(self) -> None:
        self.caller.phone.bye()
        self.world.run_until(lambda: self.world.calls.idle)
        assert_clean(self.world)


def check(kind: str, leg: LegMedia, body: bytes = b"") -> None:
    """That the engine is told what this kind of leg is, and the peer the same."""
    assert (leg.webrtc is not None, leg.srtp is not None, leg.remote is None) == {
        "plain": (False, False, False),
        "sdes": (False, True, False),
        "client": (True, False, True),
    }[kind]
    profile = {"plain": b" RTP/AVP ", "sdes": b" RTP/SAVP ", "client": b" UDP/TLS/RTP/SAVPF "}
    if body:
        assert profile[kind] in body
        assert (b"a=fingerprint:" in body, b"inline:" in body) == (
            kind == "client",
            kind == "sdes",
        )


def described(phone: Phone) -> list[bytes]:
    """What it was told of media, in requests, responses and acknowledgements."""
    messages = [*phone.requests, *phone.responses, *phone.acks]
    return [message.body for message in messages if message.body.startswith(b"v=0")]


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_a_call_with_hold_and_resume_by_each_side(caller: str, callee: str) -> None:
    call = Call(caller, callee).connected()
    first = {side: call.leg(side) for side in Side}
    for side in Side:
        party, other = call.party(side), call.leg(side.other)
        call.direction = "recvonly"
        back = call.in_dialog(side, "INVITE", party.body(True, "sendonly"))
        assert b"a=recvonly" in back
        assert not call.leg(side.other).may_send and call.leg(side).may_send
        assert call.leg(side.other).webrtc == other.webrtc
        call.direction = "sendrecv"
        back = call.in_dialog(side, "INVITE", party.body(True))
        assert b"a=recvonly" not in back
    for side in Side:
        check(call.party(side).kind, call.leg(side))
        for body in described(call.party(side).phone):
            check(call.party(side).kind, call.leg(side), body)
        assert call.leg(side)._replace(webrtc=None) == first[side]._replace(webrtc=None)
        assert call.leg(side).may_send and call.leg(side).may_receive
    call.end()


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_hold_by_update(caller: str, callee: str) -> None:
    call = Call(caller, callee)
    for party in (call.caller, call.callee):
        party.phone.headers = {"Allow": "INVITE, ACK, BYE, CANCEL, UPDATE"}
    call.connected()
    call.direction = "recvonly"
    assert b"a=recvonly" in call.in_dialog(
        Side.CALLER, "UPDATE", call.caller.body(True, "sendonly")
    )
    assert call.callee.phone.got("UPDATE") and not call.leg(Side.CALLEE).may_send
    call.end()


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_a_delayed_offer(caller: str, callee: str) -> None:
    """The callee offers in its 2xx, the caller answers in its ACK."""
    call = Call(caller, callee, delayed=True)
    call.caller.phone.acknowledge = False
    call.caller.phone.call(call.number, b"")
    call.world.run_until(lambda: 200 in call.caller.phone.statuses())
    answered = next(r for r in call.caller.phone.responses if r.status == 200)
    assert answered.body
    call.caller.phone.send_ack(answered, call.caller.body(False))
    call.world.run_until(lambda: bool(call.callee.phone.acks))
    assert call.callee.phone.acks[0].body
    for side in Side:
        check(call.party(side).kind, call.leg(side))
    check(caller, call.leg(Side.CALLER), answered.body)
    check(callee, call.leg(Side.CALLEE), call.callee.phone.acks[0].body)
    call.end()


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_an_empty_re_invite(caller: str, callee: str) -> None:
    """Its offer comes from the other side, its answer with the ACK (diago's #124, #125)."""
    call = Call(caller, callee).connected()
    phone = call.caller.phone
    phone.acknowledge = False
    before, acks = len(phone.responses), len(call.callee.phone.acks)
    phone.in_dialog("INVITE")
    call.world.run_until(lambda: any(r.body for r in phone.responses[before:]))
    accepted = next(r for r in phone.responses[before:] if r.body)
    check(caller, call.leg(Side.CALLER), accepted.body)
    phone.send_ack(accepted, call.caller.body(False))
    call.world.run_until(lambda: len(call.callee.phone.acks) > acks)
    check(callee, call.leg(Side.CALLEE), call.callee.phone.acks[-1].body)
    call.end()


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_early_media(caller: str, callee: str) -> None:
    """The 18x has the answer; the 2xx repeats it, and nothing begins anew."""
    call = Call(caller, callee, delayed=True)
    phone = call.callee.phone

    def rings(tx: object, request: Request) -> None:
        phone.on_request = call._answers(call.callee)
        phone.invite, phone.invite_tx = request, tx
        phone.ring(tx, request, body=call.callee.body(False))

    phone.on_request = rings
    call.caller.phone.call(call.number, call.caller.body(True))
    call.world.run_until(lambda: 183 in call.caller.phone.statuses())
    early = {side: call.leg(side) for side in Side}
    phone.answer(phone.invite_tx, phone.invite, body=call.callee.body(False))
    call.connected()
    bodies = [r.body for r in call.caller.phone.responses if r.status in (183, 200)]
    assert bodies[0] == bodies[1]
    assert {side: call.leg(side) for side in Side} == early
    for side in Side:
        check(call.party(side).kind, early[side])
    call.end()


@pytest.mark.parametrize(("stays", "target"), PAIRS)
def test_a_client_transfers_the_other_side(stays: str, target: str) -> None:
    """Who stays hears of its new party, who may be any kind, and keeps its own keys."""
    call = Call(stays, "client", target=target).connected()
    world = call.world
    world.router.clients[CLIENT_NUMBER] = "carol"
    new = Party(world.device("carol") if target == "client" else world.carrier, target)
    new.codecs, new.ufrag = "8 101", "zZ9/"  # not what was talked before
    new.phone.on_request = call._answers(new)
    before = call.leg(Side.CALLER)
    assert call.callee.phone.dialog is not None
    refer = call.callee.phone.dialog.request("REFER", contact=call.callee.phone.contact)
    number = CLIENT_NUMBER if target == "client" else NUMBER
    refer.headers.add("Refer-To", f"<sip:{number}@{RELAY}>")
    call.callee.phone.send(refer)
    world.run_until(lambda: bool(call.caller.phone.got("INVITE")) and bool(new.phone.acks))
    world.run(5.0)
    check(target, call.leg(Side.CALLEE), new.phone.requests[0].body)
    check(stays, call.leg(Side.CALLER), call.caller.phone.requests[0].body)
    after = call.leg(Side.CALLER)
    assert (after.webrtc, after.srtp, after.remote) == (before.webrtc, before.srtp, before.remote)
    assert 8 in call.leg(Side.CALLER).payload_types
    webrtc_leg = call.leg(Side.CALLEE).webrtc
    assert webrtc_leg is None or webrtc_leg.remote_ufrag == "zZ9/"
    new.phone.bye()
    world.run_until(lambda: world.calls.idle)
    assert_clean(world)


def test_early_media_and_then_another_address_answers() -> None:
    """A client that calls keeps its path and its keys: only the callee's side is new."""
    world = World()
    first, second = world.carrier_at("192.0.2.31", "192.0.2.32")
    alice = world.device("alice")

    def fails(tx: object, request: Request) -> None:
        first.ring(tx, request, body=sdp(first.host, 5000))
        first.reply(tx, request, 503)

    first.on_request = fails
    second.on_request = lambda tx, request: (
        second.answer(tx, request, body=sdp(second.host, 5002))
        if request.method == "INVITE"
        else second.reply(tx, request, 200)
    )
    alice.call(NUMBER)
    world.run_until(lambda: bool(second.acks))
    told = [r.body for r in alice.responses if r.body]
    ours = [
        [line for line in body.splitlines() if line.startswith((b"a=ice", b"a=setup", b"a=fi"))]
        for body in told
    ]
    assert len(told) == 2 and ours[0] == ours[1]
    updates = world.media.calls[0].updates
    assert len({leg.webrtc.local_ufrag for leg in updates[Side.CALLER] if leg.webrtc}) == 1
    assert updates[Side.CALLEE][-1].remote is not None
    assert updates[Side.CALLEE][-1].remote.host == second.host
    alice.bye()
    world.run_until(lambda: world.calls.idle)
    assert_clean(world)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("other", KINDS)
@pytest.mark.parametrize("side", Side)
def test_an_ice_restart_is_the_clients_alone(side: Side, other: str, method: str) -> None:
    """Its network changed: it has an answer at once, the other side hears nothing."""
    call = Call(*(("client", other) if side is Side.CALLER else (other, "client"))).connected()
    party, before = call.party(side), call.leg(side)
    heard = len(call.party(side.other).phone.requests)
    updates = len(call.world.media.calls[0].updates[side.other])
    party.ufrag = "zZ9/"
    back = call.in_dialog(side, method, party.body(True))
    check("client", call.leg(side), back)
    now = call.leg(side)
    assert now.webrtc and before.webrtc
    assert now.webrtc.remote_ufrag == "zZ9/"
    assert now.webrtc.local_ufrag != before.webrtc.local_ufrag
    assert now.webrtc.fingerprints == before.webrtc.fingerprints
    assert now.webrtc.dtls_client == before.webrtc.dtls_client
    assert len(call.party(side.other).phone.requests) == heard
    assert len(call.world.media.calls[0].updates[side.other]) == updates
    call.end()


def test_an_ice_restart_with_a_hold_reaches_the_other_side() -> None:
    call = Call("client", "plain").connected()
    call.caller.ufrag, call.direction = "zZ9/", "recvonly"
    back = call.in_dialog(Side.CALLER, "INVITE", call.caller.body(True, "sendonly"))
    assert b"a=recvonly" in back
    assert b"a=sendonly" in call.callee.phone.requests[-1].body
    webrtc_leg = call.leg(Side.CALLER).webrtc
    assert webrtc_leg is not None and webrtc_leg.remote_ufrag == "zZ9/"
    call.end()


# --- codecs


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("other", ["plain", "sdes"])
def test_opus_against_g711_is_transcoded(side: Side, other: str) -> None:
    """A client that has Opus alone, calling and called; each side hears of its own codec."""
    kinds = ("client", other) if side is Side.CALLER else (other, "client")
    call = Call(*kinds, delayed=True)
    g711 = call.party(side).body

    def opus(offer: bool, direction: str = "sendrecv") -> bytes:
        text = g711(offer, direction).replace(b"SAVPF 0 8 101", b"SAVPF 96 97")
        names = b"a=rtpmap:96 opus/48000/2\r\na=rtpmap:97 telephone-event/48000\r\n"
        return text + names

    call.party(side).body = opus  # type: ignore[method-assign]
    call.caller.phone.call(call.number, call.caller.body(True))
    call.connected()
    coded, plain = call.leg(side).coding, call.leg(side.other).coding
    assert coded and (coded.codec, coded.payload_type, coded.telephone_event) == ("OPUS", 96, 97)
    assert plain and (plain.codec, plain.payload_type, plain.telephone_event) == ("PCMU", 0, 101)
    for body in described(call.party(side.other).phone)[-1:]:
        assert b" 0 " in body or b" 0\r\n" in body
    answered = call.world.journal.last("call_answered")
    assert (answered["codec"], answered["transcoded"]) == ("PCMU", True)
    assert answered[f"{'caller' if side is Side.CALLER else 'callee'}_srtp"] == "DTLS"
    call.end()


@pytest.mark.parametrize("answered", [True, False])
def test_without_transcoding_the_caller_hears_why(answered: bool) -> None:
    """Whether the trunk answers with a codec of its own all the same, or refuses with 488."""
    call = Call("client", "plain", delayed=True)
    call.world.media.transcodes = False
    if not answered:
        call.callee.phone.on_request = lambda tx, request: call.callee.phone.reply(
            tx, request, 488 if request.method == "INVITE" else 200
        )
    body = call.caller.body(True).replace(b"SAVPF 0 8 101", b"SAVPF 96")
    call.caller.phone.call(call.number, body + b"a=rtpmap:96 opus/48000/2\r\n")
    call.world.run_until(lambda: 488 in call.caller.phone.statuses())
    warning = call.caller.phone.responses[-1].headers.get("Warning") or ""
    assert "no common codec, and transcoding is not built" in warning
    call.world.run_until(lambda: call.world.calls.idle)
    assert bool(call.callee.phone.got("BYE")) == answered
    assert_clean(call.world)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a=rtcp-mux", "a=rtcp-mux is missing"),
        (b"a=fingerprint", "a=fingerprint is missing"),
        (b"a=ice-pwd", "a=ice-ufrag or a=ice-pwd is missing"),
    ],
)
def test_what_is_missing_is_said(line: bytes, text: str) -> None:
    world = World()
    alice: Device = world.device("alice")
    body = b"\r\n".join(
        each for each in alice.describe(0, True).split(b"\r\n") if not each.startswith(line)
    )
    alice.call(NUMBER, body)
    world.run_until(lambda: 488 in alice.statuses())
    assert text in (alice.responses[-1].headers.get("Warning") or "")
    assert world.calls.counters["refused_488"] == 1
    assert not world.carrier.requests


def test_candidates_that_trickle_in_do_not_cross() -> None:
    """RFC 8840: they are the client's addresses, and the relay has no use for them."""
    call = Call("client", "plain").connected()
    phone = call.caller.phone
    assert phone.dialog is not None
    info = phone.dialog.request("INFO", contact=phone.contact)
    info.headers.add("Content-Type", "application/trickle-ice-sdpfrag")
    info.body = b"a=candidate:1 1 udp 2113937151 192.0.2.50 33693 typ host\r\n"
    phone.send(info)
    call.world.run_until(lambda: 488 in phone.statuses("INFO"))
    assert not call.callee.phone.got("INFO")
    call.end()
