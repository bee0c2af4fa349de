"""A voice client's connection drops: what comes back in time goes on (RFC 5626, virtual time)."""

from __future__ import annotations

import pytest

from relay.sip.message import Request
from tests.scenario.test_attack import assert_clean
from tests.scenario.test_clients import pick_up, refuse, ringing, rings, warning
from tests.scenario.world import CLIENT_NUMBER, DEVICES, Device, World

KEPT_S = 30.0


def talking(world: World, to_client: bool) -> Device:
    """A call between a trunk and Alice, answered."""
    alice = world.device("alice")
    if to_client:
        world.pbx.call(CLIENT_NUMBER)
        world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    else:
        alice.call("+35315550199")
        world.run_until(lambda: bool(world.carrier.acks) and bool(alice.dialog))
    world.run(1.0)
    return alice


# --- in a call


@pytest.mark.parametrize("to_client", [True, False])
def test_a_call_outlives_its_clients_connection(to_client: bool) -> None:
    """Requests of both sides then go over the new one."""
    world = World()
    alice = talking(world, to_client)
    other = world.pbx if to_client else world.carrier
    alice.lose()
    world.run(KEPT_S - 0.1)
    alice.reconnect()
    world.run(5.0)
    assert not other.got("BYE")
    old = alice.requests[:]
    other.in_dialog("INFO", b"Signal=5\r\n")
    world.run_until(lambda: 200 in other.statuses("INFO"))
    assert [request.method for request in alice.requests[len(old) :]] == ["INFO"]
    alice.bye()
    world.run_until(lambda: bool(other.got("BYE")) and 200 in alice.statuses("BYE"))
    assert_clean(world)


@pytest.mark.parametrize("to_client", [True, False])
def test_a_call_whose_client_does_not_come_back_ends(to_client: bool) -> None:
    world = World()
    alice = talking(world, to_client)
    other = world.pbx if to_client else world.carrier
    alice.lose()
    world.run(KEPT_S - 0.1)
    assert not other.got("BYE")
    world.run(0.2)
    (bye,) = other.got("BYE")
    side = "callee" if to_client else "caller"
    text = f"the {side}'s connection was lost and did not come back"
    assert bye.headers.get("Reason") == f'Q.850;cause=102;text="{text}"'
    assert world.journal.last("call_ended")["cause"] == text
    assert world.calls.counters["lost"] == 1
    alice.reconnect()  # too late: its phone rings again, the call is no more
    alice.bye()
    world.run_until(lambda: 481 in alice.statuses("BYE"))
    assert_clean(world)


def test_a_client_may_have_no_time_to_come_back() -> None:
    world = World(account={"reconnect_s": 0.0})
    alice = talking(world, True)
    alice.lose()
    world.run_until(lambda: bool(world.pbx.got("BYE")), 1.0)
    assert_clean(world)


def test_the_other_side_hangs_up_while_the_connection_is_lost() -> None:
    """The BYE waits for the client."""
    world = World()
    alice = talking(world, True)
    alice.lose()
    world.run(5.0)
    world.pbx.bye()
    world.run_until(lambda: 200 in world.pbx.statuses("BYE"))
    alice.reconnect()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


def test_the_client_hangs_up_into_a_connection_that_is_lost() -> None:
    """Its BYE never came: it says so again on the new one."""
    world = World()
    alice = talking(world, True)
    alice.lose()
    alice.bye()
    world.run(3.0)
    assert not world.pbx.got("BYE")
    alice.reconnect()
    alice.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_the_answer_to_a_bye_is_lost() -> None:
    world = World()
    alice = talking(world, True)
    world.pbx.bye()
    world.run(0.025)  # the BYE has come, its 200 is under way
    alice.lose()
    world.run(KEPT_S + 1.0)
    assert 200 in world.pbx.statuses("BYE")
    assert_clean(world)


