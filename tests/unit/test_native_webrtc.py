"""A WebRTC leg in the engine: path and keys from outside, nothing in clear either way."""

from __future__ import annotations

import time

import pytest

from relay import _native
from relay.call.ports import Side
from relay.errors import NotAcceptable
from relay.media.silence import reason_for_silence
from relay.rtp import packet, rtcp
from tests.unit.media_rig import PCMU, Peer, Rig, rig, until
from tests.unit.srtp_rig import Phone
from tests.unit.webrtc_rig import (
    DTLS,
    LOOPBACK,
    UFRAG,
    Browser,
    at,
    check,
    secured_caller,
    waiting,
    webrtc_caller,
)

SUITES = ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"]
REPORT = rtcp.receiver_report(7)


def handed_up(r: Rig, count: int) -> list[tuple[int, int, bytes, tuple[str, int]]]:
    """What waits for Python when so many were handed up in all."""
    until(lambda: r.engine.counters()["handed_up"] >= count)
    return waiting(r)


def is_quiet(peer: Peer) -> bool:
    """Whether nothing waits at a peer's sockets."""
    for port in (peer.rtp, peer.rtcp):
        port.setblocking(False)
        try:
            port.recv(4096)
        except BlockingIOError:
            port.settimeout(10.0)
            continue
        return False
    return True


def reason(r: Rig, side: Side = Side.CALLER) -> str:
    return reason_for_silence(r.call._flows.figures(side.value)) or ""


@pytest.mark.parametrize("suite", SUITES)
def test_audio_between_a_secured_leg_and_plain_rtp(suite: str) -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r, suite)
        for n in range(5):
            sent = browser.send(r.at_caller, payload=bytes([n]) * 160)
            assert r.callee.rtp.recv(4096) == sent
            back = r.callee.send(r.at_callee)
            assert browser.hear() == back
        r.wait_for_relayed(5)
        assert r.call.figures(Side.CALLER).drops == {}


def test_audio_between_two_secured_legs() -> None:
    with rig(LOOPBACK) as r:
        left, right = Browser(r.caller, SUITES[0]), Browser(r.callee, SUITES[1])
        for side, browser in ((Side.CALLER, left), (Side.CALLEE, right)):
            r.call.update(side, browser.leg())
            r.call.select(side, at(browser.peer))
            r.call.secure(side, browser.keys())
        for _ in range(3):
            assert left.send(r.at_caller) == right.hear()
            assert right.send(r.at_callee) == left.hear()
        left.peer.send(r.at_caller, left.sending.protect_rtcp(REPORT))
        assert right.receiving.unprotect_rtcp(right.peer.rtp.recv(4096)) == REPORT


def test_checks_and_dtls_go_up_with_their_source() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        r.caller.send(r.at_caller, check())
        assert handed_up(r, 1) == [(1, 0, check(), at(r.caller))]
        r.call.select(Side.CALLER, at(r.caller))
        r.caller.send(r.at_caller, DTLS)
        assert handed_up(r, 2) == [(1, 0, DTLS, at(r.caller))]
        assert waiting(r) == []


def test_what_python_sends_leaves_from_the_rtp_port() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        assert r.call.send(Side.CALLER, b"\x01\x01answer", *at(r.caller))
        assert r.caller.rtp.recvfrom(4096) == (b"\x01\x01answer", tuple(r.at_caller[:2]))
        r.call.close()
        assert not r.call.send(Side.CALLER, b"x", *at(r.caller))


@pytest.mark.parametrize("host", ["198.51.100.1", "0.0.0.0", "::1", "a.name", ""])
def test_nothing_is_sent_out_of_the_region(host: str) -> None:
    with rig(LOOPBACK) as r:
        browser = webrtc_caller(r)
        with pytest.raises(ValueError, match=r"region|family|IP address"):
            r.call.send(Side.CALLER, b"x", host, 9)
        with pytest.raises(ValueError, match=r"region|family|IP address"):
            r.call.select(Side.CALLER, (host, 9))
        r.call.secure(Side.CALLER, browser.keys())
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)


def test_a_leg_of_ipv6() -> None:
    with rig(LOOPBACK, callee_host="::1") as r:
        browser = Browser(r.callee)
        r.call.update(Side.CALLEE, browser.leg())
        r.callee.send(r.at_callee, check())
        assert handed_up(r, 1) == [(1, 1, check(), at(r.callee))]
        assert r.call.send(Side.CALLEE, b"answer", *at(r.callee))
        assert r.callee.rtp.recv(4096) == b"answer"


def test_nothing_passes_in_clear_before_the_keys_are_there() -> None:
    with rig(LOOPBACK) as r:
        browser = webrtc_caller(r)
        r.caller.send(r.at_caller)
        r.wait_for_drop("no_path_selected")
        assert "path" in reason(r)
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)
        r.call.select(Side.CALLER, at(r.caller))
        r.caller.send(r.at_caller)
        r.caller.send(r.at_caller, browser.packet())
        r.caller.send(r.at_caller, REPORT)
        r.wait_for_drop("not_secured", count=3)
        assert "DTLS" in reason(r)
        r.callee.send(r.at_callee)
        r.callee.rtcp.sendto(REPORT, (r.at_callee.host, r.at_callee.rtcp_port))
        r.wait_for_drop("receiver_not_secured", Side.CALLEE, count=2)
        assert "DTLS" in reason(r, Side.CALLEE)
        assert is_quiet(r.caller)
        assert is_quiet(r.callee)
        counters = r.engine.counters()
        assert (counters["relayed"], counters["rtcp_relayed"]) == (0, 0)


