"""The path of a packet: forwarded, or dropped under a name that an operator understands."""

from __future__ import annotations

import contextlib
import gc
import os
import socket

import pytest

from relay.call.ports import LegMedia, MediaAddress, Side
from relay.errors import NoMediaPorts, NotAcceptable
from relay.media.engine import Engine, EngineCall
from relay.rtp import packet, rtcp
from tests.unit.media_rig import EVENTS, Peer, Rig, fresh_host, rig, until

REPORT = rtcp.receiver_report(7)


def test_rtp_leaves_from_the_port_that_the_receiver_sends_to() -> None:
    with rig() as r:
        r.describe()
        for sender, receiver, at, out in (
            (r.caller, r.callee, r.at_caller, r.at_callee),
            (r.callee, r.caller, r.at_callee, r.at_caller),
        ):
            sent = sender.send(at)
            data, source = receiver.rtp.recvfrom(4096)
            assert data == sent
            assert source == (out.host, out.port)


def test_extension_csrc_and_padding_pass_unchanged() -> None:
    with rig() as r:
        r.describe()
        head = bytes([0x80 | 0x20 | 0x10 | 2, 0x80]) + bytes(10)
        data = head + bytes(8) + b"\xbe\xde\x00\x01abcd" + b"audio" + b"\x00\x00\x03"
        r.caller.send(r.at_caller, data)
        assert r.callee.rtp.recv(4096) == data
        r.wait_for_relayed(1)
        assert r.call.figures(Side.CALLER).octets == len(b"audio")


@pytest.mark.parametrize("caller_mux", [False, True])
@pytest.mark.parametrize("callee_mux", [False, True])
def test_rtcp_passes_between_muxed_and_separate_ports(caller_mux: bool, callee_mux: bool) -> None:
    """RFC 5761 on either leg is independent of the other."""
    with rig() as r:
        r.call.update(Side.CALLER, r.caller.leg(mux=caller_mux))
        r.call.update(Side.CALLEE, r.callee.leg(mux=callee_mux))
        for sender, sender_mux, at, receiver, receiver_mux, out in (
            (r.caller, caller_mux, r.at_caller, r.callee, callee_mux, r.at_callee),
            (r.callee, callee_mux, r.at_callee, r.caller, caller_mux, r.at_caller),
        ):
            source = sender.rtp if sender_mux else sender.rtcp
            source.sendto(REPORT, (at.host, at.port if sender_mux else at.rtcp_port))
            data, came = (receiver.rtp if receiver_mux else receiver.rtcp).recvfrom(4096)
            assert data == REPORT
            assert came == (out.host, out.port if receiver_mux else out.rtcp_port)


def test_a_call_between_ipv4_and_ipv6() -> None:
    with rig(callee_host="::1") as r:
        r.describe()
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back
        with pytest.raises(NotAcceptable, match="address family"):
            r.call.update(Side.CALLEE, r.caller.leg())
        named = LegMedia(MediaAddress("pbx.example", 4000, 4001), frozenset({0}))
        with pytest.raises(NotAcceptable, match="not an IP address"):
            r.call.update(Side.CALLER, named)


