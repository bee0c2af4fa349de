"""What is kept of a call, in virtual time: one record when it is answered, one when it is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.call.ports import RecordingEnded, Secured, Side
from relay.residency.boundary import Use
from relay.residency.record import CallRecord, RecordingRecord
from tests.scenario.test_secured_media import CM32, CM80, K1, connected, crypto, secured
from tests.scenario.test_transfer import Transferred
from tests.scenario.world import CARRIER, NUMBER, PBX, World, sdp


def call_up(world: World) -> None:
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1)


def last(world: World) -> CallRecord:
    """The newest record; each of a call is of one id."""
    assert len({record.id for record in world.records.kept}) == 1
    return world.records.kept[-1]


def test_a_call_is_kept_when_it_is_answered_and_when_it_is_over() -> None:
    world = World()
    call_up(world)
    [answered] = world.records.kept
    assert (answered.region, answered.node, answered.policy) == ("t1", "n1", "p1")
    assert (answered.called, answered.status) == (NUMBER, 200)
    assert answered.answered is not None and answered.ended is None and not answered.final
    world.pbx.bye()
    world.run(1)
    assert len(world.records.kept) == 2
    over = last(world)
    assert over.final and over.ended is not None
    assert (over.ended_by, over.reason) == ("caller hung up", "caller hung up")
    caller, callee = over.legs
    assert (caller.side, caller.peer, caller.kind) == ("caller", "acme", "trunk")
    assert (callee.side, callee.peer, callee.kind) == ("callee", "carrier", "trunk")
    assert caller.number == over.caller == "+35315550100" and callee.number == NUMBER
    assert caller.sip_call_id and callee.sip_call_id and caller.sip_call_id != callee.sip_call_id
    for leg in over.legs:
        assert (leg.packets, leg.octets, leg.relayed) == (50, 8600, 50)
        assert (leg.codec, leg.encryption, leg.transport) == ("PCMU", "none", "udp")
        assert (leg.status, leg.reason) == (200, "OK")


def test_every_address_of_a_leg_is_in_its_record() -> None:
    world = World()
    call_up(world)
    world.pbx.bye()
    world.run(1)
    for leg, host in zip(last(world).legs, (PBX, CARRIER), strict=True):
        assert {each.host for each in leg.seen} == {host}
        assert {Use.SIGNALLING.value, Use.MEDIA.value} <= {each.use for each in leg.seen}
        assert all(each.inside and each.allowed for each in leg.seen)


def test_a_call_that_was_refused_is_kept_once() -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 486)
    world.pbx.call()
    world.run(5)
    [record] = world.records.kept
    assert record.final and record.answered is None
    assert (record.status, record.ended_by) == (486, "callee refused")
    assert [leg.status for leg in record.legs] == [486, 486]
    assert [leg.codec for leg in record.legs] == ["", ""]


def test_a_call_that_never_came_to_be_is_kept_with_where_it_would_have_led() -> None:
    world = World()
    world.pbx.call(body=sdp("203.0.113.9", 4000))
    world.run(1)
    [record] = world.records.kept
    assert record.final and (record.status, record.ended_by) == (488, "relay")
    assert record.called == NUMBER and record.caller == "+35315550100"
    [leg] = record.legs
    assert (leg.peer, leg.status) == ("acme", 488) and leg.sip_call_id
    seen = {(each.use, each.host): (each.inside, each.allowed) for each in leg.seen}
    assert seen["media", "203.0.113.9"] == (False, False)
    assert seen["signalling", PBX] == (True, True)


def test_a_number_without_a_route_is_a_record_and_a_call_beyond_a_limit_is_none() -> None:
    world = World()
    world.pbx.call("nobody")
    world.run(1)
    assert [(each.status, each.called) for each in world.records.kept] == [(404, "nobody")]
    world.calls.stopping = True
    world.pbx.call()
    world.run(1)
    assert world.pbx.statuses("INVITE")[-1] == 503
    assert len(world.records.kept) == 1


def test_a_call_that_was_cancelled_is_kept_once() -> None:
    world = World()
    world.carrier.on_request = world.carrier.ring
    world.pbx.call()
    world.run(1)
    world.pbx.cancel()
    world.run(5)
    [record] = world.records.kept
    assert (record.status, record.ended_by) == (487, "caller cancelled")
    assert [leg.status for leg in record.legs] == [487, None]


def test_a_recorded_call_is_final_once_its_recording_is_closed() -> None:
    world = World(recording="record-from-answer-dual")
    call_up(world)
    world.pbx.bye()
    world.run(1)
    over = last(world)
    assert not over.final and over.recording == RecordingRecord(over.id, "", "PCMU", 2)
    closed = replace(over.recording, object="2026/01/01/x.rec", sha256="ab" * 32, keys=("k1",))
    ended = RecordingEnded(over.id, "2026/01/01/x.rec", 1.0, None, closed)
    world.calls.on_recording_ended(ended)
    assert last(world) == replace(over, recording=closed) and last(world).final
    world.calls.on_recording_ended(ended)  # of a call that nobody waits for any more
    assert len(world.records.kept) == 3


def test_a_recording_that_fails_within_the_call_is_in_its_record() -> None:
    world = World(recording="record-from-answer")
    call_up(world)
    call_id = last(world).id
    world.calls.on_recording_ended(RecordingEnded(call_id, "x.rec", 0.5, "the disk is full"))
    told = last(world).recording  # at once: the call may last for hours yet
    assert told is not None and told.closed and not last(world).final
    world.pbx.bye()
    world.run(1)
    recording = last(world).recording
    assert last(world).final and recording is not None
    assert (recording.problem, recording.channels) == ("the disk is full", 1)


def test_a_voice_client_is_named_by_its_identity_and_its_suite_comes_from_dtls() -> None:
    world = World()
    world.device("alice")
    world.pbx.call("alice")
    world.run(1)
    record = last(world)
    world.calls.on_media(record.id, Secured(Side.CALLEE, "AEAD_AES_128_GCM"), world.now)
    world.pbx.bye()
    world.run(1)
    callee = last(world).legs[1]
    assert last(world).called == "alice"
    assert (callee.kind, callee.identity, callee.transport) == ("client", "alice", "wss")
    assert callee.encryption == "AEAD_AES_128_GCM"


def test_no_call_begins_while_no_record_can_be_kept() -> None:
    world = World()
    call_up(world)
    world.records.full = True
    first = world.pbx.dialog
    world.pbx.call()
    world.run(1)
    refused = world.pbx.responses[-1]
    assert refused.status == 503
    assert "too many call records wait for the database" in (refused.headers.get("Warning") or "")
    assert refused.headers.get("Retry-After")
    assert world.pbx.dialog is first
    world.pbx.bye()  # the one that lasts is kept all the same
    world.run(1)
    assert last(world).ended is not None


@pytest.mark.parametrize("side", ["pbx", "carrier"])
def test_who_hung_up_is_said(side: str) -> None:
    world = World()
    call_up(world)
    (world.pbx if side == "pbx" else world.carrier).bye()
    world.run(1)
    assert last(world).ended_by == ("caller" if side == "pbx" else "callee") + " hung up"


@pytest.mark.parametrize("first", ["plain", "secured"])
def test_a_leg_that_had_plain_rtp_for_a_while_is_not_called_encrypted(first: str) -> None:
    world = World(pbx={"srtp": "optional", "srtp_suites": (CM80, CM32)})
    bodies = [sdp(PBX, 4000), secured(PBX, 4000, crypto(K1))]
    if first == "secured":
        bodies.reverse()
    connected(world, bodies[0], sdp(CARRIER, 5000))
    world.pbx.in_dialog("INVITE", bodies[1])
    world.run_until(lambda: world.pbx.statuses().count(200) == 2)
    world.pbx.bye()
    world.run(1)
    assert [leg.encryption for leg in last(world).legs] == ["none", "none"]


def test_a_leg_that_was_transferred_away_has_its_own_codec() -> None:
    rig = Transferred()
    for phone in (rig.target, rig.transferee):
        pcma = sdp(phone.host, 5000, codecs="8")
        phone.on_request = lambda tx, request, phone=phone, pcma=pcma: (  # type: ignore[misc]
            phone.answer(tx, request, body=pcma)
        )
    rig.refer()
    rig.until(lambda: rig.call.leg(rig.side) is not rig.call.callee)
    rig.world.run(1)
    rig.world.pbx.bye()
    rig.world.run(5)
    caller, target, left = last(rig.world).legs
    assert [leg.codec for leg in (caller, target, left)] == ["PCMA", "PCMA", "PCMU"]
