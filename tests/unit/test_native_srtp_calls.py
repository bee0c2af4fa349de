"""SRTP on the legs of a call: phones with libsrtp on both sides of a running engine."""

from __future__ import annotations

import struct
import time

import pytest

from relay import _native
from relay.call.ports import DtmfPressed, Latched, Side, StreamChanged
from relay.errors import NotAcceptable
from relay.rtp import packet, rtcp
from relay.sdp.description import SrtpKey, SrtpKeys
from tests.unit.media_rig import EVENTS, PCMU, Peer, Rig, rig, until
from tests.unit.srtp_rig import SUITE_NAMES, Phone, fresh_key, libsrtp

LOOPBACK = ("127.0.0.0/8",)


def secure_caller(r: Rig, suite: str = SUITE_NAMES[0], **more: object) -> Phone:
    """An SRTP caller and a plain callee."""
    phone = Phone(r.caller, suite)
    r.call.update(Side.CALLER, phone.leg(**more))
    r.call.update(Side.CALLEE, r.callee.leg())
    return phone


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_between_srtp_and_plain_rtp(suite: str) -> None:
    with rig() as r:
        phone = secure_caller(r, suite)
        for n in range(5):
            sent = phone.send(r.at_caller, payload=bytes([n]) * 160)
            assert r.callee.rtp.recv(4096) == sent
            back = r.callee.send(r.at_callee)
            assert phone.hear() == back
        r.wait_for_relayed(5)
        figures = r.call.figures(Side.CALLER)
        assert (figures.octets, figures.lost, figures.drops) == (5 * 160, 0, {})


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_between_two_srtp_peers_with_other_suites_and_keys(suite: str) -> None:
    with rig() as r:
        left = Phone(r.caller, suite)
        right = Phone(r.callee, SUITE_NAMES[SUITE_NAMES.index(suite) - 1])
        r.call.update(Side.CALLER, left.leg())
        r.call.update(Side.CALLEE, right.leg())
        for _ in range(3):
            assert (left.send(r.at_caller), right.send(r.at_callee)) == (right.hear(), left.hear())


@pytest.mark.parametrize("suite", SUITE_NAMES)
@pytest.mark.parametrize("mux", [False, True])
def test_reports_are_srtcp_on_that_side_only(suite: str, mux: bool) -> None:
    report = rtcp.receiver_report(7)
    with rig() as r:
        phone = secure_caller(r, suite, mux=mux)
        port = r.caller.rtp if mux else r.caller.rtcp
        to = (r.at_caller.host, r.at_caller.port if mux else r.at_caller.rtcp_port)
        for _ in range(3):
            port.sendto(phone.sending.protect_rtcp(report), to)
            assert r.callee.rtcp.recv(4096) == report
            r.callee.rtcp.sendto(report, (r.at_callee.host, r.at_callee.rtcp_port))
            assert phone.receiving.unprotect_rtcp(port.recv(4096)) == report
        port.sendto(report, to)
        r.wait_for_drop("srtp_too_short")
        port.sendto(report + bytes(40), to)
        r.wait_for_drop("srtp_authentication_failed")
        assert r.call.figures(Side.CALLER).packets == 0


def test_csrc_and_extension_stay_in_the_clear_and_are_authenticated() -> None:
    with rig() as r:
        phone = secure_caller(r)
        head = bytes([0x80 | 0x20 | 0x10 | 2, 0x80]) + bytes(10) + bytes(range(8))
        data = head + b"\xbe\xde\x00\x01abcd" + b"audio" + b"\x00\x00\x03"
        closed = phone.sending.protect(data)
        assert closed[: len(head) + 8] == data[: len(head) + 8]
        r.caller.send(r.at_caller, closed.replace(b"abcd", b"abce"))
        r.wait_for_drop("srtp_authentication_failed")
        r.caller.send(r.at_caller, closed)
        assert r.callee.rtp.recv(4096) == data
        r.wait_for_relayed(1)
        assert r.call.figures(Side.CALLER).octets == len(b"audio")


