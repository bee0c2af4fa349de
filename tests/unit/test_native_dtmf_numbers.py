"""Keys between two phones that know telephone-event by other numbers, from SDP to the engine."""

from __future__ import annotations

import struct

import pytest

from relay.call.ports import DtmfPressed, Side
from relay.sdp.negotiation import Stream, leg_media
from relay.sdp.session import Session
from tests.unit.media_rig import Peer, Rig, rig
from tests.unit.srtp_rig import Phone

EVENTS_8000 = "telephone-event/8000"


def described(peer: Peer, *formats: str) -> Stream:
    """`formats` are such as "96 telephone-event/8000"."""
    numbers = " ".join(text.split()[0] for text in formats)
    lines = ["v=0", f"o=- 1 1 IN IP4 {peer.host}", "s=-", f"c=IN IP4 {peer.host}", "t=0 0"]
    lines += [f"m=audio {peer.port} RTP/AVP {numbers}", *(f"a=rtpmap:{text}" for text in formats)]
    return Stream(Session.parse("\r\n".join([*lines, ""]).encode()), 0)


def describe(r: Rig, caller: tuple[str, ...], callee: tuple[str, ...], phone: Phone | None) -> None:
    a, b = described(r.caller, *caller), described(r.callee, *callee)
    srtp = phone.leg().srtp if phone is not None else None
    r.call.update(Side.CALLER, leg_media(a, b, False, srtp))
    r.call.update(Side.CALLEE, leg_media(b, a, False))


def press(peer: Peer, number: int, key: int) -> list[bytes]:
    """RFC 4733 section 2.5.1: updates with one timestamp, then the end three times."""
    peer.sequence += 1
    start = peer.sequence * 160
    packets = []
    for step in range(1, 8):
        ends = 0x80 if step >= 5 else 0
        ticks = min(step, 5) * 160
        head = struct.pack(
            "!BBHII", 0x80, number | (0x80 if step == 1 else 0), peer.sequence, start, peer.ssrc
        )
        packets.append(head + struct.pack("!BBH", key, ends | 10, ticks))
        peer.sequence += 1
    return packets


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("sent_as", [96, 101])
def test_a_key_is_reported_once_and_heard_under_the_number_that_its_hearer_knows(
    sent_as: int, secure: bool
) -> None:
    """RFC 3264: a phone sends by its partner's numbers; some send by their own."""
    with rig() as r:
        phone = Phone(r.caller) if secure else None
        describe(
            r, ("0 PCMU/8000", f"96 {EVENTS_8000}"), ("0 PCMU/8000", f"101 {EVENTS_8000}"), phone
        )
        for key in (5, 5, 11):
            for plain in press(r.caller, sent_as, key):
                r.caller.send(r.at_caller, phone.sending.protect(plain) if phone else plain)
                heard = r.callee.rtp.recv(4096)
                assert heard[1] & 0x7F == 101
                assert heard[2:] == plain[2:]
        r.wait_for(DtmfPressed(Side.CALLER, "#", 100))
        keys = [event.key for _, event in r.events if isinstance(event, DtmfPressed)]
        assert keys == ["5", "5", "#"]


def test_a_number_that_is_another_codec_at_the_other_side_is_not_taken_for_a_key() -> None:
    with rig() as r:
        describe(
            r,
            ("0 PCMU/8000", f"101 {EVENTS_8000}"),
            ("0 PCMU/8000", "101 SPEEX/8000", f"96 {EVENTS_8000}"),
            None,
        )
        for plain in press(r.caller, 101, 5):
            r.caller.send(r.at_caller, plain)
            assert r.callee.rtp.recv(4096) == plain
        for plain in press(r.caller, 96, 7):
            r.caller.send(r.at_caller, plain)
            assert r.callee.rtp.recv(4096)[1] & 0x7F == 96
        r.wait_for(DtmfPressed(Side.CALLER, "7", 100))
        assert [e.key for _, e in r.events if isinstance(e, DtmfPressed)] == ["7"]
