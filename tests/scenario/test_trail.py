"""Each address that a call leads to, on its side of it, with what for and the verdict."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from relay.call.ports import Latched, PathSelected, Side
from relay.call.trail import MOST_SEEN, Trail
from relay.call.transitions import State
from relay.residency.boundary import Boundary, Use
from relay.residency.record import Seen
from tests.scenario.test_failover import _contact, named, replies
from tests.scenario.test_transfer import TARGET, Transferred
from tests.scenario.world import CARRIER, PBX, World, sdp

AWAY = "203.0.113.66"  # no network of the region


def up(world: World) -> Trail:
    """The trail of a call that is answered."""
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    (call,) = world.calls.active.values()
    return call.trail


def uses(trail: Trail, side: Side) -> set[tuple[str, str, bool, bool]]:
    return {(seen.use, seen.host, seen.inside, seen.allowed) for seen in trail.seen(side)}


def refused_uses(world: World) -> list[object]:
    """What was refused, in the words of the events."""
    events = world.journal.events
    return [fields["use"] for name, _, fields in events if name == "boundary_refused"]


def test_a_call_names_every_address_of_both_sides() -> None:
    trail = up(World())
    assert uses(trail, Side.CALLER) == {
        (use, PBX, True, True) for use in ("signalling", "contact", "media")
    }
    assert uses(trail, Side.CALLEE) == {
        (use, CARRIER, True, True) for use in ("signalling", "contact", "media")
    }
    ports = {seen.use: seen.port for seen in trail.seen(Side.CALLEE)}
    assert ports["media"] != ports["signalling"] == 5060


def test_what_dns_says_is_named_before_it_is_used() -> None:
    world = World()
    named(world, AWAY, CARRIER)
    seen = uses(up(world), Side.CALLEE)
    assert ("dns-answer", AWAY, False, False) in seen
    assert ("dns-answer", CARRIER, True, True) in seen
    assert refused_uses(world) == ["dns-answer"]


def test_what_the_engine_learns_is_named() -> None:
    world = World()
    trail = up(world)
    (call,) = world.calls.active
    world.calls.on_media(call, Latched(Side.CALLER, "192.0.2.77", 4444), world.now)
    world.calls.on_media(call, PathSelected(Side.CALLEE, "192.0.2.78", 5555), world.now)
    assert Seen("latch", "192.0.2.77", 4444, True, True) in trail.seen(Side.CALLER)
    assert Seen("candidate", "192.0.2.78", 5555, True, True) in trail.seen(Side.CALLEE)


def test_a_call_is_named_in_what_is_told_of_a_refusal() -> None:
    world = World()
    world.pbx.call(body=sdp(AWAY, 4000))
    world.run_until(lambda: 488 in world.pbx.statuses())
    assert world.calls.counters["boundary_refused"] == 1
    ((_, call, fields),) = [e for e in world.journal.events if e[0] == "boundary_refused"]
    assert call != "-" and fields == {"use": "media", "host": AWAY, "count": 1}


@pytest.mark.parametrize("where", ["offer", "answer", "redirect", "dns", "contact"])
def test_a_dry_run_lets_it_through_and_counts(where: str) -> None:
    world = World(enforce=False)
    body, use = sdp(PBX, 4000), "media"
    if where == "offer":
        body = sdp(AWAY, 4000)
    elif where == "answer":
        world.carrier.on_request = lambda tx, request: world.carrier.answer(
            tx, request, body=sdp(AWAY, 5000)
        )
    elif where == "contact":
        moved = _contact(world, f"<sip:pbx@{AWAY}>")
        world.pbx.layer.request = moved  # type: ignore[method-assign]
        use = "contact"
    elif where == "dns":
        named(world, AWAY)
        use = "dns-answer"
    else:
        world.carrier.on_request = replies(world.carrier, 302, Contact=f"<sip:x@{AWAY}>")
        use = "redirect"
    world.pbx.call(body=body)
    world.run_until(lambda: bool(world.calls.counters["boundary_would_refuse"]))
    assert not world.calls.counters["boundary_refused"]
    assert world.journal.last("boundary_would_refuse")["use"] == use
    (call,) = world.calls.active.values()
    seen = uses(call.trail, Side.CALLER if where in ("offer", "contact") else Side.CALLEE)
    assert (use, AWAY, False, True) in seen
    if where in ("redirect", "dns"):
        world.run_until(lambda: any(to == AWAY for _, to, _ in world.wire))


def test_what_cannot_be_kept_is_refused() -> None:
    """Else a receipt could not name all of it."""
    told: list[str] = []
    boundary = Boundary([ip_network("192.0.2.0/24")], True, lambda verdict, id: told.append(id))
    trail = Trail(boundary, "c1")
    for port in range(MOST_SEEN):
        assert trail.allows(Side.CALLER, Use.MEDIA, PBX, port)
    assert not trail.allows(Side.CALLER, Use.MEDIA, PBX, MOST_SEEN)
    assert trail.allows(Side.CALLER, Use.MEDIA, PBX, 0)
    assert trail.allows(Side.CALLEE, Use.MEDIA, PBX, 0)
    assert len(trail.seen(Side.CALLER)) == MOST_SEEN
    for _ in range(3):
        assert not trail.allows(Side.CALLEE, Use.MEDIA, AWAY, 9)
    assert told == ["c1"]


def test_in_a_dry_run_what_lies_outside_is_named_however_much_lies_inside() -> None:
    trail = Trail(Boundary([ip_network("192.0.2.0/24")], enforce=False), "c1")
    for port in range(2 * MOST_SEEN):
        trail.allows(Side.CALLER, Use.CANDIDATE, PBX, port)
    used = [
        port for port in range(2 * MOST_SEEN) if trail.allows(Side.CALLER, Use.MEDIA, AWAY, port)
    ]
    named = [each.port for each in trail.seen(Side.CALLER) if not each.inside]
    assert used == named == list(range(MOST_SEEN))


def test_a_transfer_out_of_the_region_is_refused_and_the_call_goes_on() -> None:
    rig = Transferred()
    rig.world.router.targets = {key: [f"sip:{AWAY}:5060"] for key in ("acme", "carrier")}
    rig.refer()
    rig.until(lambda: len(rig.told()) >= 2)
    assert rig.told()[-1][0] == "SIP/2.0 403 Forbidden"
    assert ("refer", AWAY, False, False) in uses(rig.call.trail, rig.side)
    assert refused_uses(rig.world) == ["refer"]
    assert rig.call.state is State.UP
    assert not [to for _, to, _ in rig.world.wire if to == AWAY]


def test_the_target_of_a_transfer_sends_no_audio_out_of_the_region() -> None:
    rig = Transferred()
    rig.target.on_request = lambda tx, request: rig.target.answer(tx, request, body=sdp(AWAY, 5000))
    rig.refer()
    rig.until(lambda: bool(refused_uses(rig.world)))
    seen = uses(rig.call.trail, rig.side)
    assert ("signalling", TARGET, True, True) not in seen  # it was reached by a REFER
    assert {("refer", TARGET, True, True), ("media", AWAY, False, False)} <= seen


def test_what_is_refused_within_a_call_is_in_its_trail() -> None:
    world = World()
    trail = up(world)
    world.pbx.in_dialog("INVITE", sdp(AWAY, 4000, extra="a=sendrecv"))
    world.run_until(lambda: 488 in world.pbx.statuses("INVITE"))
    assert ("media", AWAY, False, False) in uses(trail, Side.CALLER)