def test_keys_without_a_path_let_nothing_pass() -> None:
    with rig(LOOPBACK) as r:
        browser = webrtc_caller(r)
        r.call.secure(Side.CALLER, browser.keys())
        browser.send(r.at_caller)
        r.wait_for_drop("no_path_selected")
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)
        assert is_quiet(r.caller)


def test_keys_come_between_two_packets() -> None:
    """The packet after the command is opened with them; the one before was not let through."""
    with rig(LOOPBACK) as r:
        browser = webrtc_caller(r)
        r.call.select(Side.CALLER, at(r.caller))
        early = browser.packet()
        r.caller.send(r.at_caller, early)
        r.wait_for_drop("not_secured")
        r.call.secure(Side.CALLER, browser.keys())
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        r.wait_for_relayed(1)
        figures = r.call.figures(Side.CALLER)
        assert (figures.packets, figures.lost) == (1, 0)


def test_commands_in_one_go_are_obeyed_in_their_order() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        for n in range(200):
            if n % 10 == 0:
                r.call.secure(Side.CALLER, None)
                r.call.select(Side.CALLER, None)
                browser.rekey(SUITES[n // 10 % 2])
                r.call.select(Side.CALLER, at(r.caller))
                r.call.secure(Side.CALLER, browser.keys())
            sent = browser.send(r.at_caller)
            assert r.callee.rtp.recv(4096) == sent
            back = r.callee.send(r.at_callee)
            assert browser.hear() == back


def test_the_path_moves_and_the_one_before_is_foreign_then() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        cellular = Peer(r.caller.host)
        cellular.send(r.at_caller, browser.packet())
        r.wait_for_drop("wrong_source")
        r.call.select(Side.CALLER, at(cellular))
        plain = r.caller.next_packet()
        cellular.send(r.at_caller, browser.sending.protect(plain))
        assert r.callee.rtp.recv(4096) == plain
        back = r.callee.send(r.at_callee)
        assert browser.receiving.unprotect(cellular.rtp.recv(4096)) == back
        r.caller.send(r.at_caller, browser.packet())
        r.wait_for_drop("wrong_source", count=2)
        r.caller.send(r.at_caller, DTLS)
        r.wait_for_drop("dtls_wrong_source")
        r.caller.send(r.at_caller, browser.sending.protect_rtcp(REPORT))
        r.wait_for_drop("wrong_source", count=3)
        assert is_quiet(r.caller)
        cellular.close()


def test_without_consent_nothing_passes_but_checks() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        r.call.select(Side.CALLER, None)
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)
        browser.send(r.at_caller)
        r.wait_for_drop("no_path_selected")
        r.caller.send(r.at_caller, DTLS)
        r.wait_for_drop("dtls_wrong_source")
        r.caller.send(r.at_caller, check())
        assert handed_up(r, 1)[0][2] == check()
        assert is_quiet(r.caller)
        r.call.select(Side.CALLER, at(r.caller))
        back = r.callee.send(r.at_callee)
        assert browser.hear() == back


def test_an_update_keeps_path_and_keys() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        for ufrag in (UFRAG, "restarted"):
            r.call.update(Side.CALLER, browser.leg(ufrag))
            sent = browser.send(r.at_caller)
            assert r.callee.rtp.recv(4096) == sent
            r.caller.send(r.at_caller, check())
            r.caller.send(r.at_caller, check(ufrag))
        assert len(handed_up(r, 4)) == 4
        r.call.update(Side.CALLER, browser.leg("restarted", may_send=False))
        browser.send(r.at_caller)
        r.wait_for_drop("on_hold")


def test_taken_keys_let_nothing_pass_not_even_what_is_in_flight() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        r.call.secure(Side.CALLER, None)
        browser.send(r.at_caller)
        r.wait_for_drop("not_secured")
        r.callee.send(r.at_callee)
        r.wait_for_drop("receiver_not_secured", Side.CALLEE)
        r.caller.send(r.at_caller)
        r.wait_for_drop("not_secured", count=2)
        assert is_quiet(r.caller)
        assert is_quiet(r.callee)


def test_after_a_transfer_the_keys_of_who_was_there_open_nothing() -> None:
    """Not even from the address that the new one has."""
    with rig(LOOPBACK) as r:
        before = secured_caller(r)
        sent = before.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        plain = r.caller.next_packet()
        kept = before.sending.protect(plain)
        r.call.secure(Side.CALLER, None)
        browser = Browser(r.caller, SUITES[0])
        r.call.secure(Side.CALLER, browser.keys())
        r.caller.send(r.at_caller, kept)
        r.wait_for_drop("srtp_authentication_failed")
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent


def test_another_association_takes_over_and_what_is_in_flight_is_opened() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        plain = r.caller.next_packet()
        in_flight = browser.sending.protect(plain)
        browser.rekey(SUITES[1])
        r.call.secure(Side.CALLER, browser.keys())
        r.caller.send(r.at_caller, in_flight)
        assert r.callee.rtp.recv(4096) == plain
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        back = r.callee.send(r.at_callee)
        assert browser.hear() == back


@pytest.mark.parametrize("suite", SUITES)
def test_forged_plain_and_replayed_packets_change_nothing(suite: str) -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r, suite)
        thief = Peer(r.caller.host)
        data = browser.packet()
        r.caller.send(r.at_caller, data)
        r.callee.rtp.recv(4096)
        thief.send(r.at_caller, data)
        r.wait_for_drop("wrong_source")
        r.caller.send(r.at_caller, data)
        r.wait_for_drop("srtp_replayed")
        r.caller.send(r.at_caller, data[:-1] + bytes([data[-1] ^ 1]))
        r.caller.send(r.at_caller, packet.build(PCMU, 60000, 0, 0xBAD, bytes(170)))
        r.wait_for_drop("srtp_authentication_failed", count=2)
        report = browser.sending.protect_rtcp(REPORT)
        r.caller.send(r.at_caller, report)
        assert r.callee.rtcp.recv(4096) == REPORT
        r.caller.send(r.at_caller, report)
        r.wait_for_drop("srtp_replayed", count=2)
        r.caller.send(r.at_caller, REPORT + bytes(40))
        r.wait_for_drop("srtp_authentication_failed", count=3)
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        thief.close()


