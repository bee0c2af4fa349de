"""SRTP keys in the SDP of whole calls (RFC 4568): who is refused, and what may be read where."""

from __future__ import annotations

import pytest

from relay.call.ports import Side
from relay.sdp.crypto import parse_crypto
from tests.scenario.world import CARRIER, PBX, World, sdp

CM80, CM32 = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"
K1 = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
K2 = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
K3 = "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj"
REQUIRED = {"srtp": "required", "srtp_suites": (CM80, CM32)}


def crypto(key: str, tag: int = 1, suite: str = CM80) -> str:
    return f"a=crypto:{tag} {suite} inline:{key}"


def secured(host: str, port: int, line: str, extra: str = "") -> bytes:
    body = sdp(host, port, extra="\r\n".join(filter(None, [line, extra])))
    return body.replace(b"RTP/AVP", b"RTP/SAVP")


def connected(world: World, offer: bytes, answer: bytes) -> None:
    world.carrier.on_request = lambda tx, request: (
        world.carrier.answer(tx, request, body=answer)
        if request.method == "INVITE"
        else world.carrier.reply(tx, request, 200)
    )
    world.pbx.call(body=offer)
    world.run_until(lambda: 200 in world.pbx.statuses() and bool(world.carrier.acks))


def told(world: World, host: str) -> bytes:
    """All that left for this host."""
    return b"".join(data for _, to, data in world.wire if to == host)


def test_a_plain_call_on_a_trunk_that_requires_srtp() -> None:
    world = World(pbx=REQUIRED)
    world.pbx.call()
    world.run_until(lambda: 488 in world.pbx.statuses())
    warning = world.pbx.responses[-1].headers.get("Warning") or ""
    assert '"this trunk requires SRTP (a=crypto with RTP/SAVP)"' in warning
    assert world.calls.counters["refused_488"] == 1
    assert not world.carrier.requests


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (f"a=crypto:1 {CM80} inline:{K1[:-4]}", f"the key and salt of {CM80} are 30 octets"),
        (f"a=crypto:1 {CM80} inline:{K1} UNENCRYPTED_SRTP", "without encryption"),
        ("a=crypto:1 F8_128_HMAC_SHA1_80 inline:" + K1, "F8_128_HMAC_SHA1_80 is not supported"),
        ("a=crypto:" + K1, "needs a tag, a suite and a key"),
    ],
)
def test_a_crypto_line_that_cannot_be_used(line: str, text: str) -> None:
    """The PBX's engineer reads what is wrong with it, and nobody reads the key."""
    world = World(pbx=REQUIRED)
    world.pbx.call(body=secured(PBX, 4000, line))
    world.run_until(lambda: 488 in world.pbx.statuses())
    assert text in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert K1[:12].encode() not in told(world, PBX)
    assert K1[:12] not in repr(world.journal.events)


def test_no_key_of_one_leg_is_read_on_the_other() -> None:
    world = World(pbx=REQUIRED, carrier=REQUIRED)
    connected(
        world,
        secured(PBX, 4000, crypto(K1, 4)),
        secured(CARRIER, 5000, crypto(K2, 2, CM32)),
    )
    legs = {side: world.media.calls[0].updates[side][-1].srtp for side in Side}
    caller, callee = legs[Side.CALLER], legs[Side.CALLEE]
    assert caller and callee
    assert caller.receive == parse_crypto(f"4 {CM80} inline:{K1}").keys
    assert callee.receive == parse_crypto(f"2 {CM32} inline:{K2}").keys
    to_pbx, to_carrier = told(world, PBX), told(world, CARRIER)
    assert K1.encode() not in to_pbx + to_carrier
    assert K2.encode() not in to_pbx + to_carrier
    ours = [part.split()[0] for part in (to_pbx + b" ").split(b"inline:")[1:]]
    assert ours and not any(key in to_carrier for key in ours)
    assert "inline" not in repr(world.journal.events)
    answered = world.journal.last("call_answered")
    assert (answered["caller_srtp"], answered["callee_srtp"]) == (CM80, CM32)


