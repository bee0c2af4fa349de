"""Safe latching: a symmetric leg is learned once, from allowed networks, with one SSRC."""

from __future__ import annotations

from ipaddress import ip_network

from relay.call.ports import Latched, LegMedia, MediaAddress, Side
from relay.residency.boundary import Boundary
from relay.rtp import packet, rtcp
from tests.unit.media_rig import EVENTS, PCMU, Peer, Rig, rig

LOOPBACK = ("127.0.0.0/8",)
REPORT = rtcp.receiver_report(9)


def behind_nat(r: Rig, mux: bool = False) -> LegMedia:
    """The caller's SDP names an address that it does not really send from."""
    port = 4000
    return LegMedia(
        MediaAddress("127.1.255.254", port, port if mux else port + 1),
        frozenset({PCMU, EVENTS}),
        symmetric=True,
    )


def describe(r: Rig, mux: bool = False) -> None:
    r.call.update(Side.CALLER, behind_nat(r, mux))
    r.call.update(Side.CALLEE, r.callee.leg())


def test_the_source_is_learned_and_audio_goes_back_to_it() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back
        r.wait_for(Latched(Side.CALLER, r.caller.host, r.caller.port))


def test_without_symmetric_nothing_is_learned() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        remote = MediaAddress("127.1.255.254", 4000, 4001)
        r.call.update(Side.CALLER, LegMedia(remote, frozenset({PCMU})))
        r.caller.send(r.at_caller)
        r.wait_for_drop("wrong_source")


def test_a_second_source_is_refused() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        thief = Peer(r.caller.host)
        thief.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back
        thief.close()


def test_outside_the_allowed_networks_nothing_is_learned() -> None:
    with rig(("10.0.0.0/8", "127.1.0.0/32")) as r:
        describe(r)
        r.caller.send(r.at_caller)
        r.wait_for_drop("latch_refused")
        reason = r.call.figures(Side.CALLER).reason_for_silence or ""
        assert "outside the networks" in reason


def test_in_a_dry_run_a_source_outside_is_learned_and_told() -> None:
    """Then the call's trail says what the boundary would have said."""
    boundary = Boundary([ip_network("10.0.0.0/8")], enforce=False)
    with rig(tuple(map(str, boundary.permitted))) as r:
        describe(r)
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        r.wait_for(Latched(Side.CALLER, r.caller.host, r.caller.port))


def test_one_ssrc_only_after_a_latch() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.caller.send(r.at_caller, packet.build(PCMU, 1, 1, 0xBAD, bytes(160)))
        r.wait_for_drop("wrong_ssrc")


def test_an_unusable_packet_teaches_nothing() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        thief = Peer(r.caller.host)
        thief.send(r.at_caller, packet.build(9, 1, 1, 1, bytes(160)))
        r.wait_for_drop("payload_type_not_negotiated")
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        thief.close()


def test_the_signalled_address_wins_once_it_has_spoken() -> None:
    with rig(LOOPBACK) as r:
        r.call.update(Side.CALLER, r.caller.leg(symmetric=True))
        r.call.update(Side.CALLEE, r.callee.leg())
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        thief = Peer(r.caller.host)
        thief.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        thief.close()


def test_the_signalled_address_wins_even_over_a_learned_one() -> None:
    """A thief that was faster than the peer loses the stream to it, for good."""
    with rig(LOOPBACK) as r:
        r.call.update(Side.CALLER, r.caller.leg(symmetric=True))
        r.call.update(Side.CALLEE, r.callee.leg())
        thief = Peer(r.caller.host)
        thief.send(r.at_caller)
        r.callee.rtp.recv(4096)
        sent = r.caller.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        thief.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back
        thief.close()


def test_only_an_update_allows_another_latch() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        describe(r)
        moved = Peer(r.caller.host)
        sent = moved.send(r.at_caller)
        assert r.callee.rtp.recv(4096) == sent
        back = r.callee.send(r.at_callee)
        assert moved.rtp.recv(4096) == back
        r.caller.send(r.at_caller)
        r.wait_for_drop("wrong_source")
        moved.close()


def test_a_hold_does_not_forget_where_the_peer_is() -> None:
    """After a refresh with the same SDP audio still goes to the learned source."""
    with rig(LOOPBACK) as r:
        describe(r)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        describe(r)
        back = r.callee.send(r.at_callee)
        assert r.caller.rtp.recv(4096) == back


def test_rtcp_follows_the_learned_host() -> None:
    with rig(LOOPBACK) as r:
        describe(r)
        to = (r.at_caller.host, r.at_caller.rtcp_port)
        r.caller.rtcp.sendto(REPORT, to)
        r.wait_for_drop("wrong_source")  # a report alone teaches nothing
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.caller.rtcp.sendto(REPORT, to)
        assert r.callee.rtcp.recv(4096) == REPORT
        r.callee.rtcp.sendto(REPORT, (r.at_callee.host, r.at_callee.rtcp_port))
        assert r.caller.rtcp.recv(4096) == REPORT
        thief = Peer(r.caller.host)
        thief.rtcp.sendto(REPORT, to)
        r.wait_for_drop("wrong_source", count=2)
        thief.close()


def test_muxed_rtcp_follows_the_learned_port() -> None:
    with rig(LOOPBACK) as r:
        describe(r, mux=True)
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.callee.rtcp.sendto(REPORT, (r.at_callee.host, r.at_callee.rtcp_port))
        assert r.caller.rtp.recv(4096) == REPORT