def test_a_connection_moves_while_a_re_invite_is_out() -> None:
    """The answer comes over the new connection, and so does the ACK go."""
    world = World()
    alice = talking(world, True)
    pending: list[tuple[object, Request]] = []
    alice.on_request = lambda tx, request: pending.append((tx, request))
    world.pbx.in_dialog("INVITE", world.pbx.describe(4002))
    world.run_until(lambda: bool(pending))
    alice.lose()
    world.run(2.0)
    alice.reconnect()
    acks = len(alice.acks)
    alice.answer(*pending[0])
    world.run_until(lambda: len(alice.acks) > acks)
    assert world.pbx.statuses().count(200) == 2
    alice.on_request = alice.answer_all
    world.pbx.bye()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


def test_a_re_invite_waits_for_the_client() -> None:
    world = World()
    alice = talking(world, True)
    alice.lose()
    world.run(0.5)
    world.pbx.in_dialog("INVITE", world.pbx.describe(4002))
    world.run(3.0)
    assert world.pbx.statuses().count(200) == 1
    alice.reconnect()
    world.run_until(lambda: world.pbx.statuses().count(200) == 2)
    world.pbx.bye()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


def test_a_call_outlives_the_token_of_its_client() -> None:
    """What has begun goes on; only another call would need another token."""
    world = World()
    alice = world.device("alice", until=world.now + 70.0)
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    world.run(80.0)
    alice.in_dialog("INFO", b"Signal=5\r\n")
    world.run_until(lambda: bool(world.pbx.got("INFO")))
    alice.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_nobody_else_may_speak_in_a_clients_dialog() -> None:
    """All clients may have one address (a NAT): only the connection tells them apart."""
    world = World()
    alice, mallory = talking(world, True), world.device("mallory")
    mallory.dialog = alice.dialog
    mallory.bye()
    world.run_until(lambda: 403 in mallory.statuses("BYE"))
    assert not world.pbx.got("BYE")
    alice.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))


def test_no_client_may_speak_in_a_trunks_dialog() -> None:
    world = World()
    world.pbx.contact = f"<sip:{DEVICES}:40000>"  # it is behind the same NAT
    alice = talking(world, True)
    alice.dialog = world.pbx.dialog
    alice.bye()
    world.run_until(lambda: 403 in alice.statuses("BYE"))
    assert not world.pbx.got("BYE")


# --- before the answer


def test_the_only_device_loses_its_connection_while_it_rings() -> None:
    """It comes back, and what it says then counts."""
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, alice)
    alice.lose()
    world.run(10.0)
    alice.reconnect()
    pick_up(alice)
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog))
    world.pbx.bye()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


def test_a_device_that_rings_does_not_come_back() -> None:
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, alice)
    alice.lose()
    world.run(KEPT_S - 0.2)
    assert 480 not in world.pbx.statuses()
    world.run_until(lambda: 480 in world.pbx.statuses(), 1.0)
    assert "could not be reached" in warning(world.pbx)
    assert_clean(world)


def test_one_of_two_devices_is_lost_and_the_other_answers() -> None:
    world = World()
    first, second = world.device("alice"), world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first, second)
    first.lose()
    world.run(KEPT_S + 1.0)
    assert 480 not in world.pbx.statuses()
    pick_up(second)
    world.run_until(lambda: bool(second.acks) and bool(world.pbx.dialog))
    second.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_an_invite_waits_for_a_device_and_is_taken_back() -> None:
    """CANCEL waits for its first 1xx (RFC 3261 section 9.1)."""
    world = World()
    alice = world.device("alice")
    rings(alice)
    alice.lose()
    world.pbx.call(CLIENT_NUMBER)
    world.run(1.0)
    world.pbx.cancel()
    world.run_until(lambda: 487 in world.pbx.statuses())
    alice.reconnect()
    world.run_until(lambda: bool(alice.cancelled))
    assert_clean(world)