def test_a_callee_that_answers_with_a_tag_that_nobody_offered() -> None:
    """The caller is told whose fault it was; the callee's 2xx is acknowledged and ended."""
    world = World(carrier=REQUIRED)
    world.carrier.on_request = lambda tx, request: (
        world.carrier.answer(tx, request, body=secured(CARRIER, 5000, crypto(K2, 9)))
        if request.method == "INVITE"
        else world.carrier.reply(tx, request, 200)
    )
    world.pbx.call()
    world.run_until(lambda: 502 in world.pbx.statuses() and bool(world.carrier.got("BYE")))
    assert "tag 9 was not offered" in (world.pbx.responses[-1].headers.get("Warning") or "")
    world.run_until(lambda: world.calls.idle)
    assert not world.media.calls[0].updates[Side.CALLEE]


def test_a_new_key_by_re_invite_and_hold_without_one() -> None:
    world = World(pbx=REQUIRED, carrier=REQUIRED)
    answer = secured(CARRIER, 5000, crypto(K2))
    connected(world, secured(PBX, 4000, crypto(K1)), answer)
    updates = world.media.calls[0].updates
    first = {side: updates[side][-1].srtp for side in Side}
    world.pbx.in_dialog("INVITE", secured(PBX, 4000, crypto(K1), "a=sendonly"))
    world.run_until(lambda: world.pbx.statuses().count(200) == 2)
    assert {side: updates[side][-1].srtp for side in Side} == first
    world.pbx.in_dialog("INVITE", secured(PBX, 4000, crypto(K3)))
    world.run_until(lambda: world.pbx.statuses().count(200) == 3)
    assert updates[Side.CALLEE][-1].srtp == first[Side.CALLEE]
    renewed = updates[Side.CALLER][-1].srtp
    assert renewed and renewed.receive == parse_crypto(f"1 {CM80} inline:{K3}").keys
    assert renewed.send != first[Side.CALLER].send


def test_a_re_invite_that_gives_up_srtp_is_refused_and_the_call_goes_on() -> None:
    world = World(pbx=REQUIRED)
    connected(world, secured(PBX, 4000, crypto(K1)), sdp(CARRIER, 5000))
    before = len(world.media.calls[0].updates[Side.CALLER])
    world.pbx.in_dialog("INVITE", sdp(PBX, 4000))
    world.run_until(lambda: 488 in world.pbx.statuses())
    assert len(world.media.calls[0].updates[Side.CALLER]) == before
    assert len(world.carrier.got("INVITE")) == 1
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)


def test_the_branch_that_answers_has_a_key_of_its_own() -> None:
    """Early media of one phone end when another one answers."""
    world = World(carrier=REQUIRED)

    def fork(tx: object, request: object) -> None:
        if request.method != "INVITE":
            world.carrier.reply(tx, request, 200)
            return
        early, other = secured(CARRIER, 5000, crypto(K2)), secured(CARRIER, 6000, crypto(K3))
        world.carrier.ring(tx, request, "b1", early)
        world.carrier.answer(tx, request, "b2", other)

    world.carrier.on_request = fork
    world.pbx.call()
    world.run_until(lambda: 200 in world.pbx.statuses())
    last = world.media.calls[0].updates[Side.CALLEE][-1]
    assert last.remote is not None and last.remote.port == 6000
    assert last.srtp is not None
    assert last.srtp.receive == parse_crypto(f"1 {CM80} inline:{K3}").keys


def test_a_codec_that_changes_while_it_is_recorded_is_an_event() -> None:
    world = World(recording="record-from-answer")
    codecs = iter(["0 8 101", "8", "9"])

    def answer(tx: object, request: object) -> None:
        body = sdp(CARRIER, 5000, next(codecs)) if request.method == "INVITE" else b""
        if body:
            world.carrier.answer(tx, request, body=body)
        else:
            world.carrier.reply(tx, request, 200)

    world.carrier.on_request = answer
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses().count(200)))
    world.run_until(lambda: bool(world.recorder.started))
    for count, codec, recorded in ((2, "8", True), (3, "9", False)):
        world.pbx.in_dialog("INVITE", sdp(PBX, 4000, codec))
        world.run_until(lambda wanted=count: world.pbx.statuses().count(200) == wanted)
        assert world.journal.last("recording_codec_changed")["recorded"] is recorded
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.journal.names().count("recording_codec_changed") == 2
