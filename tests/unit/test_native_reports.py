"""RTCP of our own towards a WebRTC leg whose partner sends none, read by aiortc."""

from __future__ import annotations

import time

import pytest
from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSdesPacket, RtcpSrPacket

from relay.call.ports import Side
from relay.rtp import rtcp
from tests.unit.media_rig import Peer, Rig, rig, until
from tests.unit.webrtc_rig import LOOPBACK, Browser, at, secured_caller

EVERY_S = 0.2
NTP_EPOCH_S = 2208988800


def report(browser: Browser) -> list[object]:
    """The next compound that a browser gets; audio before it is passed over."""
    while True:
        data = browser.peer.rtp.recv(4096)
        if 192 <= data[1] <= 223:
            return list(RtcpPacket.parse(browser.receiving.unprotect_rtcp(data)))


def talk(r: Rig, browser: Browser, count: int) -> None:
    """So many packets both ways, all counted."""
    before = r.engine.counters()["relayed"]
    for _ in range(count):
        browser.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.callee.send(r.at_callee)
    until(lambda: r.engine.counters()["relayed"] == before + 2 * count)


@pytest.mark.parametrize("suite", ["AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"])
def test_a_sender_report_on_what_is_sent_and_how_the_rest_arrives(suite: str) -> None:
    with rig(LOOPBACK, report_s=EVERY_S) as r:
        browser = secured_caller(r, suite)
        talk(r, browser, 5)
        sender, names = report(browser)
        assert isinstance(sender, RtcpSrPacket)
        assert isinstance(names, RtcpSdesPacket)
        assert sender.ssrc == r.callee.ssrc
        about = sender.sender_info
        assert abs((about.ntp_timestamp >> 32) - NTP_EPOCH_S - time.time()) < 5
        since = (about.rtp_timestamp - r.callee.sequence * 160) % 2**32
        assert since < 10 * 8000  # the last packet's and the time since then
        assert (about.packet_count, about.octet_count) == (5, 5 * 160)
        (block,) = sender.reports
        assert block.ssrc == r.caller.ssrc
        assert (block.fraction_lost, block.packets_lost) == (0, 0)
        assert block.highest_sequence == r.caller.sequence
        assert (block.lsr, block.dlsr) == (0, 0)
        (chunk,) = names.chunks
        assert chunk.ssrc == sender.ssrc
        ((kind, name),) = chunk.items
        assert (kind, len(name)) == (1, 16)


def test_losses_and_the_round_trip_are_told() -> None:
    with rig(LOOPBACK, report_s=EVERY_S) as r:
        browser = secured_caller(r)
        ntp = 0x0102030405060708
        info = rtcp_sender_info(r.caller.ssrc, ntp)
        r.caller.send(r.at_caller, browser.sending.protect_rtcp(info))
        assert r.callee.rtcp.recv(4096) == info
        for number in range(8):
            packet = browser.packet()
            if number not in (3, 4):
                r.caller.send(r.at_caller, packet)
                r.callee.rtp.recv(4096)
        receiver = report(browser)[0]
        assert isinstance(receiver, RtcpRrPacket)
        (block,) = receiver.reports
        assert (block.fraction_lost, block.packets_lost) == (256 * 2 // 8, 2)
        assert block.lsr == (ntp >> 16) & 0xFFFFFFFF
        assert 0 < block.dlsr < 10 * 65536


def rtcp_sender_info(ssrc: int, ntp: int) -> bytes:
    return b"\x80\xc8\x00\x06" + ssrc.to_bytes(4, "big") + ntp.to_bytes(8, "big") + bytes(12)


def test_a_side_that_is_sent_nothing_gets_empty_receiver_reports() -> None:
    with rig(LOOPBACK, report_s=EVERY_S) as r:
        browser = secured_caller(r)
        first, second = report(browser), report(browser)
        for packets in (first, second):
            assert isinstance(packets[0], RtcpRrPacket)
            assert packets[0].reports == []
            assert packets[0].ssrc == first[0].ssrc != 0  # type: ignore[attr-defined]
        assert r.engine.counters()["reports"] >= 2


def test_counts_begin_anew_with_another_stream_and_a_pause_is_a_receiver_s_report() -> None:
    with rig(LOOPBACK, report_s=EVERY_S) as r:
        browser = secured_caller(r)
        talk(r, browser, 3)
        assert isinstance(report(browser)[0], RtcpSrPacket)
        quiet = report(browser)[0]
        assert isinstance(quiet, RtcpRrPacket)
        assert quiet.reports == []
        r.callee.ssrc += 1
        for _ in range(2):
            r.callee.send(r.at_callee)
        sender = report(browser)[0]
        while not isinstance(sender, RtcpSrPacket):
            sender = report(browser)[0]
        assert sender.ssrc == r.callee.ssrc
        assert 1 <= sender.sender_info.packet_count <= 2


def test_while_the_partner_reports_we_say_nothing() -> None:
    with rig(LOOPBACK, report_s=0.5) as r:
        browser = secured_caller(r)
        theirs = rtcp.receiver_report(7)
        end = time.monotonic() + 1.5
        sent = 0
        while time.monotonic() < end:
            r.callee.rtcp.sendto(theirs, (r.at_callee.host, r.at_callee.rtcp_port))
            assert browser.receiving.unprotect_rtcp(r.caller.rtp.recv(4096)) == theirs
            sent += 1
        assert r.engine.counters()["reports"] == 0
        assert isinstance(report(browser)[1], RtcpSdesPacket)  # when it has fallen silent


def test_no_report_without_a_path_or_without_keys_and_none_to_a_plain_leg() -> None:
    with rig(LOOPBACK, report_s=0.05) as r:
        lost, bare, plain, watched = (Browser(Peer(r.caller.host)) for _ in range(4))
        calls = [r.engine.open(f"call-{number}", False, False) for number in range(4)]
        for call, browser in zip(calls, (lost, bare, plain, watched), strict=True):
            call.update(Side.CALLER, browser.leg())
            call.select(Side.CALLER, at(browser.peer))
            call.secure(Side.CALLER, browser.keys())
        calls[0].select(Side.CALLER, None)
        calls[1].secure(Side.CALLER, None)
        calls[2].update(Side.CALLER, plain.peer.leg())
        for _ in range(5):
            report(watched)  # so much time has passed
        for browser in (lost, bare, plain):
            browser.peer.rtp.setblocking(False)
            with pytest.raises(BlockingIOError):
                browser.peer.rtp.recv(4096)
        for browser in (lost, bare, plain, watched):
            browser.peer.close()
