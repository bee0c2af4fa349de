"""A voice client that wants more than its own calls (virtual time)."""

from __future__ import annotations

import pytest

from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.scenario.test_attack import assert_clean
from tests.scenario.test_clients import rings
from tests.scenario.world import CLIENT_NUMBER, DEVICES, NUMBER, PBX, RELAY, Device, World


@pytest.mark.parametrize("calls", [True, False])
def test_no_contact_of_a_client_has_us_send_anything_to_it(calls: bool) -> None:
    """Its connection is gone for good, and its Contact names the address of a trunk."""
    world = World(account={"reconnect_s": 0.0})
    alice = world.device("alice")
    victim, peer = (world.pbx, world.carrier) if calls else (world.carrier, world.pbx)
    alice.contact = f"<sip:alice@{victim.host}:5060;transport=udp>"
    alice.register()
    world.run(0.1)
    (alice if calls else world.pbx).call(NUMBER if calls else CLIENT_NUMBER)
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


def talking(world: World, alice: Device) -> None:
    """A trunk has called her."""
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))


def refer(world: World, alice: Device, said: str = "") -> None:
    """She refers it to a number."""
    assert alice.dialog is not None
    request = alice.dialog.request("REFER", contact=alice.contact)
    request.headers.add("Refer-To", f"<sip:{NUMBER}@{RELAY}>")
    if said:
        request.headers.add("Referred-By", said)
    alice.send(request)
    world.run(1.0)


@pytest.mark.parametrize("why", ["out", "expired"])
def test_who_may_not_call_out_does_not_by_a_transfer(why: str) -> None:
    world = World(account={"transfer": "enable-all"})
    alice = world.device("alice", may_call_out=why != "out", until=world.now + 90.0)
    talking(world, alice)
    if why == "expired":
        world.run(120.0)
    refer(world, alice)
    assert alice.statuses("REFER") == [403]
    assert why in (alice.responses[-1].headers.get("Warning") or "")
    assert not world.carrier.requests


def test_who_transfers_a_call_is_who_its_token_says() -> None:
    world = World(account={"transfer": "enable-all"}, carrier={"trusted": True})
    alice = world.device("alice", number="+35315550144")
    talking(world, alice)
    refer(world, alice, '"Boss" <sip:+35315550177@evil.example>')
    (invite,) = world.carrier.got("INVITE")
    assert invite.headers.get("Referred-By") == f"<sip:+35315550144@{RELAY}:5060>"
