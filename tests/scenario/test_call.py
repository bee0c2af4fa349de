"""A call through the relay in virtual time: set-up, early media, failures, every ending."""

from __future__ import annotations

import pytest

from relay.call.ports import DropBurst, DtmfPressed, MediaTimeout, Side, StreamChanged
from relay.call.transitions import TRANSITIONS, State
from relay.sip.message import Request
from tests.scenario.world import CARRIER, NUMBER, PBX, RELAY, World, sdp


def answered(world: World) -> None:
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)


def test_a_call_is_set_up_and_ended_by_the_caller() -> None:
    world = World()
    answered(world)
    assert world.pbx.statuses() == [180, 200]
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.pbx.statuses("BYE") == [200]
    assert len(world.carrier.got("BYE")) == 1
    assert world.journal.names() == ["call_started", "call_ringing", "call_answered", "call_ended"]
    assert world.journal.last("call_ended")["cause"] == "caller hung up"
    assert world.media.open_count == 0
    assert set(world.admission.live.values()) == {0}
    assert not world.bugs


def test_the_callee_may_hang_up_too() -> None:
    world = World()
    answered(world)
    world.carrier.bye()
    world.run_until(lambda: world.calls.idle)
    assert len(world.pbx.got("BYE")) == 1


def test_both_hang_up_at_once() -> None:
    """Each BYE is answered 200 although the other one is under way."""
    world = World()
    answered(world)
    world.pbx.bye()
    world.carrier.bye()
    world.run(1)
    assert world.calls.idle
    assert world.pbx.statuses("BYE") == [200]
    assert world.carrier.statuses("BYE") == [200]


def test_each_leg_has_its_own_identifiers_and_media_address() -> None:
    """Topology hiding: nothing of one leg's addresses or tags is seen on the other."""
    world = World()
    answered(world)
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    for source, to, data in world.wire:
        text = data.decode()
        if source == RELAY:
            hidden = CARRIER if to == PBX else PBX
            assert hidden not in text.replace(f"sip:{NUMBER}@{CARRIER}", ""), text
    theirs = world.carrier.got("INVITE")[0]
    assert theirs.call_id != world.pbx.invite.call_id
    assert theirs.max_forwards == 69
    assert f"c=IN IP4 {RELAY}".encode() in theirs.body


def test_the_engine_learns_both_remote_addresses() -> None:
    world = World()
    answered(world)
    media = world.media.calls[0]
    caller, callee = media.updates[Side.CALLER][-1], media.updates[Side.CALLEE][-1]
    assert caller.remote is not None and (caller.remote.host, caller.remote.port) == (PBX, 4000)
    assert callee.remote is not None and (callee.remote.host, callee.remote.port) == (CARRIER, 5000)
    assert caller.telephone_event == 101


def test_early_media_reaches_the_engine_before_the_answer() -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.ring(
        tx, request, body=sdp(CARRIER, 5002)
    )
    world.pbx.call()
    world.run_until(lambda: 183 in world.pbx.statuses())
    remote = world.media.calls[0].updates[Side.CALLEE][-1].remote
    assert remote is not None and remote.port == 5002
    assert RELAY.encode() in world.pbx.responses[-1].body


def test_silence_is_timed_from_the_answer_when_there_was_early_media() -> None:
    """A caller is silent while it hears the ring: that must not use up its media timeout."""
    world = World()

    def early(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.answer_all(tx, request)
            return
        world.carrier.ring(tx, request, body=sdp(CARRIER, 5000))
        world.carrier.answer(tx, request, body=sdp(CARRIER, 5000))

    world.carrier.on_request = early
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    updates = world.media.calls[0].updates
    assert [len(updates[side]) for side in Side] == [2, 2]
    assert updates[Side.CALLER][0] == updates[Side.CALLER][1]


def test_forked_early_dialogs_have_their_own_tags_and_one_is_answered() -> None:
    world = World()

    def fork(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.answer_all(tx, request)
            return
        world.carrier.ring(tx, request, "b1", sdp(CARRIER, 5002))
        world.carrier.ring(tx, request, "b2", sdp(CARRIER, 5004))
        world.carrier.answer(tx, request, "b2", sdp(CARRIER, 5004))

    world.carrier.on_request = fork
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    tags = [r.to.tag for r in world.pbx.responses if r.status > 100]
    assert len(set(tags[:2])) == 2
    assert tags[2] == tags[1]
    remote = world.media.calls[0].updates[Side.CALLEE][-1].remote
    assert remote is not None and remote.port == 5004
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)


def test_a_second_2xx_of_a_fork_is_acknowledged_and_ended() -> None:
    """RFC 3261 section 13.2.2.4."""
    world = World()

    def two(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.answer_all(tx, request)
            return
        world.carrier.answer(tx, request, "b1")
        world.carrier.answer(tx, request, "b2")

    world.carrier.on_request = two
    world.pbx.call()
    world.run_until(lambda: len(world.carrier.got("BYE")) == 1)
    assert world.carrier.got("BYE")[0].to.tag == "b2"
    assert {ack.to.tag for ack in world.carrier.acks} == {"b1", "b2"}
    assert world.pbx.statuses() == [200]
    assert len(world.calls.active) == 1


@pytest.mark.parametrize("status", [404, 408, 480, 486, 500, 503, 600, 603])
def test_a_failure_reaches_the_caller_with_its_code_and_reason(status: int) -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, status)
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [status]
    assert world.media.open_count == 0
    world.run(40)
    assert world.calls.idle


def test_a_redirect_is_not_followed() -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 302)
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [480]


