"""The longest duration of a call: a BYE both ways that names the limit, or nothing at all."""

from __future__ import annotations

from tests.scenario.test_attack import assert_clean
from tests.scenario.world import World

LIMIT = "call_duration_s of trunk acme is 60"
TOLD = "the longest duration of a call is over"  # to both sides: whose limit, is the log's


def _limited() -> World:
    world = World()
    world.admission.limit = (60.0, LIMIT)
    return world


def test_a_call_ends_both_ways_at_its_longest_duration() -> None:
    world = _limited()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    answered = world.now
    world.run_until(lambda: bool(world.pbx.got("BYE") and world.carrier.got("BYE")), 70)
    assert 59.5 < world.now - answered < 60.5
    for phone in (world.pbx, world.carrier):
        assert phone.got("BYE")[0].headers.get("Reason") == f'Q.850;cause=102;text="{TOLD}"'
    ended = world.journal.last("call_ended")
    assert ended["cause"] == LIMIT
    assert world.calls.counters["lasted_too_long"] == 1
    assert_clean(world)


def test_ringing_does_not_count() -> None:
    world = _limited()
    pending = []
    world.carrier.on_request = lambda tx, request: pending.append((tx, request))
    world.pbx.call()
    world.run_until(lambda: bool(pending))
    world.carrier.ring(*pending[0])
    world.run(100)
    assert not world.pbx.got("BYE")
    world.carrier.answer(*pending[0])
    world.carrier.on_request = world.carrier.answer_all
    world.run(50)
    assert len(world.calls.active) == 1
    world.run(15)
    assert_clean(world)
    assert world.journal.last("call_ended")["cause"] == LIMIT


def test_a_call_that_ends_before_leaves_no_alarm() -> None:
    world = _limited()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.calls.alarms.next_timer() is None
    assert world.journal.last("call_ended")["cause"] == "caller hung up"
    assert_clean(world)


def test_a_caller_that_never_acknowledges_is_hung_up_on_too() -> None:
    world = World()
    world.admission.limit = (5.0, LIMIT)
    world.pbx.acknowledge = False
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.got("BYE")), 10)
    assert_clean(world)