UNUSABLE = {
    "short": b"\x80\x00",
    "not_rtp": b"\x10" + bytes(20),
    "bad_version": b"\xc0\x00" + bytes(20),
    "malformed": b"\x8f\x00" + bytes(20),
    "stun": b"\x00\x01" + bytes(18),
    "dtls": b"\x16\xfe\xfd" + bytes(20),
    "oversized": packet.build(0, 1, 1, 1, bytes(2037)),
    "payload_type_not_negotiated": packet.build(9, 1, 1, 1, bytes(160)),
    "rtcp_mux_not_negotiated": REPORT,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_not_forwarded_is_counted_by_name(name: str) -> None:
    with rig() as r:
        r.describe()
        r.caller.send(r.at_caller, UNUSABLE[name])
        good = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == good
        r.wait_for_relayed(1)
        figures = r.call.figures(Side.CALLER)
        assert figures.drops == {name: 1}
        assert (figures.packets, figures.relayed) == (1, 1)
        assert r.engine.counters()["drop_" + name] == 1


def test_the_largest_datagram_passes() -> None:
    with rig() as r:
        r.describe()
        largest = packet.build(0, 1, 1, 1, bytes(2036))
        assert len(largest) == 2048
        r.caller.send(r.at_caller, largest)
        assert r.callee.rtp.recv(4096) == largest


def test_rtp_on_the_rtcp_port_and_malformed_reports_are_dropped() -> None:
    with rig() as r:
        r.describe()
        to = (r.at_caller.host, r.at_caller.rtcp_port)
        r.caller.rtcp.sendto(r.caller.next_packet(), to)
        r.caller.rtcp.sendto(REPORT + b"\x80", to)
        r.caller.rtcp.sendto(REPORT, to)
        assert r.callee.rtcp.recv(4096) == REPORT
        assert r.call.figures(Side.CALLER).drops == {"not_rtcp": 1, "malformed": 1}


def test_before_any_description_nothing_passes_and_the_figures_say_so() -> None:
    with rig() as r:
        r.caller.send(r.at_caller)
        r.wait_for_drop("not_described")
        assert "No media description" in (r.call.figures(Side.CALLER).reason_for_silence or "")
        r.call.update(Side.CALLER, r.caller.leg())
        r.caller.send(r.at_caller)
        r.wait_for_drop("no_destination")
        figures = r.call.figures(Side.CALLER)
        assert (figures.packets, figures.relayed) == (1, 0)
        assert "other peer is not known" in (figures.reason_for_silence or "")


def hold(r: Rig) -> None:
    """The caller put the callee on hold: it sends and the callee only receives."""
    r.call.update(Side.CALLER, r.caller.leg(may_receive=False))
    r.call.update(Side.CALLEE, r.callee.leg(may_send=False))


def test_hold_and_resume() -> None:
    with rig() as r:
        r.describe()
        hold(r)
        r.callee.send(r.at_callee)
        r.wait_for_drop("on_hold", Side.CALLEE)
        assert r.call.figures(Side.CALLEE).reason_for_silence == "This leg is on hold."
        r.callee.rtcp.sendto(REPORT, (r.at_callee.host, r.at_callee.rtcp_port))
        assert r.caller.rtcp.recv(4096) == REPORT  # reports go on (RFC 3264 section 5.1)
        music = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == music
        r.describe()
        resumed = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == resumed
        r.wait_for_relayed(1, Side.CALLEE)
        assert r.call.figures(Side.CALLEE).reason_for_silence is None


def test_a_peer_that_wants_no_media_gets_none() -> None:
    with rig() as r:
        r.call.update(Side.CALLER, r.caller.leg())
        r.call.update(Side.CALLEE, r.callee.leg(may_receive=False))
        r.caller.send(r.at_caller)
        r.wait_for_drop("receiver_on_hold")


def test_old_style_hold_address_receives_nothing() -> None:
    """c=0.0.0.0 (RFC 2543 hold) and port 0 are not destinations."""
    with rig() as r:
        r.describe()
        r.call.update(
            Side.CALLEE, LegMedia(MediaAddress("0.0.0.0", 4000, 4001), frozenset({0, EVENTS}))
        )
        r.caller.send(r.at_caller)
        r.wait_for_drop("no_destination")


def test_the_wrong_source_is_named_in_the_reason_for_silence() -> None:
    with rig() as r:
        r.describe()
        stranger = Peer(r.caller.host)
        stranger.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        reason = r.call.figures(Side.CALLER).reason_for_silence or ""
        assert f"{stranger.host}:{stranger.port}" in reason
        assert f"{r.caller.host}:{r.caller.port}" in reason
        stranger.close()


def test_the_right_address_with_another_port_is_a_wrong_source() -> None:
    with rig() as r:
        r.describe()
        r.caller.rtcp.sendto(r.caller.next_packet(), (r.at_caller.host, r.at_caller.port))
        r.wait_for_drop("wrong_source")


def test_other_calls_come_and_go_without_a_lost_packet() -> None:
    """A stream of 2,000 packets while calls open, change and close on the same worker."""
    with rig(pairs=2000) as r:
        r.describe()
        r.callee.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        for _ in range(400):
            sent = [r.caller.send(r.at_caller) for _ in range(5)]
            other = r.engine.open("other", False, False)
            other.update(Side.CALLER, r.caller.leg())
            other.update(Side.CALLEE, r.callee.leg())
            other.close()
            assert [r.callee.rtp.recv(4096) for _ in sent] == sent
        r.wait_for_relayed(2000)
        figures = r.call.figures(Side.CALLER)
        assert (figures.relayed, figures.lost, figures.drops) == (2000, 0, {})


def test_closed_calls_leave_no_socket_and_keep_their_figures() -> None:
    with rig() as r:
        r.describe()
        before = len(os.listdir("/proc/self/fd"))
        calls = [r.engine.open(f"c{i}", False, False) for i in range(10)]
        assert len(os.listdir("/proc/self/fd")) == before + 40
        for call in calls:
            call.close()
            call.close()
        until(lambda: len(os.listdir("/proc/self/fd")) == before)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.call.close()
        until(lambda: r.engine.counters()["calls"] == 0)
        assert r.call.figures(Side.CALLER).relayed == 1


def test_a_forgotten_call_is_closed_by_the_collector() -> None:
    with rig() as r:
        before = len(os.listdir("/proc/self/fd"))
        r.engine.open("forgotten", False, False)
        until(lambda: len(os.listdir("/proc/self/fd")) == before)


def test_a_failed_second_bind_leaks_no_socket_and_the_port_is_skipped() -> None:
    """rtpengine #887: the first half must not stay open when the second cannot be bound."""
    with rig(pairs=8, quarantine_s=0.0) as r:
        until(lambda: r.engine.counters()["calls"] == 1)
        r.call.close()
        until(lambda: r.engine.counters()["calls"] == 0)
        taken = []
        for port in range(20001, 20016, 4):  # the odd half of every other pair
            holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            holder.bind((r.caller.host, port))
            taken.append(holder)
        before = len(os.listdir("/proc/self/fd"))
        opened = []
        with contextlib.suppress(NoMediaPorts):
            while len(opened) < 3:
                opened.append(r.engine.open("x", False, False))
        assert len(opened) == 2  # four pairs are left whole
        for call in opened:
            for side in Side:
                assert call.local(side).port % 4 != 0
            call.close()
        until(lambda: len(os.listdir("/proc/self/fd")) == before)
        for holder in taken:
            holder.close()


def test_recording_copies_what_is_relayed_from_then_on() -> None:
    with rig() as r:
        r.describe()
        r.caller.send(r.at_caller)
        r.wait_for_relayed(1)
        tap = r.call.record(True)
        r.caller.send(r.at_caller)
        r.callee.send(r.at_callee)
        until(lambda: r.engine.counters()["recorded"] == 2)
        assert r.call.record(False) == tap
        r.caller.send(r.at_caller)
        r.wait_for_relayed(3)
        assert [r.call.figures(side).recorded for side in Side] == [1, 1]
        assert [r.call.figures(side).relayed_on_tap for side in Side] == [1, 1]
        r.call.record(True)  # the count starts over
        r.caller.send(r.at_caller)
        until(lambda: r.engine.counters()["recorded"] == 3)
        until(lambda: [r.call.figures(side).relayed_on_tap for side in Side] == [1, 0])
        assert r.engine.open("second", False, False).record(True) != tap


def abandon_engine() -> None:
    calls: list[EngineCall] = []
    engine = Engine(fresh_host(), None, (20000, 20020), 1, 60.0, on_event=lambda *_: calls.clear())
    engine.start()
    calls.append(engine.open("a", False, False))
    calls[0].record(True)


def test_an_abandoned_engine_is_collected_with_its_calls_and_thread() -> None:
    """A reference cycle around engine, calls and callback must not crash the collector."""
    before = len(os.listdir("/proc/self/task"))
    abandon_engine()
    gc.collect()
    until(lambda: len(os.listdir("/proc/self/task")) == before)


def test_a_closed_call_is_forgotten_although_a_child_process_holds_its_sockets() -> None:
    """epoll follows the open socket, not the descriptor: a fork must not revive a call."""
    with rig() as r:
        r.describe()
        kept = r.engine.open("kept", False, False)
        kept.update(Side.CALLER, r.caller.leg())
        kept.update(Side.CALLEE, r.callee.leg())
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        mine, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(theirs)
            os.read(mine, 1)  # until the parent closes its end
            os._exit(0)
        gone = r.at_caller
        r.call.close()
        until(lambda: r.engine.counters()["calls"] == 1)
        before = r.engine.counters()
        r.caller.send(gone)
        for number in range(20):
            sent = r.caller.send(kept.local(Side.CALLER))
            assert r.callee.rtp.recv(4096) == sent
            until(lambda wanted=number + 2: r.engine.counters()["relayed"] == wanted)  # type: ignore[misc]
        after = r.engine.counters()
        assert after["received"] - before["received"] == 20
        # Else the worker would be told of the forgotten socket again and again.
        assert after["wakeups"] - before["wakeups"] < 100
        os.close(theirs)
        os.close(mine)
        os.waitpid(child, 0)


def test_two_workers_share_the_calls() -> None:
    with rig(workers=2) as r:
        r.describe()
        second = r.engine.open("second", False, False)
        second.update(Side.CALLER, r.caller.leg())
        second.update(Side.CALLEE, r.callee.leg())
        for call in (r.call, second):
            sent = r.caller.send(call.local(Side.CALLER))
            assert r.callee.rtp.recv(4096) == sent
        assert r.engine.counters()["calls"] == 2


def test_napping_under_load_loses_nothing() -> None:
    """More than two packets a millisecond let the worker nap; order and count are kept."""
    with rig() as r:
        r.describe()
        r.callee.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        for _ in range(60):
            sent = [r.caller.send(r.at_caller) for _ in range(50)]
            assert [r.callee.rtp.recv(4096) for _ in sent] == sent
        assert r.engine.counters()["naps"] > 0


def test_stopping_the_engine_closes_everything() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with rig() as r:
        r.describe()
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
    r.call.close()
    r.engine.close()
    assert r.call.figures(Side.CALLER).relayed == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_advertised_address_is_what_peers_are_told() -> None:
    engine = Engine(fresh_host(), "203.0.113.10", (20000, 20020), 1, 60.0, address_ipv6="::1")
    engine.start()
    call = engine.open("c", False, True)
    assert call.local(Side.CALLER).host == "203.0.113.10"
    assert call.local(Side.CALLEE).host == "::1"
    assert call.local(Side.CALLER).rtcp_port == call.local(Side.CALLER).port + 1
    engine.close()