def test_a_silent_callee_gives_408() -> None:
    """Timer B: 64*T1."""
    world = World()
    world.carrier.on_request = lambda tx, request: None
    world.drop = lambda source, to, data: to == CARRIER
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [408]


def test_nobody_answers_until_the_ring_timeout() -> None:
    world = World()
    world.carrier.on_request = world.carrier.ring
    world.pbx.call()
    world.run_until(lambda: 480 in world.pbx.statuses(), 200)
    world.run_until(lambda: bool(world.carrier.cancelled))
    world.run(40)
    assert world.calls.idle


class TestCancel:
    """CANCEL at every moment (RFC 3261 section 9)."""

    def test_while_ringing(self) -> None:
        world = World()
        world.carrier.on_request = world.carrier.ring
        world.pbx.call()
        world.run_until(lambda: 180 in world.pbx.statuses())
        world.pbx.cancel()
        world.run_until(lambda: 487 in world.pbx.statuses())
        world.run_until(lambda: bool(world.carrier.cancelled))
        world.run(40)
        assert world.calls.idle
        assert world.media.open_count == 0

    def test_before_the_callee_said_anything(self) -> None:
        """No CANCEL goes out before a provisional response (section 9.1)."""
        world = World()
        pending: list[tuple[object, Request]] = []
        world.carrier.on_request = lambda tx, request: pending.append((tx, request))
        world.drop = lambda source, to, data: source == CARRIER and b"SIP/2.0 100" in data
        world.pbx.call()
        world.run_until(lambda: bool(pending))
        world.pbx.cancel()
        world.run_until(lambda: 487 in world.pbx.statuses())
        world.run(0.2)
        assert not world.carrier.cancelled
        world.carrier.ring(*pending[0])
        world.run_until(lambda: bool(world.carrier.cancelled))
        world.run(40)
        assert world.calls.idle

    def test_crossing_the_200(self) -> None:
        """The callee answers while our CANCEL is under way: ACK, then BYE."""
        world = World()
        pending: list[tuple[object, Request]] = []

        def later(tx: object, request: Request) -> None:
            if request.method != "INVITE":
                world.carrier.answer_all(tx, request)
                return
            pending.append((tx, request))
            world.carrier.ring(tx, request)

        world.carrier.on_request = later
        world.pbx.call()
        world.run_until(lambda: 180 in world.pbx.statuses())
        world.pbx.cancel()
        world.carrier.answer(*pending[0])
        world.run_until(lambda: bool(world.carrier.got("BYE")))
        assert world.carrier.acks
        assert 487 in world.pbx.statuses()
        world.run(40)
        assert world.calls.idle

    def test_after_the_answer_changes_nothing(self) -> None:
        world = World()
        world.pbx.acknowledge = False
        world.pbx.call()
        world.run_until(lambda: 180 in world.pbx.statuses())
        world.pbx.cancel()
        world.run_until(lambda: 200 in world.pbx.statuses())
        world.run(1)
        assert 487 not in world.pbx.statuses()
        assert len(world.calls.active) == 1


def test_a_lost_ack_is_answered_by_repeating_the_200_until_64_t1() -> None:
    """RFC 3261 section 13.3.1.4: then the call ends with a BYE to both."""
    world = World()
    world.drop = lambda source, to, data: source == PBX and data.startswith(b"ACK")
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.got("BYE")), 40)
    assert world.pbx.statuses().count(200) == 11  # at 0, 0.5, 1.5, 3.5, 7.5 … 31.5 s
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    world.run_until(lambda: world.calls.idle)


