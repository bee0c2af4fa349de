"""The health of a trunk's addresses in virtual time: asked by OPTIONS, and met by calls."""

from __future__ import annotations

import pytest

from relay.call.health import Health
from relay.config import Trunk
from relay.sip.message import Request
from relay.sip.transaction import Hop
from tests.scenario.test_failover import FIRST, SECOND, assert_over, dead, replies, silent
from tests.scenario.world import Phone, World

LAST = "192.0.2.39"


def watched(period_s: float = 30.0, recovery: bool = False) -> tuple[World, Phone, Phone]:
    """Two addresses of the carrier, asked every `period_s`; the checks have begun."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    trunk = Trunk(
        name="carrier",
        origination=tuple({"uri": uri} for uri in world.router.targets["carrier"]),
        disaster_recovery=f"sip:{LAST}:5060" if recovery else None,
        health_check_s=period_s,
    )
    world.calls.health = Health(world.calls, (trunk,))
    world.relay.register(world.now)
    world.settle()
    return world, first, second


def states(world: World) -> list[str]:
    return [str(f["state"]) for name, _, f in world.journal.events if name == "target_state"]


def asked(phone: Phone) -> int:
    return len(phone.got("OPTIONS"))


def test_every_address_is_asked_every_so_often() -> None:
    world, first, second = watched(30.0)
    world.run(95)
    assert asked(first) == asked(second) == 4
    options = first.got("OPTIONS")[0]
    assert options.uri == f"sip:{FIRST}:5060" and options.contact is not None
    assert len({request.call_id for request in first.got("OPTIONS")}) == 4
    assert world.calls.health.figures() == {"up": 2}
    assert states(world) == []
    world.relay.unregister(world.now)
    world.run(120)
    assert asked(first) == 4


def test_a_silent_address_is_asked_again_at_once_and_then_down() -> None:
    """RFC 3261 repeats the OPTIONS within its four seconds: this is no lost packet."""
    world, first, _ = watched()
    dead(world, FIRST)
    world.run(3.9)
    assert states(world) == []
    world.run(0.5)
    assert states(world) == ["probing"]
    world.run(4)
    assert states(world) == ["probing", "down"]
    assert world.calls.health.figures() == {"down": 1, "up": 1}
    told = world.journal.last("target_state")
    assert (told["trunk"], told["uri"]) == ("carrier", f"sip:{FIRST}:5060")
    assert told["why"] == "no answer within 4 s"
    assert not first.requests


def test_an_address_that_is_down_is_called_last_until_it_answers_again() -> None:
    world, first, second = watched()
    dead(world, FIRST)
    world.run(10)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks), limit_s=0.5)  # no four seconds are waited
    world.pbx.bye()
    world.drop = lambda source, to, data: False
    world.run(40)
    assert states(world) == ["probing", "down", "up"]
    world.pbx.dialog = None
    world.pbx.call()
    world.run_until(lambda: bool(first.acks), limit_s=0.5)
    world.pbx.bye()
    world.relay.unregister(world.now)
    assert_over(world)


def test_when_all_are_down_all_are_tried_and_the_last_resort_comes_last() -> None:
    world, _, _ = watched(recovery=True)
    (last,) = (world.phones.setdefault(LAST, Phone(world, LAST)),)
    dead(world, FIRST, SECOND)
    world.run(10)
    assert world.calls.health.figures() == {"down": 2, "up": 1}
    world.router.targets["carrier"].append(f"sip:{LAST}:5060")
    route = world.router.route
    world.router.route = lambda trunk, number: _with_last_resort(*route(trunk, number))
    world.pbx.call()
    world.run_until(lambda: bool(last.acks), limit_s=9)
    tried = [to for _, to, data in world.wire if data.startswith(b"INVITE sip:+") and to != LAST]
    assert {FIRST, SECOND} <= set(tried)
    world.pbx.bye()
    world.relay.unregister(world.now)
    assert_over(world)


def _with_last_resort(route: object, targets: list):  # type: ignore[type-arg]
    return route, [*targets[:-1], targets[-1]._replace(last_resort=True)]


@pytest.mark.parametrize("status", [200, 401, 404, 405, 486, 500, 603])
def test_whoever_answers_is_up(status: int) -> None:
    world, first, _ = watched()
    first.on_request = lambda tx, request: first.reply(tx, request, status)
    world.run(10)
    assert states(world) == []


@pytest.mark.parametrize("status", [408, 503])
def test_whoever_says_that_it_is_not_well_is_down(status: int) -> None:
    world, first, _ = watched()
    first.on_request = lambda tx, request: first.reply(tx, request, status)
    world.run(10)
    assert states(world) == ["probing", "down"]
    assert world.journal.last("target_state")["why"] == str(status)


def test_a_call_that_fails_has_its_address_asked_at_once() -> None:
    """503 to the INVITE; the OPTIONS that follows is answered: nothing more happens."""
    world, first, second = watched(600)
    first.on_request = replies(first, 503)
    world.run(1)
    before = asked(first)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    world.run(1)
    assert asked(first) == before + 1
    assert states(world) == ["probing", "up"]


def test_calls_alone_find_out_that_an_address_is_down() -> None:
    """The first that waits in vain makes it probing; its OPTIONS has no answer either."""
    world, first, second = watched(600)
    world.run(1)
    dead(world, FIRST)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    world.run(10)
    assert states(world) == ["probing", "down"]
    assert "in time" in str(
        next(f["why"] for name, _, f in world.journal.events if name == "target_state")
    )
    assert not first.got("INVITE")


def test_a_busy_callee_says_nothing_against_its_trunk() -> None:
    world, first, _ = watched(600)
    first.on_request = replies(first, 486)
    world.run(1)
    world.pbx.call()
    world.run_until(lambda: 486 in world.pbx.statuses())
    assert states(world) == []


def test_a_late_answer_brings_an_address_back() -> None:
    world, first, _ = watched(20)
    held: list[tuple[object, Request]] = []
    first.on_request = lambda tx, request: held.append((tx, request))
    world.run(9)
    assert states(world) == ["probing", "down"]
    first.reply(*held[-1], 200)
    world.run(0.1)
    assert states(world) == ["probing", "down", "up"]


def test_a_name_is_well_while_one_of_its_addresses_is() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = silent
    world.names["carrier.example"] = tuple(Hop("udp", host, 5060) for host in (FIRST, SECOND))
    trunk = Trunk(
        name="carrier", origination=({"uri": "sip:carrier.example"},), health_check_s=30.0
    )
    world.calls.health = Health(world.calls, (trunk,))
    world.relay.register(world.now)
    world.run(20)
    assert asked(second) == 1 and states(world) == []


def test_a_name_that_leads_nowhere_is_down() -> None:
    world = World()
    trunk = Trunk(name="carrier", origination=({"uri": "sip:nobody.example"},), health_check_s=30.0)
    world.calls.health = Health(world.calls, (trunk,))
    world.relay.register(world.now)
    world.run(1)
    assert states(world) == ["probing", "down"]
    assert world.journal.last("target_state")["why"] == "its name has no address"


def test_without_checks_nothing_is_asked_and_the_order_is_as_configured() -> None:
    world = World()
    trunk = Trunk(name="carrier", origination=({"uri": f"sip:{FIRST}:5060"},))
    world.calls.health = Health(world.calls, (trunk,))
    world.relay.register(world.now)
    world.run(100)
    assert not world.wire and world.calls.health.figures() == {}