def test_another_ssrc_is_taken_up() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        for ssrc in range(200, 212):
            r.caller.ssrc = ssrc
            sent = browser.send(r.at_caller)
            assert r.callee.rtp.recv(4096) == sent


def test_a_side_that_becomes_another_kind_of_leg() -> None:
    """A transfer: neither kind's address or keys are left to the other."""
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        sent = browser.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        desk = Peer(r.caller.host)
        r.call.update(Side.CALLER, desk.leg())
        back = r.callee.send(r.at_callee)
        assert desk.rtp.recv(4096) == back
        sent = desk.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        browser.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        r.call.update(Side.CALLER, browser.leg())
        r.callee.send(r.at_callee)
        r.wait_for_drop("no_destination", Side.CALLEE)
        desk.send(r.at_caller)
        r.wait_for_drop("no_path_selected")
        r.call.select(Side.CALLER, at(desk))
        desk.send(r.at_caller)
        r.wait_for_drop("not_secured")
        assert is_quiet(desk)
        desk.close()


def test_sdes_keys_are_not_those_of_dtls() -> None:
    with rig(LOOPBACK) as r:
        phone = Phone(r.caller)
        r.call.update(Side.CALLER, phone.leg())
        r.call.update(Side.CALLEE, r.callee.leg())
        sent = phone.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        r.call.update(Side.CALLER, Browser(r.caller).leg())
        r.call.select(Side.CALLER, at(r.caller))
        phone.send(r.at_caller)
        r.wait_for_drop("not_secured")
        r.callee.send(r.at_callee)
        r.wait_for_drop("receiver_not_secured", Side.CALLEE)


def test_path_and_keys_are_of_no_effect_on_a_plain_leg() -> None:
    with rig(LOOPBACK) as r:
        browser = Browser(r.caller)
        r.describe()
        r.call.select(Side.CALLER, ("127.0.0.1", 9))
        r.call.secure(Side.CALLER, browser.keys())
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent


def test_a_description_cannot_name_the_address_or_the_keys() -> None:
    with rig(LOOPBACK) as r:
        browser = Browser(r.caller)
        with pytest.raises(NotAcceptable, match="ICE and DTLS"):
            r.call.update(Side.CALLER, browser.leg()._replace(remote=r.caller.leg().remote))
        with pytest.raises(NotAcceptable, match="ICE and DTLS"):
            r.call.update(Side.CALLER, browser.leg(srtp=browser.keys()))
        with pytest.raises(NotAcceptable, match="ufrag"):
            r.call.update(Side.CALLER, browser.leg("u" * 33))
        with pytest.raises(NotAcceptable):
            r.call.update(Side.CALLER, browser.leg("ü"))


def test_the_tap_gets_what_was_opened() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        tap = r.call.record(True)
        reader = _native.TapReader(r.engine.taps, 0)
        reader.start(tap, 0, time.monotonic_ns(), True)
        browser.send(r.at_caller, payload=b"\x11" * 160)
        until(lambda: r.engine.counters()["recorded"] == 1)
        reader.drain(time.monotonic_ns())
        reader.stop(tap, time.monotonic_ns())
        blocks: list[_native.Block] = []

        def ended() -> bool:
            blocks.extend(reader.drain(time.monotonic_ns()))
            return any(block.totals for block in blocks)

        until(ended)
        assert b"\x11" * 160 in b"".join(block.data for block in blocks)[0::2]