def test_a_callee_that_hangs_up_before_the_ack_is_passed_on_after_it() -> None:
    """RFC 3261 section 15: no BYE to the caller before its ACK."""
    world = World()
    world.pbx.acknowledge = False
    world.pbx.call()
    world.run_until(lambda: 200 in world.pbx.statuses())
    world.carrier.bye()
    world.run_until(lambda: world.carrier.statuses("BYE") == [200])
    assert not world.pbx.got("BYE")
    world.pbx.send_ack(world.pbx.responses[-1])
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    world.run_until(lambda: world.calls.idle)


@pytest.mark.parametrize("seed", range(25))
def test_calls_survive_a_lossy_network(seed: int) -> None:
    """30 % loss, reordering: the call is set up and torn down, and nothing stays behind."""
    world = World(loss=0.3, seed=seed)
    world.pbx.call()
    world.run_until(lambda: bool({200, 408} & set(world.pbx.statuses())) or world.pbx.timed_out > 0)
    if world.pbx.dialog is not None:
        world.run(5)
        world.pbx.bye()
    world.run(150)
    assert world.calls.idle
    assert world.media.open_count == 0
    assert not world.bugs


def test_silence_ends_the_call_on_both_sides_with_a_reason() -> None:
    world = World()
    answered(world)
    call_id = next(iter(world.calls.active))
    world.relay.on_media(call_id, MediaTimeout(Side.CALLEE), world.now)
    world.run_until(lambda: world.calls.idle)
    for phone in (world.pbx, world.carrier):
        assert "no audio from the callee" in (phone.got("BYE")[0].headers.get("Reason") or "")


def test_keys_are_reported() -> None:
    world = World()
    answered(world)
    call_id = next(iter(world.calls.active))
    world.relay.on_media(call_id, DtmfPressed(Side.CALLER, "5", 120), world.now)
    told = {"side": "caller", "key": "5", "duration_ms": 120, "source": "rfc4733"}
    assert world.journal.last("dtmf") == told


def test_what_an_operator_should_know_of_the_media_is_logged_and_changes_nothing() -> None:
    world = World()
    answered(world)
    call_id = next(iter(world.calls.active))
    world.relay.on_media(call_id, DropBurst(Side.CALLEE, "wrong_source", 50), world.now)
    world.relay.on_media(call_id, StreamChanged(Side.CALLER), world.now)
    drops = {"side": "callee", "reason": "wrong_source", "count": 50}
    assert world.journal.last("media_drops") == drops
    assert world.journal.last("media_stream_changed") == {"side": "caller"}
    assert not world.calls.idle


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("do-not-record", 0), ("record-from-ringing-dual", 1), ("record-from-answer", 1)],
)
def test_recording_follows_the_trunk(mode: str, expected: int) -> None:
    world = World(recording=mode)
    answered(world)
    assert len(world.recorder.started) == expected
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert len(world.recorder.stopped) == expected
    assert all(spec.dual == mode.endswith("-dual") for spec in world.recorder.started)
    # What the ledger is held against is the engine's own count, not all that was relayed.
    assert world.recorder.relayed == [{Side.CALLER: 40, Side.CALLEE: 41}] * expected


def test_a_codec_that_cannot_be_recorded_is_an_event() -> None:
    world = World(recording="record-from-answer-dual")
    g722 = sdp(PBX, 4000, "9", "a=rtpmap:9 G722/8000")
    world.carrier.on_request = lambda tx, request: world.carrier.answer(
        tx, request, body=sdp(CARRIER, 5000, "9", "a=rtpmap:9 G722/8000")
    )
    world.pbx.call(body=g722)
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1)
    assert world.journal.last("recording_unsupported")["codec"] == "G722"
    assert not world.recorder.started


def test_a_delayed_offer_is_answered_in_the_ack() -> None:
    """INVITE without SDP: offer in the 200, answer in the ACK, on both legs."""
    world = World()
    world.pbx.acknowledge = False
    world.pbx.call(body=b"")
    world.run_until(lambda: 200 in world.pbx.statuses())
    assert not world.carrier.acks
    offer = world.pbx.responses[-1]
    assert RELAY.encode() in offer.body
    world.pbx.send_ack(offer, sdp(PBX, 4000))
    world.run_until(lambda: any(ack.body for ack in world.carrier.acks))
    assert RELAY.encode() in world.carrier.acks[-1].body
    remote = world.media.calls[0].updates[Side.CALLER][-1].remote
    assert remote is not None and remote.host == PBX
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)


def test_a_delayed_offer_without_an_answer_ends_the_call() -> None:
    """The ACK must carry the answer: without it both sides get a BYE."""
    world = World()
    world.pbx.acknowledge = False
    world.pbx.call(body=b"")
    world.run_until(lambda: 200 in world.pbx.statuses())
    world.pbx.send_ack(world.pbx.responses[-1])
    world.run_until(lambda: bool(world.pbx.got("BYE") and world.carrier.got("BYE")))
    world.run_until(lambda: world.calls.idle)
    assert not world.bugs


