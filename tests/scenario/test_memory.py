"""Ended calls leave nothing behind that only a garbage collector would find."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from tests.scenario.test_authorized import PASSWORD, asking
from tests.scenario.test_clients import pick_up, refuse, ringing
from tests.scenario.test_prack import prack, started
from tests.scenario.test_transfer import Transferred
from tests.scenario.world import CARRIER, CLIENT_NUMBER, PBX, World, sdp


@pytest.fixture(autouse=True)
def _no_collector() -> object:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> Counter[str]:
    """Live objects of the application and of the transactions, by class."""
    kept = ("Call", "CallerLeg", "CalleeLeg", "IncomingInvite", "OutgoingInvite", "Dialog")
    kept += ("Transfer", "Subscription", "Renegotiation", "Hunt", "Fork", "Exchange", "MidCall")
    kept += ("SessionTimer", "Refresh", "ReliableProgress", "EarlyDialog", "Branches")
    return Counter(type(o).__name__ for o in gc.get_objects() if type(o).__name__ in kept)


def make_calls(world: World, count: int) -> None:
    for _ in range(count):
        world.pbx.dialog = world.carrier.dialog = None
        acks = len(world.carrier.acks)
        world.pbx.call()
        world.run_until(lambda before=acks: len(world.carrier.acks) > before)
        world.pbx.bye()
        world.run_until(lambda: world.calls.idle)
    world.run(100)  # every transaction has ended
    world.pbx.dialog = world.carrier.dialog = None
    found = left()
    assert not found, found


def test_an_ended_call_is_freed_without_the_collector() -> None:
    """100 calls/s for 32 s of lingering transactions would otherwise add up."""
    make_calls(World(recording="record-from-answer-dual"), 5)


@pytest.mark.parametrize("password", [PASSWORD, "another"])
def test_a_call_with_our_credentials_is_freed_without_the_collector(password: str) -> None:
    world, carrier = asking()
    make_calls(world, 3)
    carrier.password = password
    carrier.counts.clear()
    world.pbx.call()
    world.run(100)
    if password == PASSWORD:
        world.pbx.bye()
        world.run(100)
    carrier.accepted.clear()
    world.pbx.dialog = world.carrier.dialog = None
    found = left()
    assert not found, found


@pytest.mark.parametrize("side", ["pbx", "carrier"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO"])
@pytest.mark.parametrize("body", ["hold", "empty", "broken"])
def test_a_call_with_a_request_in_it_is_freed_without_the_collector(
    side: str, method: str, body: str
) -> None:
    """The transactions, who listens to them, and the exchange between the legs are a circle."""
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    phone = getattr(world, side)
    hold = sdp(phone.host, 4000, extra="a=sendonly")
    phone.in_dialog(method, {"hold": hold, "empty": b"", "broken": b"v=0\r\nm=x\r\n"}[body])
    world.run(1.0)
    world.pbx.bye()
    world.run(100.0)
    assert world.calls.idle
    for each in (world.pbx, world.carrier):
        each.dialog = None
        each._repeat.clear()
    found = left()
    assert not found, found


def test_a_transferred_call_is_freed_without_the_collector() -> None:
    """The target answers one call, refuses another, is still ringing at the end of a third."""
    for answer in ("answer_all", "reject", "ring"):
        rig = Transferred()
        target = rig.target
        if answer == "reject":
            target.on_request = lambda tx, request, phone=target: phone.reply(tx, request, 486)
        elif answer == "ring":
            target.on_request = target.ring
        rig.refer()
        rig.world.run(5.0)
        rig.transferee.bye()
        rig.world.run(100.0)
        assert rig.world.calls.idle
        for phone in rig.world.phones.values():
            phone.dialog = None
            phone._repeat.clear()
        found = left()
        assert not found, (answer, found)


@pytest.mark.parametrize("how", ["refused", "silent", "ringing"])
def test_a_call_that_was_tried_at_three_addresses_is_freed_without_the_collector(how: str) -> None:
    """The first two fail, or never answer; the third takes the call."""
    world = World()
    first, second, third = world.carrier_at("192.0.2.31", "192.0.2.32", "192.0.2.33")
    for phone in (first, second):
        if how == "refused":
            phone.on_request = lambda tx, request, own=phone: own.reply(tx, request, 503)
        elif how == "ringing":
            phone.on_request = lambda tx, request, own=phone: (
                own.ring(tx, request, body=sdp(own.host, 5002)),
                own.reply(tx, request, 503),
            )
    if how == "silent":
        world.drop = lambda source, to, data: to in (first.host, second.host)
    world.pbx.call()
    world.run_until(lambda: bool(third.acks))
    world.pbx.bye()
    world.run(100)
    assert world.calls.idle
    world.pbx.dialog = third.dialog = None


@pytest.mark.parametrize("ending", ["bye", "cancel", "no prack", "refresh"])
def test_a_busy_call_is_freed_without_the_collector(ending: str) -> None:
    """PRACK on both legs, session timers, hold, a key, and several ways to end."""
    world = World(carrier={"session_expires_s": 100})
    callee = started(world, Require="100rel", Supported="timer", Session_Expires="100")
    callee.progress(1, sdp(CARRIER, 5000))
    world.run(0.1)
    if ending == "no prack":
        world.run(40)
    else:
        prack(world.pbx, world.pbx.responses[-1])
        world.run(0.1)
    if ending == "cancel":
        world.pbx.cancel()
    elif ending in ("bye", "refresh"):
        world.carrier.headers = {"Session-Expires": "100;refresher=uac", "Allow": "UPDATE"}
        callee.answer()
        world.run(1)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4000, extra="a=sendonly"))
        world.run(1)
        world.pbx.in_dialog("INFO", b"Signal=1")
        world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 488)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(1)
        world.carrier.on_request = world.carrier.answer_all
        world.run(120)  # two refreshes of the callee's timer
        if ending == "bye":
            world.pbx.bye()
        else:
            world.drop = lambda source, to, data: to == CARRIER
    world.run(150)
    assert world.calls.idle and not world.bugs
    for phone in (world.pbx, world.carrier):
        phone.dialog = None
        phone._repeat.clear()
    found = left()
    assert not found, found


def test_what_lingers_of_an_ended_call_is_little() -> None:
    """Its transactions wait for repeats for 32 s: not with its descriptions and its parties."""
    heavy = ("MediaSection", "Negotiation", "Branches", "FakeCallMedia", "CallerLeg")

    def held() -> Counter[str]:
        return Counter(type(o).__name__ for o in gc.get_objects() if type(o).__name__ in heavy)

    before = held()  # by tests that ran earlier
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    assert held() - before
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert len(world.relay._layer) == 4
    world.media.calls.clear()
    assert not held() - before


@pytest.mark.parametrize("ends", ["answered", "crossed", "refused", "cancelled", "lost"])
def test_a_call_to_several_devices_is_freed_without_the_collector(ends: str) -> None:
    world = World()
    devices = [world.device("alice") for _ in range(3)]
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    if ends in ("answered", "crossed"):
        for device in devices[: 1 if ends == "answered" else 3]:
            pick_up(device)
    elif ends == "refused":
        for device in devices:
            refuse(device, 486)
    elif ends == "cancelled":
        world.pbx.cancel()
    else:
        for device in devices:
            device.lose()
    world.run(40.0)
    if ends in ("answered", "crossed"):
        world.pbx.bye()
    world.run(100.0)
    assert world.calls.idle
    for phone in (world.pbx, *devices):
        phone.dialog = phone.invite_tx = None
        phone._repeat.clear()
    found = left()
    assert not found, found