def test_plain_forged_replayed_and_foreign_packets_change_nothing() -> None:
    with rig() as r:
        phone = secure_caller(r)
        sent = phone.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        first = phone.packet()
        r.caller.send(r.at_caller, first)
        r.callee.rtp.recv(4096)
        other = libsrtp(fresh_key(), True)
        wrong = [
            r.caller.next_packet(),
            other.protect(r.caller.next_packet()),
            first[:-1] + bytes([first[-1] ^ 1]),
            packet.build(PCMU, 60000, 0, 0xBAD, bytes(170)),
        ]
        for count, data in enumerate(wrong, 1):
            r.caller.send(r.at_caller, data)
            r.wait_for_drop("srtp_authentication_failed", count=count)
        reason = r.call.figures(Side.CALLER).reason_for_silence
        r.caller.send(r.at_caller, first)
        r.wait_for_drop("srtp_replayed")
        r.caller.send(r.at_caller, b"\x80\x00" + bytes(12))
        r.wait_for_drop("srtp_too_short")
        figures = r.call.figures(Side.CALLER)
        assert (figures.packets, figures.lost, figures.late, figures.duplicate) == (2, 0, 0, 0)
        assert reason is None  # audio is still relayed
        sent = phone.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent


def test_a_wrong_key_is_named_as_the_reason_for_silence() -> None:
    with rig() as r:
        secure_caller(r)
        r.caller.send(r.at_caller)
        r.wait_for_drop("srtp_authentication_failed")
        reason = r.call.figures(Side.CALLER).reason_for_silence or ""
        assert "authentication failed" in reason


def test_a_source_is_latched_only_by_an_authentic_packet() -> None:
    """The thief is first, and behind the phone's own NAT: without the key it is nobody."""
    with rig(LOOPBACK) as r:
        phone = secure_caller(r, symmetric=True)
        thief, natted = Peer(r.caller.host), Peer(r.caller.host)
        for _ in range(3):
            thief.send(r.at_caller)
        thief.send(r.at_caller, libsrtp(fresh_key(), True).protect(thief.next_packet()))
        r.wait_for_drop("srtp_authentication_failed", count=4)
        assert not any(isinstance(event, Latched) for _, event in r.events)
        data = phone.packet()
        natted.send(r.at_caller, data)
        assert len(r.callee.rtp.recv(4096)) == len(data) - 16
        r.wait_for(Latched(Side.CALLER, natted.host, natted.port))
        thief.send(r.at_caller, data)  # captured, and settled meanwhile
        r.wait_for_drop("wrong_source")
        back = r.callee.send(r.at_callee)
        assert phone.receiving.unprotect(natted.rtp.recv(4096)) == back
        thief.close()
        natted.close()


def test_a_learned_report_port_needs_authentication_too() -> None:
    report = rtcp.receiver_report(7)
    with rig(LOOPBACK) as r:
        phone = secure_caller(r, symmetric=True)
        natted, thief = Peer(r.caller.host), Peer(r.caller.host)
        natted.send(r.at_caller, phone.packet())
        r.callee.rtp.recv(4096)
        at = (r.at_caller.host, r.at_caller.rtcp_port)
        thief.rtcp.sendto(report + bytes(40), at)
        r.wait_for_drop("srtp_authentication_failed")
        natted.rtcp.sendto(phone.sending.protect_rtcp(report), at)
        assert r.callee.rtcp.recv(4096) == report
        r.callee.rtcp.sendto(report, (r.at_callee.host, r.at_callee.rtcp_port))
        assert phone.receiving.unprotect_rtcp(natted.rtcp.recv(4096)) == report
        thief.close()
        natted.close()


@pytest.mark.parametrize("symmetric", [False, True])
def test_spraying_gains_nothing(symmetric: bool) -> None:
    """RTPBleed under SRTP: garbage, guesses and captured packets at every port."""
    with rig(LOOPBACK) as r:
        phone = secure_caller(r, symmetric=symmetric)
        r.call.record(True)
        attacker = Peer("127.1.254.67")
        captured = []
        for number in range(40):
            guessed = packet.build(PCMU, number, 0, r.caller.ssrc, bytes(170))
            for data in (guessed, *captured[-1:]):
                for at in (r.at_caller, r.at_callee):
                    attacker.rtp.sendto(data, (at.host, at.port))
                    attacker.rtcp.sendto(rtcp.receiver_report(1), (at.host, at.rtcp_port))
            plain = r.caller.next_packet(payload=bytes([number]) * 160)
            captured.append(phone.sending.protect(plain))
            r.caller.send(r.at_caller, captured[-1])
            assert r.callee.rtp.recv(4096) == plain
        until(lambda: r.engine.counters()["recorded"] == 40)
        counters = r.engine.counters()
        assert (counters["relayed"], counters["rtcp_relayed"]) == (40, 0)
        attacker.rtp.setblocking(False)
        with pytest.raises(BlockingIOError):
            attacker.rtp.recv(4096)
        attacker.close()


