"""Packets that somebody caught and sends again: elsewhere, later, or back to where they came from.

The attacker can forge any source address, so each comes from the expected one.
"""

from __future__ import annotations

import pytest

from relay.call.ports import MediaAddress, Side
from tests.unit.media_rig import DEADLINE_S, Peer, Rig, rig
from tests.unit.srtp_rig import SUITE_NAMES, Phone

FORGED, REPLAYED = "srtp_authentication_failed", "srtp_replayed"


def phones(r: Rig, suite: str, symmetric: bool = False) -> tuple[Phone, Phone]:
    """Two secure legs of one suite that have heard each other."""
    caller, callee = Phone(r.caller, suite), Phone(r.callee, suite)
    r.call.update(Side.CALLER, caller.leg(symmetric=symmetric))
    r.call.update(Side.CALLEE, callee.leg(symmetric=symmetric))
    for _ in range(3):
        sent = caller.send(r.at_caller)
        assert callee.hear() == sent
        sent = callee.send(r.at_callee)
        assert caller.hear() == sent
    return caller, callee


def refused(r: Rig, peer: Peer, to: MediaAddress, packets: list[bytes], why: str) -> None:
    """None of them goes anywhere, and each is counted."""
    side = Side.CALLER if peer is r.caller else Side.CALLEE
    other = r.callee if peer is r.caller else r.caller
    before = r.call.figures(side).drops.get(why, 0)
    for data in packets:
        peer.send(to, data)
    r.wait_for_drop(why, side, before + len(packets))
    other.rtp.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.rtp.recv(4096)
    other.rtp.settimeout(DEADLINE_S)


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_what_we_sent_to_a_peer_is_not_taken_from_it(suite: str) -> None:
    """Reflection: each direction has a key of its own."""
    with rig() as r:
        caller, callee = phones(r, suite)
        caller.send(r.at_caller)
        reflected = r.callee.rtp.recv(4096)
        refused(r, r.callee, r.at_callee, [reflected], FORGED)
        refused(r, r.caller, r.at_caller, [reflected], FORGED)
        assert callee.receiving.unprotect(reflected)  # it was a sound one
        assert caller.send(r.at_caller) == callee.hear()


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_a_packet_of_one_leg_is_worth_nothing_on_the_other(suite: str) -> None:
    with rig() as r:
        caller, callee = phones(r, suite)
        refused(r, r.callee, r.at_callee, [caller.packet()], FORGED)
        refused(r, r.caller, r.at_caller, [callee.packet()], FORGED)
        assert caller.send(r.at_caller) == callee.hear()


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_packets_of_before_are_refused_over_all_that_changes(suite: str) -> None:
    """Two roll-overs, another SSRC and back, another key, and the old key once more."""
    with rig() as r:
        r.caller.sequence = 65530
        caller, callee = phones(r, suite)

        def talk(count: int) -> list[bytes]:
            said = [caller.packet() for _ in range(count)]
            for data in said:
                r.caller.send(r.at_caller, data)
                callee.hear()
            return said

        old = talk(10)  # over the first roll-over
        refused(r, r.caller, r.at_caller, old, REPLAYED)
        first, r.caller.ssrc = r.caller.ssrc, 77
        other = talk(3)
        refused(r, r.caller, r.at_caller, old + other, REPLAYED)
        r.caller.ssrc = first
        refused(r, r.caller, r.at_caller, old + other, REPLAYED)
        old += talk(3)
        held = caller.leg()
        caller.rekey(suite)
        r.call.update(Side.CALLER, caller.leg())
        refused(r, r.caller, r.at_caller, old + other, REPLAYED)
        talk(3)
        r.call.update(Side.CALLER, held)
        refused(r, r.caller, r.at_caller, old + other, REPLAYED)


@pytest.mark.parametrize("suite", SUITE_NAMES)
def test_a_late_packet_from_before_the_roll_over_is_no_new_one(suite: str) -> None:
    """The same number under a later ROC: more than 65,536 packets later it is refused."""
    with rig() as r:
        caller, callee = phones(r, suite)
        old = caller.packet()
        r.caller.send(r.at_caller, old)
        callee.hear()
        for _ in range(5):  # most of a roll-over at a time is skipped, as in a long hold
            r.caller.sequence += 30000
            assert caller.send(r.at_caller) == callee.hear()
        caught = r.call.figures(Side.CALLER).drops
        assert not caught
        refused(r, r.caller, r.at_caller, [old], FORGED)


def test_the_first_packet_does_not_decide_on_a_symmetric_secure_leg() -> None:
    """Whoever is first with anything but an authentic packet is not listened to."""
    with rig(networks=("127.0.0.0/8",)) as r:
        caller = Phone(r.caller)
        r.call.update(
            Side.CALLER, caller.leg(symmetric=True, remote=MediaAddress("192.0.2.1", 4, 5))
        )
        r.call.update(Side.CALLEE, r.callee.leg())
        stranger = Peer(r.caller.host)
        try:
            stranger.send(r.at_caller)
            stranger.send(r.at_caller, Phone(stranger).packet())
            r.wait_for_drop(FORGED, count=2)
            assert caller.send(r.at_caller) == r.callee.rtp.recv(4096)
            stranger.send(r.at_caller, caller.packet())  # caught, and sent first
            r.wait_for_drop("wrong_source")
            assert r.callee.send(r.at_callee) == caller.hear()
        finally:
            stranger.close()
