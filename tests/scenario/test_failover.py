"""Reaching a trunk at several addresses, in virtual time: order, silence, failures, races."""

from __future__ import annotations

import pytest

from relay.call.ports import Side
from relay.sip.dialog import Dialog
from relay.sip.message import Request
from relay.sip.transaction import Hop
from tests.scenario.world import CARRIER, NUMBER, PBX, Phone, World, sdp

FIRST, SECOND, THIRD = "192.0.2.31", "192.0.2.32", "192.0.2.33"
OUTSIDE = "198.51.100.9"


def replies(phone: Phone, status: int, **headers: str):
    """The phone answers an INVITE with this status."""

    def reply(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            phone.answer_all(tx, request)
            return
        response = request.response(status, to_tag="x")
        for name, value in headers.items():
            response.headers.add(name, value)
        phone.layer.respond(tx, response, phone.world.now)

    return reply


def silent(tx: object, request: Request) -> None:
    """Takes everything and says nothing; its transaction layer still sends 100."""


def dead(world: World, *hosts: str) -> None:
    """Nothing reaches these."""
    world.drop = lambda source, to, data: to in hosts


def assert_over(world: World, wait_s: float = 120.0) -> None:
    world.run(wait_s)
    assert not world.bugs
    assert world.calls.idle
    assert not world.calls._legs and not world.calls._placed
    assert world.media.open_count == 0
    assert set(world.admission.live.values()) <= {0}
    assert len(world.relay._layer) == 0


def invites(phone: Phone) -> list[Request]:
    return phone.got("INVITE")


def test_a_silent_address_is_left_after_four_seconds() -> None:
    """Not even a 100: the next one is called, with a Call-ID and a tag of its own."""
    world = World()
    _, second = world.carrier_at(FIRST, SECOND)
    dead(world, FIRST)
    world.pbx.call()
    started = world.now
    world.run_until(lambda: bool(second.acks))
    assert 4.0 <= world.now - started < 4.2
    first_invite = next(data for _, to, data in world.wire if to == FIRST)
    theirs = invites(second)[0]
    assert theirs.call_id.encode() not in first_invite
    assert (theirs.from_.tag or "").encode() not in first_invite
    assert world.pbx.statuses() == [180, 200]
    failed = world.journal.last("attempt_failed")
    assert (failed["target"], failed["status"]) == (f"{FIRST}:5060", 408)
    world.pbx.bye()
    assert_over(world)


def test_an_address_that_says_100_may_take_its_time() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = silent  # its transaction layer sends the 100
    world.pbx.call()
    world.run(30)
    assert not second.requests
    world.pbx.cancel()
    assert_over(world)
    assert first.cancelled


def test_a_single_address_is_given_the_whole_time() -> None:
    """There is nowhere else to go: the INVITE is repeated for 32 s."""
    world = World()
    world.carrier_at(FIRST)
    dead(world, FIRST)
    world.pbx.call()
    world.run_until(lambda: 408 in world.pbx.statuses())
    assert "the called side did not answer" in (
        world.pbx.responses[-1].headers.get("Warning") or ""
    )
    assert_over(world)


@pytest.mark.parametrize("status", [400, 404, 405, 410, 416, 482, 484, 486, 600, 603, 604, 606])
def test_the_callees_own_word_does_not_fail_over(status: int) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = replies(first, status)
    world.pbx.call()
    world.run_until(lambda: status in world.pbx.statuses())
    assert_over(world)
    assert not second.requests


@pytest.mark.parametrize("status", [402, 403, 408, 415, 480, 481, 487, 488, 500, 502, 503, 504])
def test_any_other_failure_is_tried_elsewhere(status: int) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = replies(first, status)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    world.pbx.bye()
    assert_over(world)
    assert [a.call_id for a in first.acks] == []  # its ACK is the transaction's


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_that_cannot_be_met_is_an_answer(status: int) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = replies(first, status)
    world.pbx.call()
    world.run_until(lambda: 502 in world.pbx.statuses())
    assert_over(world)
    assert not second.requests


@pytest.mark.parametrize(
    ("statuses", "heard"),
    [((503, 480), 480), ((480, 503), 480), ((500, 503), 500), ((480, 484), 484), ((488, 415), 415)],
)
def test_when_all_fail_the_caller_hears_the_best(statuses: tuple[int, ...], heard: int) -> None:
    """RFC 3261 section 16.7, step 6: the lowest class, then what helps the caller."""
    world = World()
    for phone, status in zip(world.carrier_at(FIRST, SECOND), statuses, strict=True):
        phone.on_request = replies(phone, status)
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [heard]
    assert_over(world)


def test_when_none_answers_the_caller_is_told_how_many_were_tried() -> None:
    world = World()
    world.carrier_at(FIRST, SECOND)
    dead(world, FIRST, SECOND)
    world.pbx.call()
    world.run_until(lambda: 408 in world.pbx.statuses())
    warning = world.pbx.responses[-1].headers.get("Warning") or ""
    assert "the called side did not answer" in warning and "2 addresses were tried" in warning
    assert_over(world)


def test_what_cannot_be_sent_fails_over_at_once() -> None:
    world = World()
    _, second = world.carrier_at(FIRST, SECOND)
    world.unsendable = lambda data: f"@{FIRST}:5060 SIP".encode() in data
    world.pbx.call()
    world.run_until(lambda: bool(second.acks), limit_s=0.5)
    world.pbx.bye()
    assert_over(world)


def test_a_failure_while_ringing_goes_on_and_the_next_rings_in_a_dialog_of_its_own() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)

    def ring_then_fail(tx: object, request: Request) -> None:
        first.ring(tx, request, tag="same", body=sdp(FIRST, 5002))
        first.reply(tx, request, 503, tag="same")

    def answer(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            second.ring(tx, request, tag="same")
            second.answer(tx, request, tag="same", body=sdp(SECOND, 5004))
        else:
            second.answer_all(tx, request)

    first.on_request, second.on_request = ring_then_fail, answer
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    assert world.pbx.statuses() == [183, 180, 200]
    tags = [r.to.tag for r in world.pbx.responses if r.status > 100]
    assert tags[0] != tags[1] == tags[2]
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert second.got("BYE") and not first.got("BYE")
    assert_over(world)


@pytest.mark.parametrize("moment_s", [0.0, 2.0, 4.0, 4.005, 4.015, 6.0])
def test_the_caller_may_cancel_at_any_moment(moment_s: float) -> None:
    world = World()
    _, second, third = world.carrier_at(FIRST, SECOND, THIRD)
    dead(world, FIRST)
    second.on_request = lambda tx, request: second.ring(tx, request)
    world.pbx.call()
    world.run(0.05 + moment_s)
    world.pbx.cancel()
    world.run_until(lambda: 487 in world.pbx.statuses())
    assert_over(world)
    assert not third.requests
    assert bool(second.cancelled) == bool(second.requests)


def test_ringing_too_long_ends_the_whole_hunt() -> None:
    world = World()
    world.calls.ring_timeout_s = 10.0
    first, second = world.carrier_at(FIRST, SECOND)
    dead(world, FIRST)
    second.on_request = lambda tx, request: second.ring(tx, request)
    world.pbx.call()
    world.run_until(lambda: 480 in world.pbx.statuses(), limit_s=10.5)
    assert second.cancelled and not first.requests
    assert_over(world)


def test_a_late_answer_of_an_address_that_was_left_is_acknowledged_and_ended() -> None:
    """Its 100 was lost too; then it answers while the second one talks."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    held: list[tuple[object, Request]] = []
    first.on_request = lambda tx, request: (
        held.append((tx, request)) if request.method == "INVITE" else first.answer_all(tx, request)
    )
    world.drop = lambda source, to, data: source == FIRST and data.startswith(b"SIP/2.0 100")
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    world.run(1)
    first.answer(*held[0])
    world.run_until(lambda: bool(first.got("BYE")))
    assert len(first.acks) == 1
    assert world.pbx.statuses() == [180, 200] and not second.got("BYE")
    world.pbx.bye()
    assert_over(world)


def test_an_address_that_was_left_and_rings_late_is_cancelled() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    held: list[tuple[object, Request]] = []
    first.on_request = lambda tx, request: held.append((tx, request))
    world.drop = lambda source, to, data: source == FIRST and data.startswith(b"SIP/2.0 100")
    second.on_request = lambda tx, request: second.reply(tx, request, 183)
    world.pbx.call()
    world.run_until(lambda: 183 in world.pbx.statuses())
    first.ring(*held[0], tag="late")
    world.run_until(lambda: bool(first.cancelled))
    assert world.pbx.statuses() == [183]
    world.pbx.cancel()
    assert_over(world)


def test_a_late_failure_of_an_address_that_was_left_changes_nothing() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    held: list[tuple[object, Request]] = []
    first.on_request = lambda tx, request: held.append((tx, request))
    world.drop = lambda source, to, data: source == FIRST and data.startswith(b"SIP/2.0 100")
    second.on_request = lambda tx, request: second.ring(tx, request)
    world.pbx.call()
    world.run_until(lambda: 180 in world.pbx.statuses())
    first.reply(*held[0], 486)
    world.run(2)
    assert world.pbx.statuses() == [180]
    world.pbx.cancel()
    assert_over(world)


@pytest.mark.parametrize("seed", range(12))
def test_lost_packets_leave_no_call_behind(seed: int) -> None:
    """A quarter of all datagrams is lost; whatever the outcome, everything is given back."""
    world = World(loss=0.25, seed=seed)
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = replies(first, 503)
    world.pbx.call()
    world.run(60)
    if world.pbx.dialog is not None:
        world.pbx.bye()
    assert_over(world, 400)
    assert world.pbx.statuses() or world.pbx.timed_out
    assert second.requests


def test_a_delayed_offer_is_made_by_whoever_answers() -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)

    def offer_then_fail(tx: object, request: Request) -> None:
        first.ring(tx, request, body=sdp(FIRST, 5002))
        first.reply(tx, request, 503)

    first.on_request = offer_then_fail
    world.pbx.acknowledge = False
    world.pbx.call(body=b"")
    world.run_until(lambda: 200 in world.pbx.statuses())
    assert not invites(second)[0].body
    ok = world.pbx.responses[-1]
    assert ok.body
    world.pbx.send_ack(ok, sdp(PBX, 4000))
    world.run_until(lambda: bool(second.acks))
    assert second.acks[0].body
    world.pbx.bye()
    assert_over(world)


@pytest.mark.parametrize("status", [300, 301, 302])
def test_one_redirect_is_followed_to_the_number_and_address_it_names(status: int) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    world.router.targets["carrier"] = [f"sip:{FIRST}:5060"]
    contact = f"<sip:+35315550188@{SECOND}:5060;x=1>;q=0.5, <sip:+1@{CARRIER}>"
    first.on_request = replies(first, status, Contact=contact)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    assert invites(second)[0].uri == f"sip:+35315550188@{SECOND}:5060"
    assert not world.carrier.requests
    world.pbx.bye()
    assert_over(world)


def test_a_redirect_to_itself_is_followed_once() -> None:
    world = World()
    (first,) = world.carrier_at(FIRST)
    first.on_request = replies(first, 302, Contact=f"<sip:+35315550199@{FIRST}:5060>")
    world.pbx.call()
    world.run_until(lambda: 480 in world.pbx.statuses())
    assert len(invites(first)) == 2
    assert "redirected the call twice" in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert_over(world)


@pytest.mark.parametrize("contact", [None, "<tel:+35315550188>", "<mailto:a@b.example>"])
def test_a_redirect_to_no_sip_address_is_refused(contact: str | None) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    headers = {} if contact is None else {"Contact": contact}
    first.on_request = replies(first, 302, **headers)
    world.pbx.call()
    world.run_until(lambda: 480 in world.pbx.statuses())
    assert "to no SIP address" in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert not second.requests
    assert_over(world)


# --- names, and the boundary of the region


def named(world: World, *hosts: str) -> None:
    """The carrier is a name, which leads to these."""
    world.router.targets["carrier"] = ["sip:carrier.example"]
    world.names["carrier.example"] = tuple(Hop("udp", host, 5060) for host in hosts)


def test_each_address_of_a_name_is_an_attempt() -> None:
    world = World()
    _, second = world.carrier_at(FIRST, SECOND)
    named(world, FIRST, SECOND)
    dead(world, FIRST)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    assert invites(second)[0].uri == f"sip:{NUMBER}@carrier.example"
    world.pbx.bye()
    assert_over(world)


def test_an_address_outside_the_region_is_passed_over_and_told() -> None:
    world = World()
    _, second = world.carrier_at(FIRST, SECOND)
    named(world, OUTSIDE, SECOND)
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    assert world.calls.counters["boundary_refused"] == 1
    assert world.journal.last("boundary_refused")["host"] == OUTSIDE
    world.pbx.bye()
    assert_over(world)
    assert not [to for _, to, _ in world.wire if to == OUTSIDE]


@pytest.mark.parametrize(
    ("hosts", "status", "text"),
    [((OUTSIDE,), 403, "resolves to an address outside the region"), ((), 503, "has no address")],
)
def test_a_name_that_leads_nowhere_inside_fails_with_a_text(
    hosts: tuple[str, ...], status: int, text: str
) -> None:
    world = World()
    named(world, *hosts)
    world.pbx.call()
    world.run_until(lambda: status in world.pbx.statuses())
    assert text in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert_over(world)
    assert not [to for _, to, _ in world.wire if to == OUTSIDE]


def test_a_name_that_leads_nowhere_is_left_for_the_next_origination() -> None:
    world = World()
    (second,) = world.carrier_at(SECOND)
    world.router.targets["carrier"] = ["sip:nobody.example", f"sip:{SECOND}:5060"]
    world.pbx.call()
    world.run_until(lambda: bool(second.acks), limit_s=1)
    world.pbx.bye()
    assert_over(world)


@pytest.mark.parametrize("contact", [f"<sip:+35315550188@{OUTSIDE}>", "<sip:1@far.example>"])
def test_a_redirect_to_outside_the_region_is_refused(contact: str) -> None:
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    world.names["far.example"] = (Hop("udp", OUTSIDE, 5060),)
    first.on_request = replies(first, 302, Contact=contact)
    world.pbx.call()
    world.run_until(lambda: 403 in world.pbx.statuses())
    assert "outside the region" in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert not second.requests
    assert_over(world)
    assert not [to for _, to, _ in world.wire if to == OUTSIDE]


def test_a_caller_whose_contact_is_outside_the_region_is_refused() -> None:
    world = World()
    invite = world.pbx.call
    world.pbx.layer.request = _contact(world, f"<sip:pbx@{OUTSIDE}>")  # type: ignore[method-assign]
    invite()
    world.run_until(lambda: 403 in world.pbx.statuses())
    assert "outside the region" in (world.pbx.responses[-1].headers.get("Warning") or "")
    assert_over(world)


def test_a_callee_whose_contact_is_outside_the_region_is_no_callee() -> None:
    """Nothing may be sent there, not even the ACK; nobody else is rung: it was answered."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    first.on_request = replies(first, 200, Contact=f"<sip:x@{OUTSIDE}>")
    world.pbx.call()
    world.run_until(lambda: 502 in world.pbx.statuses())
    assert_over(world)
    assert not second.requests
    assert not [to for _, to, _ in world.wire if to == OUTSIDE]


def test_a_contact_with_a_name_is_looked_up_and_may_speak_in_the_dialog() -> None:
    """The trunk has a name and no `allow`; its answer's Contact names another machine."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    world.router.targets["carrier"] = [f"sip:{FIRST}:5060"]
    world.names["media.example"] = (Hop("udp", SECOND, 5060),)

    def answer(tx: object, request: Request) -> None:
        response = request.response(200, to_tag="n")
        response.headers.add("Contact", "<sip:x@media.example>")
        response.headers.add("Content-Type", "application/sdp")
        response.body = sdp(FIRST, 5000)
        second.dialog = Dialog.uas(request, "n", f"<sip:{SECOND}:5060>")
        first.layer.respond(tx, response, world.now)

    first.on_request = answer
    world.pbx.call()
    world.run_until(lambda: bool(second.acks))
    second.bye()
    world.run_until(lambda: world.calls.idle)
    assert second.statuses("BYE") == [200] and world.pbx.got("BYE")
    assert_over(world)


def _contact(world: World, contact: str):
    original = world.pbx.layer.request

    def request(message: Request, *args: object):
        message.headers.set("Contact", contact)
        return original(message, *args)  # type: ignore[arg-type]

    return request


# --- media from attempt to attempt

SIXTH = "2001:db8::31"


def over_ipv6(world: World) -> Phone:
    """The carrier's second address is IPv6."""
    world.router.targets["carrier"] = [f"sip:{FIRST}:5060", f"sip:[{SIXTH}]:5060"]
    phone = world.phones[SIXTH] = Phone(world, f"[{SIXTH}]")
    phone.on_request = lambda tx, request: (
        phone.answer(tx, request, body=sdp(SIXTH, 5000).replace(b"IP4", b"IP6"))
        if request.method == "INVITE"
        else phone.answer_all(tx, request)
    )
    return phone


def test_what_an_address_that_was_left_agreed_holds_no_longer() -> None:
    """Early media stop when its attempt fails, and start anew with the next one's answer."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)

    def early_then_fail(tx: object, request: Request) -> None:
        first.ring(tx, request, body=sdp(FIRST, 5002))
        first.reply(tx, request, 503)

    first.on_request = early_then_fail
    second.on_request = lambda tx, request: second.ring(tx, request)
    world.pbx.call()
    world.run_until(lambda: 180 in world.pbx.statuses())
    callee = world.media.calls[0].updates[Side.CALLEE]
    assert callee[0].remote is not None and callee[0].remote.host == FIRST
    assert callee[-1].remote is None and not callee[-1].may_send
    world.pbx.cancel()
    assert_over(world)
    assert len(world.media.calls) == 1


def test_an_attempt_over_the_other_ip_version_gets_other_ports() -> None:
    world = World()
    world.carrier_at(FIRST)
    phone = over_ipv6(world)
    dead(world, FIRST)
    world.pbx.call()
    world.run_until(lambda: bool(phone.acks))
    assert world.media.families == [(False, False), (False, True)]
    assert [media.closed for media in world.media.calls] == [True, False]
    world.pbx.bye()
    assert_over(world)


def test_ports_that_the_caller_was_told_do_not_change_for_the_other_ip_version() -> None:
    world = World()
    (first,) = world.carrier_at(FIRST)
    phone = over_ipv6(world)

    def early_then_fail(tx: object, request: Request) -> None:
        first.ring(tx, request, body=sdp(FIRST, 5002))
        first.reply(tx, request, 503)

    first.on_request = early_then_fail
    world.pbx.call()
    world.run_until(lambda: 503 in world.pbx.statuses())
    assert not phone.requests
    assert world.journal.last("attempt_failed")["why"] == (
        "its address is of another IP version than the call's media"
    )
    assert_over(world)


# --- DNS that takes its time


@pytest.mark.parametrize("how", ["cancel", "timeout", "stop"])
def test_a_call_may_end_while_its_name_is_looked_up(how: str) -> None:
    """What DNS says afterwards calls nobody."""
    world = World()
    world.calls.ring_timeout_s = 5.0
    (first,) = world.carrier_at(FIRST)
    named(world, FIRST)
    world.slow = []
    world.pbx.call()
    world.run(1)
    assert len(world.slow) == 1 and not world.pbx.statuses()
    if how == "cancel":
        world.pbx.cancel()
    elif how == "stop":
        world.relay.stop(world.now)
    expected = {"cancel": 487, "timeout": 480, "stop": 503}[how]
    world.run_until(lambda: expected in world.pbx.statuses())
    world.find_names()
    assert_over(world)
    assert not first.requests


def test_a_bye_waits_for_the_name_in_a_contact() -> None:
    """The ACK and the BYE are both asked for, and sent in order once DNS has answered."""
    world = World()
    first, second = world.carrier_at(FIRST, SECOND)
    world.router.targets["carrier"] = [f"sip:{FIRST}:5060"]
    world.names["media.example"] = (Hop("udp", SECOND, 5060),)
    world.slow = []

    def answer(tx: object, request: Request) -> None:
        response = request.response(200, to_tag="n")
        response.headers.add("Contact", "<sip:x@media.example>")
        response.headers.add("Content-Type", "application/sdp")
        response.body = sdp(FIRST, 5000)
        first.layer.respond(tx, response, world.now)

    first.on_request = answer
    world.pbx.call()
    world.run_until(lambda: 200 in world.pbx.statuses())
    world.run(0.1)
    world.pbx.bye()
    world.run(0.1)
    assert not second.acks and not second.requests
    world.find_names()
    world.run_until(lambda: bool(second.got("BYE")))
    assert second.acks
    assert_over(world)