def test_the_answer_is_lost_with_the_connection() -> None:
    """The device repeats it on the new one (RFC 3261 section 13.3.1.4)."""
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, alice)
    alice.lose()
    pick_up(alice)
    world.run(2.0)
    assert not world.pbx.dialog
    alice.reconnect()
    world.run_until(lambda: bool(alice.acks) and bool(world.pbx.dialog), 5.0)
    world.pbx.bye()
    world.run_until(lambda: bool(alice.got("BYE")))
    assert_clean(world)


def test_a_calling_clients_connection_is_lost_before_the_answer() -> None:
    """It hears of the answer when it is back."""
    world = World()
    alice = world.device("alice")
    rings(world.carrier)
    alice.call("+35315550199")
    world.run_until(lambda: 180 in alice.statuses())
    alice.lose()
    world.run(3.0)
    pick_up(world.carrier)
    world.run(3.0)
    alice.reconnect()
    world.run_until(lambda: bool(alice.dialog) and bool(world.carrier.acks))
    world.run(1.0)
    alice.bye()
    world.run_until(lambda: bool(world.carrier.got("BYE")))
    assert_clean(world)


def test_a_calling_client_does_not_come_back() -> None:
    world = World()
    alice = world.device("alice")
    rings(world.carrier)
    alice.call("+35315550199")
    world.run_until(lambda: 180 in alice.statuses())
    alice.lose()
    world.run_until(lambda: bool(world.carrier.cancelled), KEPT_S + 1.0)
    cause = world.journal.last("call_ended")["cause"]
    assert cause == "the caller's connection was lost"
    assert_clean(world)


def test_a_device_answers_a_call_that_was_given_up() -> None:
    """It was away for too long, and its person picks up all the same: ACK, and BYE."""
    world = World()
    alice = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, alice)
    alice.lose()
    world.run_until(lambda: 480 in world.pbx.statuses(), KEPT_S + 1.0)
    alice.reconnect()
    pick_up(alice)
    world.run_until(lambda: bool(alice.acks) and bool(alice.got("BYE")), 5.0)
    assert world.calls.counters["late_answers"] == 1
    assert_clean(world)


# --- registered while it rings


def test_a_device_that_registers_late_rings_too() -> None:
    """A page that was loaded again, an app that a push has woken."""
    world = World()
    first = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first)
    first.lose()
    second = Device(world, "alice")
    rings(second)
    second.register()
    world.run_until(lambda: bool(second.got("INVITE")))
    world.run(1.0)
    pick_up(second)
    world.run_until(lambda: bool(second.acks) and bool(world.pbx.dialog))
    first.reconnect()
    world.run_until(lambda: bool(first.cancelled))
    second.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_a_late_device_is_not_heard_beside_early_media() -> None:
    world = World()
    first = world.device("alice")
    first.on_request = lambda tx, request: first.ring(tx, request, body=first.describe(5000))
    world.pbx.call(CLIENT_NUMBER)
    world.run_until(lambda: 183 in world.pbx.statuses())
    second = world.device("alice")
    world.run(1.0)
    assert not second.requests


def test_one_device_that_was_called_is_joined_by_no_other() -> None:
    world = World()
    first = world.device("alice")
    rings(first)
    world.pbx.call("alice", params=f";gr={first.instance}")
    world.run_until(lambda: 180 in world.pbx.statuses())
    second = world.device("alice")
    world.run(1.0)
    assert not second.requests


def test_no_more_devices_ring_than_may_be_registered() -> None:
    world = World(account={"contacts": 2})
    devices = [world.device("alice")]
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, *devices)
    for _ in range(3):
        devices.append(Device(world, "alice"))
        rings(devices[-1])
        devices[-1].register()
        world.run(1.0)
    assert [len(device.got("INVITE")) for device in devices] == [1, 1, 0, 0]


def test_who_registers_after_the_call_is_over_is_not_rung() -> None:
    world = World()
    first = world.device("alice")
    world.pbx.call(CLIENT_NUMBER)
    ringing(world, first)
    refuse(first, 480)
    world.run_until(lambda: 480 in world.pbx.statuses())
    assert not world.calls.ringing
    second = world.device("alice")
    world.run(1.0)
    assert not second.requests
    assert_clean(world)