def test_another_ssrc_is_taken_up_even_on_a_latched_leg() -> None:
    """A transfer or music on hold brings another SSRC; the key proves who sends it."""
    with rig(LOOPBACK) as r:
        phone = secure_caller(r, symmetric=True)
        natted = Peer(r.caller.host)
        for ssrc in range(200, 212):
            r.caller.ssrc = ssrc
            plain = r.caller.next_packet()
            natted.send(r.at_caller, phone.sending.protect(plain))
            assert r.callee.rtp.recv(4096) == plain
        r.wait_for(StreamChanged(Side.CALLER))
        natted.close()


def test_keys_pressed_are_read_out_of_srtp() -> None:
    with rig() as r:
        phone = secure_caller(r)
        phone.send(r.at_caller, EVENTS, struct.pack("!BBH", 5, 0x80, 800))
        r.wait_for(DtmfPressed(Side.CALLER, "5", 100))


def test_the_tap_gets_what_was_opened_and_what_was_not_closed_yet() -> None:
    with rig() as r:
        phone = secure_caller(r)
        tap = r.call.record(True)
        reader = _native.TapReader(r.engine.taps, 0)
        reader.start(tap, 0, time.monotonic_ns(), True)
        phone.send(r.at_caller, payload=b"\x11" * 160)
        r.callee.send(r.at_callee, r.callee.next_packet(payload=b"\x22" * 160))
        until(lambda: r.engine.counters()["recorded"] == 2)
        reader.drain(time.monotonic_ns())
        reader.stop(tap, time.monotonic_ns())
        blocks = []

        def ended() -> bool:
            blocks.extend(reader.drain(time.monotonic_ns()))
            return any(block.totals for block in blocks)

        until(ended)
        audio = b"".join(block.data for block in blocks)
        assert b"\x11" * 160 in audio[0::2]
        assert b"\x22" * 160 in audio[1::2]


def test_payload_types_are_renumbered_on_the_way() -> None:
    """Each side hears its own numbers; what it presses is understood by what it sent."""
    with rig() as r:
        phone = Phone(r.caller)
        r.call.update(Side.CALLER, phone.leg(telephone_event=96, payload_map=((EVENTS, 96),)))
        callee = r.callee.leg(payload_types=frozenset({PCMU, 96}), payload_map=((96, EVENTS),))
        r.call.update(Side.CALLEE, callee)
        press = struct.pack("!BBH", 5, 0x80, 800)
        sent = phone.send(r.at_caller, EVENTS, press)
        heard = r.callee.rtp.recv(4096)
        assert heard == sent[:1] + bytes([96]) + sent[2:]
        back = r.callee.next_packet(96, press)
        back = back[:1] + bytes([0x80 | 96]) + back[2:]  # the marker stays
        r.callee.send(r.at_callee, back)
        assert phone.hear() == back[:1] + bytes([0x80 | EVENTS]) + back[2:]
        r.wait_for(DtmfPressed(Side.CALLER, "5", 100))
        r.wait_for(DtmfPressed(Side.CALLEE, "5", 100))
        r.callee.send(r.at_callee, r.callee.next_packet(EVENTS, press))
        r.wait_for_drop("payload_type_not_negotiated", Side.CALLEE)


def test_keys_that_cannot_be_used_are_refused_without_showing_them() -> None:
    good = fresh_key()
    secret = b"\x7fa-secret-key\x7f\x7f\x7f"
    cases = {
        "length": (SrtpKey(good.suite, secret[:15], good.salt), good),
        "not supported": (SrtpKey("F8_128_HMAC_SHA1_80", secret, good.salt), good),
        "MKI is longer": (SrtpKey(good.suite, secret, good.salt, bytes(129)), good),
    }
    with rig() as r:
        for text, (receive, send) in cases.items():
            with pytest.raises(NotAcceptable, match=text) as caught:
                r.call.update(Side.CALLER, r.caller.leg(srtp=SrtpKeys((receive,), send)))
            assert "secret" not in str(caught.value)
        for text, receive_keys in {
            "both directions": (),
            "differ in length": (fresh_key(mki=b"1"), fresh_key(mki=b"12")),
            "same MKI": (fresh_key(mki=b"1"), fresh_key(mki=b"1")),
            "same SRTP key": (good,),
        }.items():
            with pytest.raises(NotAcceptable, match=text):
                r.call.update(Side.CALLER, r.caller.leg(srtp=SrtpKeys(receive_keys, good)))
        with pytest.raises(NotAcceptable, match="out of range"):
            r.call.update(Side.CALLER, r.caller.leg(payload_map=((0, 128),)))