class TestRefusals:
    def refused(self, world: World) -> list[int]:
        world.run_until(lambda: bool(world.pbx.responses and world.pbx.responses[-1].status > 199))
        assert world.media.open_count == 0
        assert not world.calls.active
        return world.pbx.statuses()

    def test_a_stranger_gets_403_and_no_state(self) -> None:
        world = World()
        del world.router.trunks[PBX]
        world.pbx.call()
        assert self.refused(world) == [403]
        assert world.relay.counters["unknown_source"] == 1

    def test_an_unroutable_number_gets_404(self) -> None:
        world = World()
        world.pbx.call(number="nobody")
        assert self.refused(world) == [404]
        told = world.journal.last("call_refused")
        assert (told["status"], told["source"]) == (404, PBX)  # whose mistake it is

    def test_ports_run_out(self) -> None:
        world = World(ports=0)
        world.pbx.call()
        assert self.refused(world) == [503]
        assert world.pbx.responses[-1].headers.get("Retry-After")
        assert set(world.admission.live.values()) == {0}

    def test_max_forwards_used_up(self) -> None:
        world = World()
        world.pbx.call(body=None, Max_Forwards="0")
        world.run_until(lambda: bool(world.pbx.statuses()))
        assert world.pbx.statuses()[0] in (400, 483)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"nonsense", 400),
            (b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nt=0 0\r\nm=video 1 RTP/AVP 31\r\n", 488),
        ],
    )
    def test_sdp_that_cannot_be_carried_is_refused(self, body: bytes, status: int) -> None:
        world = World()
        world.pbx.call(body=body)
        assert self.refused(world) == [status]

    def test_a_body_that_is_no_sdp_gets_415(self) -> None:
        world = World()
        world.pbx.call(body=b"hello", Content_Type="text/plain")
        assert self.refused(world) == [415]

    def test_a_required_extension(self) -> None:
        world = World()
        world.pbx.call(Require="precondition")
        assert self.refused(world) == [420]
        assert world.pbx.responses[-1].headers.get("Unsupported") == "precondition"

    def test_our_own_invite_that_comes_back_is_a_loop(self) -> None:
        """RFC 5393."""
        world = World()
        looped: list[Request] = []

        def back(tx: object, request: Request) -> None:
            if request.method == "INVITE" and not looped:
                again = Request("INVITE", request.uri, request.headers.copy(), request.body)
                again.headers.remove("Via")
                looped.append(again)
                world.carrier.send(again)

        world.carrier.on_request = back
        world.pbx.call()
        world.run_until(lambda: bool(world.carrier.statuses()))
        assert world.carrier.statuses() == [482]

    def test_shutting_down(self) -> None:
        world = World()
        world.calls.stopping = True
        world.pbx.call()
        assert self.refused(world) == [503]


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("REGISTER", 405), ("SUBSCRIBE", 405), ("JUMP", 501)],
)
def test_methods_outside_of_a_call(method: str, status: int) -> None:
    world = World()
    world.pbx.call()
    request = Request(method, f"sip:{RELAY}", world.pbx.invite.headers.copy())
    request.headers.remove("Via")
    request.headers.remove("Content-Type")
    request.headers.set("CSeq", f"9 {method}")
    request.headers.set("Call-ID", "another")
    world.pbx.send(request)
    world.run_until(lambda: bool(world.pbx.statuses(method)))
    assert world.pbx.statuses(method) == [status]
    assert "INVITE" in (world.pbx.responses[-1].headers.get("Allow") or "") or status == 200


def test_a_request_for_an_unknown_dialog_gets_481() -> None:
    world = World()
    answered(world)
    assert world.pbx.dialog is not None
    world.pbx.dialog.call_id = "unknown"
    world.pbx.bye()
    world.run_until(lambda: bool(world.pbx.statuses("BYE")))
    assert world.pbx.statuses("BYE") == [481]
    assert len(world.calls.active) == 1


def test_shutdown_ends_every_call() -> None:
    world = World()
    answered(world)
    world.relay.stop(world.now)
    world.run_until(lambda: world.calls.idle)
    assert len(world.pbx.got("BYE")) == len(world.carrier.got("BYE")) == 1


def test_every_state_but_the_last_can_end() -> None:
    for state in State:
        ends = any(to is State.ENDED for (s, _), (to, _) in TRANSITIONS.items() if s is state)
        assert ends == (state is not State.ENDED)
