"""A voice client that wants more than its own calls (virtual time)."""

from __future__ import annotations

import pytest

from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.scenario.test_attack import assert_clean
from tests.scenario.test_clients import rings
from tests.scenario.world import CLIENT_NUMBER, DEVICES, PBX, World


@pytest.mark.parametrize("calls", [True, False])
def test_no_contact_of_a_client_has_us_send_anything_to_it(calls: bool) -> None:
    """Its connection is gone for good, and its Contact names the address of a trunk."""
    world = World(account={"reconnect_s": 0.0})
    alice = world.device("alice")
    victim, peer = (world.pbx, world.carrier) if calls else (world.carrier, world.pbx)
    alice.contact = f"<sip:alice@{victim.host}:5060;transport=udp>"
    alice.register()
    world.run(0.1)
    (alice if calls else world.pbx).call("+35315550199" if calls else CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.dialog or alice.acks) and bool(peer.dialog or peer.acks))
    world.run(1.0)
    alice.lose()
    world.run_until(lambda: bool(peer.got("BYE")))
    world.run(40.0)
    assert not victim.requests
    assert_clean(world)


def cancel_of(world: World, source: str) -> bytes:
    """The CANCEL of the INVITE that was seen from there."""
    invite = next(
        parse(data) for host, _, data in world.wire if host == source and data[:6] == b"INVITE"
    )
    names = ("Via", "From", "To", "Call-ID", "Max-Forwards")
    fields = [(name, invite.headers.get(name) or "") for name in names]
    number = ("CSeq", f"{invite.cseq.number} CANCEL")
    return Request("CANCEL", invite.uri, Headers([*fields, number])).encode()  # type: ignore[union-attr]


@pytest.mark.parametrize("source", [DEVICES, PBX])
def test_nobody_behind_the_same_address_cancels_a_clients_or_a_trunks_call(source: str) -> None:
    """An office has one address: its PBX and all its voice clients are behind it."""
    world = World()
    rings(world.carrier)
    caller = world.device("alice") if source == DEVICES else world.pbx
    mallory = world.device("mallory")
    caller.call()
    world.run_until(lambda: bool(world.carrier.requests))
    there = Hop("wss", source, 40000, mallory.connection.link)
    world.to_relay(cancel_of(world, source), there)
    world.run(1.0)
    assert not world.carrier.cancelled
    caller.cancel()
    world.run_until(lambda: bool(world.carrier.cancelled))
