"""RTPBleed and injection (CVE-2017-14114, CVE-2025-53399): spraying gains nothing."""

from __future__ import annotations

import pytest

from relay.call.ports import LegMedia, Side
from relay.rtp import packet, rtcp
from tests.unit.media_rig import PCMU, Peer, Rig, rig, until

SPRAYED_CALLS = 6
ROUNDS = 40


def open_calls(r: Rig, symmetric: bool) -> list[LegMedia]:
    """The victim's call is described and being recorded; so are others beside it."""
    legs = [r.caller.leg(symmetric=symmetric), r.callee.leg(symmetric=symmetric)]
    r.call.update(Side.CALLER, legs[0])
    r.call.update(Side.CALLEE, legs[1])
    r.call.record(True)
    return legs


@pytest.mark.parametrize("symmetric", [False, True], ids=["strict", "symmetric"])
def test_packets_sprayed_at_every_port_are_neither_forwarded_nor_tapped(symmetric: bool) -> None:
    with rig(("127.0.0.0/8",)) as r:
        legs = open_calls(r, symmetric)
        others = [r.engine.open(f"other-{i}", False, False) for i in range(SPRAYED_CALLS)]
        for other in others:
            other.update(Side.CALLER, legs[0])
            other.update(Side.CALLEE, legs[1])
            other.record(True)
        calls = [r.call, *others]
        for call in [*others, r.call]:  # every stream has begun: symmetric legs are settled
            for side, peer, to in (
                (Side.CALLER, r.caller, r.callee),
                (Side.CALLEE, r.callee, r.caller),
            ):
                peer.send(call.local(side))
                to.rtp.recv(4096)
        until(lambda: r.engine.counters()["recorded"] == 2 * len(calls))
        begun = r.engine.counters()
        attacker = Peer("127.1.254.66")
        sent = spray(r, calls, attacker)
        expected = sent_by_attacker(len(calls))
        until(lambda: r.engine.counters()["drop_wrong_source"] >= expected)
        until(lambda: r.engine.counters()["recorded"] >= begun["recorded"] + len(sent))
        counters = r.engine.counters()
        assert counters["relayed"] - begun["relayed"] == len(sent)
        assert counters["recorded"] - begun["recorded"] == len(sent)
        assert counters["rtcp_relayed"] == 0
        figures = r.call.figures(Side.CALLER)
        assert (figures.lost, figures.late, figures.duplicate) == (0, 0, 0)
        assert figures.recorded == figures.relayed == len(sent) + 1
        for other in others:
            assert other.figures(Side.CALLER).relayed == 1
        attacker.rtp.setblocking(False)
        with pytest.raises(BlockingIOError):
            attacker.rtp.recv(4096)
        attacker.close()


def sent_by_attacker(calls: int) -> int:
    return ROUNDS * calls * 2 * 3


def spray(r: Rig, calls: list, attacker: Peer) -> list[bytes]:  # type: ignore[type-arg]
    """Attack between the victim's packets; they must all arrive, in order, and alone."""
    sent = []
    for number in range(ROUNDS):
        stolen = packet.build(PCMU, r.caller.sequence + 1, 0, r.caller.ssrc, b"\x00" * 160)
        guessed = packet.build(PCMU, number, 0, 0xE71, b"\x00" * 160)
        for call in calls:
            for side in Side:
                at = call.local(side)
                attacker.rtp.sendto(stolen, (at.host, at.port))
                attacker.rtp.sendto(guessed, (at.host, at.port))
                attacker.rtcp.sendto(rtcp.receiver_report(1), (at.host, at.rtcp_port))
        sent.append(r.caller.send(r.at_caller))
        assert r.callee.rtp.recv(4096) == sent[-1]
    return sent
