"""Reliable provisional responses (RFC 3262), on either leg by itself, and UPDATE before the
answer (RFC 3311)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.call.ports import Side
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from tests.scenario.world import CARRIER, PBX, RELAY, Phone, World, sdp

ALLOW = "INVITE, ACK, BYE, PRACK, UPDATE"


class Callee:
    """A carrier that sends reliable 18x; the test says when to answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.phone = world.carrier
        self.invites: list[tuple[object, Request]] = []
        self.pracks: list[Request] = []
        self.on_invite: Callable[[], None] = lambda: None
        self.prack_status = 200
        self.phone.on_request = self._on_request

    def _on_request(self, tx: object, request: Request) -> None:
        if request.method == "INVITE" and request.to.tag is None:
            self.invites.append((tx, request))
            self.on_invite()
        elif request.method == "PRACK":
            self.pracks.append(request)
            self.phone.reply(tx, request, self.prack_status)
        else:
            self.phone.answer_all(tx, request)

    def progress(
        self, rseq: int, body: bytes = b"", tag: str = "b1", status: int | None = None
    ) -> Response:
        tx, request = self.invites[0]
        self.phone.headers = {"Require": "100rel", "RSeq": str(rseq), "Allow": ALLOW}
        status = status or (183 if body else 180)
        response = self.phone.reply(tx, request, status, tag, body)
        self.phone.headers = {}
        self.world.settle()
        return response

    def repeat(self, response: Response) -> None:
        self.phone.layer.respond(self.invites[0][0], response, self.world.now)
        self.world.settle()

    def answer(self, tag: str = "b1", body: bytes | None = None) -> None:
        self.phone.answer(*self.invites[0], tag, body)
        self.world.settle()


def started(world: World, body: bytes | None = None, **headers: str) -> Callee:
    callee = Callee(world)
    world.pbx.call(body=body, **headers)
    world.run_until(lambda: bool(callee.invites))
    return callee


def prack(phone: Phone, response: Response, body: bytes = b"", rack: str | None = None) -> Request:
    """The caller's PRACK, in the early dialog of the response."""
    if phone.dialog is None or phone.dialog.remote_tag != response.to.tag:
        phone.dialog = Dialog.uac(phone.invite, response)
    request = phone.dialog.request("PRACK")
    request.headers.add("RAck", rack or f"{response.headers.get('RSeq')} 1 INVITE")
    if body:
        request.headers.add("Content-Type", "application/sdp")
        request.body = body
    phone.send(request)
    return request


def reliable(phone: Phone) -> list[Response]:
    return [r for r in phone.responses if "RSeq" in r.headers]


def over(world: World) -> None:
    world.run(80)
    assert world.calls.idle and world.media.open_count == 0
    assert world.calls.alarms.next_timer() is None
    assert not world.bugs


class TestTowardsTheCallee:
    """We are the UAC: section 4."""

    @pytest.mark.parametrize(
        ("policy", "supported", "required"),
        [("off", False, False), ("supported", True, False), ("required", True, True)],
    )
    def test_the_trunk_says_what_our_invite_offers(
        self, policy: str, supported: bool, required: bool
    ) -> None:
        world = World(carrier={"prack": policy})
        invite = started(world).invites[0][1]
        assert ("100rel" in invite.headers.all("Supported")) == supported
        assert ("100rel" in invite.headers.all("Require")) == required

    def test_a_reliable_response_is_acknowledged_and_passed_on_once(self) -> None:
        world = World()
        callee = started(world)
        ringing = callee.progress(7001)
        world.run(0.1)
        assert [p.headers.get("RAck") for p in callee.pracks] == ["7001 1 INVITE"]
        assert callee.pracks[0].to.tag == "b1" and callee.pracks[0].cseq.number == 2
        callee.repeat(ringing)
        world.run(0.1)
        assert world.pbx.statuses() == [180] and len(callee.pracks) == 1
        assert not reliable(world.pbx)  # the caller's leg is one by itself
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 200]
        world.pbx.bye()
        world.run_until(lambda: bool(world.carrier.got("BYE")))
        assert world.carrier.got("BYE")[0].cseq.number == 3  # the early dialog counts on
        over(world)

    def test_one_that_overtook_another_is_dropped_until_its_turn(self) -> None:
        world = World()
        callee = started(world)
        callee.progress(1)
        world.run(0.1)
        third = callee.progress(3, status=182)
        world.run(0.1)
        assert world.pbx.statuses() == [180] and len(callee.pracks) == 1
        callee.progress(2, sdp(CARRIER, 5000))
        world.run(0.1)
        callee.repeat(third)
        world.run(0.1)
        assert world.pbx.statuses() == [180, 183, 182]
        assert [(p.headers.get("RAck") or "")[0] for p in callee.pracks] == ["1", "2", "3"]
        world.pbx.cancel()
        over(world)

    @pytest.mark.parametrize("lost", ["PRACK", "200"])
    def test_a_lost_prack_or_its_lost_answer_is_repeated(self, lost: str) -> None:
        world = World()
        callee = started(world)
        dropped: list[bytes] = []

        def drop(source: str, to: str, data: bytes) -> bool:
            head = data[:400]
            hit = len(dropped) < 2 and (
                (lost == "PRACK" and to == CARRIER and head.startswith(b"PRACK"))
                or (lost == "200" and source == CARRIER and b"CSeq: 2 PRACK" in head)
            )
            if hit:
                dropped.append(data)
            return hit

        world.drop = drop
        callee.progress(1)
        world.run(5)
        assert len(dropped) == 2 and len(callee.pracks) == 1
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 200]
        world.carrier.bye()
        over(world)

    def test_a_refused_prack_changes_nothing(self) -> None:
        world = World()
        callee = started(world)
        callee.prack_status = 481
        callee.progress(1)
        world.run(0.2)
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 200]
        world.pbx.bye()
        over(world)

    def test_early_media_that_is_acknowledged_needs_no_description_in_the_200(self) -> None:
        """The answer is in the reliable 183: what the 2xx repeats or leaves out is known."""
        world = World()
        callee = started(world)
        callee.progress(1, sdp(CARRIER, 5002))
        world.run(0.2)
        callee.answer(body=b"")
        world.run(1)
        assert world.pbx.statuses() == [183, 200]
        assert world.pbx.responses[-1].body == world.pbx.responses[-2].body != b""
        remote = world.media.calls[0].updates[Side.CALLEE][-1].remote
        assert remote is not None and remote.port == 5002
        world.pbx.bye()
        over(world)

    def test_each_branch_counts_for_itself(self) -> None:
        world = World()
        callee = started(world)
        callee.progress(1, sdp(CARRIER, 5002), "b1")
        callee.progress(900, sdp(CARRIER, 5004), "b2")
        callee.progress(2, tag="b1")
        world.run(0.2)
        assert sorted((p.to.tag, p.headers.get("RAck")) for p in callee.pracks) == [
            ("b1", "1 1 INVITE"),
            ("b1", "2 1 INVITE"),
            ("b2", "900 1 INVITE"),
        ]
        callee.answer("b1", b"")
        world.run(1)
        remote = world.media.calls[0].updates[Side.CALLEE][-1].remote
        assert remote is not None and remote.port == 5002  # the one that answered, not the last
        world.pbx.bye()
        over(world)

    def test_cancel_crosses_the_200_of_a_call_with_prack(self) -> None:
        world = World()
        callee = started(world)
        callee.progress(1)
        world.run(0.2)
        world.pbx.cancel()
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 487]
        assert world.carrier.acks and len(world.carrier.got("BYE")) == 1
        assert world.carrier.got("BYE")[0].cseq.number == 3
        over(world)

    def test_what_the_callee_requires_and_we_have_not_is_502(self) -> None:
        world = World()
        callee = started(world)
        world.carrier.reply(*callee.invites[0], 421)
        world.run(1)
        assert world.pbx.statuses() == [502]
        over(world)


class TestTowardsTheCaller:
    """We are the UAS: section 3."""

    def test_a_caller_that_requires_it_gets_it(self) -> None:
        world = World(carrier={"prack": "off"})
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0])
        world.run(0.1)
        ringing = world.pbx.responses[-1]
        assert ringing.status == 180 and ringing.headers.all("Require") == ["100rel"]
        prack(world.pbx, ringing)
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [200]
        assert not callee.pracks
        callee.answer()
        world.run(2)
        assert world.pbx.statuses() == [180, 200] and len(reliable(world.pbx)) == 1
        world.pbx.bye()
        over(world)

    def test_off_and_required_is_420(self) -> None:
        world = World(pbx={"prack": "off"})
        world.pbx.call(Require="100rel, timer")
        world.run_until(lambda: bool(world.pbx.statuses()))
        assert world.pbx.statuses() == [420]
        refused = world.pbx.responses[-1].headers
        assert refused.all("Unsupported") == ["100rel"]
        assert "100rel is off" in (refused.get("Warning") or "")

    @pytest.mark.parametrize(
        ("policy", "expected"), [("off", 0), ("supported", 0), ("required", 1)]
    )
    def test_a_caller_that_only_supports_it(self, policy: str, expected: int) -> None:
        world = World(pbx={"prack": policy})
        callee = started(world, Supported="100rel")
        world.carrier.ring(*callee.invites[0])
        world.run(0.1)
        assert len(reliable(world.pbx)) == expected

    def test_a_reliable_answer_of_the_callee_is_passed_on_reliably(self) -> None:
        """So that both sides may UPDATE before the call is answered."""
        world = World()
        callee = started(world, Supported="100rel")
        callee.progress(1, sdp(CARRIER, 5000))
        world.run(0.1)
        assert [r.status for r in reliable(world.pbx)] == [183]

    def test_it_is_repeated_at_doubling_gaps_until_the_prack(self) -> None:
        world = World()
        callee = started(world, Require="100rel")
        start = world.now
        world.carrier.ring(*callee.invites[0])
        world.run(8)
        assert len(reliable(world.pbx)) == 5  # at 0, 0.5, 1.5, 3.5, 7.5 s
        assert len({r.headers.get("RSeq") for r in reliable(world.pbx)}) == 1
        prack(world.pbx, reliable(world.pbx)[0])
        world.run(20)
        assert len(reliable(world.pbx)) == 5 and world.now > start
        world.pbx.cancel()
        over(world)

    def test_without_a_prack_the_call_is_refused_after_64_t1(self) -> None:
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0])
        world.run_until(lambda: 504 in world.pbx.statuses(), 33)
        assert "PRACK" in (world.pbx.responses[-1].headers.get("Warning") or "")
        world.run(1)
        assert world.carrier.cancelled
        over(world)

    @pytest.mark.parametrize("rack", ["1 1 INVITE", "x", "{rseq} 2 INVITE", "{rseq} 1 UPDATE"])
    def test_a_prack_for_something_else_gets_481(self, rack: str) -> None:
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0])
        world.run(0.1)
        ringing = world.pbx.responses[-1]
        prack(world.pbx, ringing, rack=rack.format(rseq=ringing.headers.get("RSeq")))
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [481]
        prack(world.pbx, ringing)
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [481, 200]
        prack(world.pbx, ringing)
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [481, 200, 481]
        world.pbx.cancel()
        over(world)

    def test_a_second_one_waits_for_the_prack_to_the_first(self) -> None:
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0])
        world.carrier.reply(*callee.invites[0], 182)
        world.run(0.1)
        assert [r.status for r in reliable(world.pbx)] == [180]
        prack(world.pbx, reliable(world.pbx)[0])
        world.run(0.1)
        first, second = reliable(world.pbx)
        assert second.status == 182
        assert int(second.headers.get("RSeq")) == int(first.headers.get("RSeq")) + 1
        prack(world.pbx, second)
        world.run(0.1)
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 182, 200]
        world.pbx.bye()
        over(world)

    def test_a_200_overtakes_what_has_no_description(self) -> None:
        """And the PRACK that is still under way is accepted."""
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0])
        world.run(0.1)
        ringing = world.pbx.responses[-1]
        callee.answer()
        world.run(0.1)
        assert world.pbx.statuses() == [180, 200]
        prack(world.pbx, ringing)
        world.run(3)
        assert world.pbx.statuses("PRACK") == [200]
        assert len(reliable(world.pbx)) == 1 and len(world.calls.active) == 1
        world.pbx.bye()
        over(world)

    def test_a_200_waits_for_the_prack_to_a_description(self) -> None:
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0], body=sdp(CARRIER, 5000))
        callee.answer()
        world.run(0.3)
        assert world.pbx.statuses() == [183]
        prack(world.pbx, world.pbx.responses[-1])
        world.run(1)
        assert world.pbx.statuses() == [183, 200]
        assert world.pbx.acks == [] and len(world.calls.active) == 1
        world.pbx.bye()
        over(world)

    @pytest.mark.parametrize("ending", ["cancel", "callee", "bye", "no prack", "stop"])
    def test_endings_while_the_200_waits(self, ending: str) -> None:
        """One final response to the caller, one BYE to the callee that had answered."""
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0], body=sdp(CARRIER, 5000))
        callee.answer()
        world.run(0.1)
        held = world.pbx.responses[-1]
        expected = {"cancel": 487, "callee": 480, "bye": 487, "no prack": 504, "stop": 480}
        if ending == "cancel":
            world.pbx.cancel()
        elif ending == "callee":
            world.carrier.bye()
        elif ending == "bye":
            world.pbx.dialog = Dialog.uac(world.pbx.invite, held)
            world.pbx.bye()
        elif ending == "stop":
            world.relay.stop(world.now)
        over(world)
        finals = [status for status in world.pbx.statuses() if status >= 200]
        assert finals == [expected[ending]]
        assert len(world.carrier.got("BYE")) == (0 if ending == "callee" else 1)
        assert not world.pbx.got("BYE")

    def test_an_offer_in_prack_is_refused_and_the_call_goes_on(self) -> None:
        world = World()
        callee = started(world, Require="100rel")
        world.carrier.ring(*callee.invites[0], body=sdp(CARRIER, 5000))
        world.run(0.1)
        prack(world.pbx, world.pbx.responses[-1], sdp(PBX, 4040))
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [488]
        assert "UPDATE" in (world.pbx.responses[-1].headers.get("Warning") or "")
        callee.answer()
        world.run(1)
        assert world.pbx.statuses()[-1] == 200
        world.pbx.bye()
        over(world)

    @pytest.mark.parametrize("seed", range(15))
    def test_prack_on_both_legs_of_a_lossy_network(self, seed: int) -> None:
        world = World(loss=0.2, seed=seed)
        callee = started(world, Require="100rel")
        seen: set[str | None] = set()

        def acknowledge() -> None:
            for response in reliable(world.pbx):
                if response.headers.get("RSeq") not in seen:
                    seen.add(response.headers.get("RSeq"))
                    prack(world.pbx, response)

        ringing = callee.progress(1)
        for _ in range(20):
            world.run(0.5)
            acknowledge()
            if not callee.pracks:
                callee.repeat(ringing)
        callee.answer()
        for _ in range(20):
            world.run(0.5)
            acknowledge()
        world.pbx.cancel()
        if world.pbx.dialog is not None:
            world.pbx.bye()
        world.run(200)
        assert world.calls.idle and world.media.open_count == 0 and not world.bugs


class TestDelayedOffer:
    """INVITE without SDP: the offer is in the reliable 18x, the answer in the PRACK."""

    def test_offer_and_answer_cross_both_legs_before_the_200(self) -> None:
        world = World()
        callee = started(world, b"", Supported="100rel")
        callee.progress(1, sdp(CARRIER, 5000))
        world.run(0.1)
        assert not callee.pracks  # the answer is the caller's to make
        offer = reliable(world.pbx)[0]
        assert RELAY.encode() in offer.body
        prack(world.pbx, offer, sdp(PBX, 4000))
        world.run(0.1)
        assert world.pbx.statuses("PRACK") == [200]
        assert RELAY.encode() in callee.pracks[0].body
        updates = world.media.calls[0].updates
        assert updates[Side.CALLER][-1].remote[:2] == (PBX, 4000)
        assert updates[Side.CALLEE][-1].remote[:2] == (CARRIER, 5000)
        callee.answer(body=b"")
        world.run(1)
        assert world.pbx.statuses() == [183, 200] and not world.pbx.responses[-1].body
        assert len(world.carrier.acks) == 1 and not world.carrier.acks[0].body
        assert len(world.calls.active) == 1
        world.pbx.bye()
        over(world)

    @pytest.mark.parametrize("body", [b"", b"nonsense"])
    def test_a_prack_without_a_usable_answer_refuses_the_call(self, body: bytes) -> None:
        world = World()
        callee = started(world, b"", Supported="100rel")
        callee.progress(1, sdp(CARRIER, 5000))
        world.run(0.1)
        prack(world.pbx, reliable(world.pbx)[0], body)
        world.run(1)
        assert world.pbx.statuses() == [183, 488]
        assert world.carrier.cancelled
        over(world)

    def test_a_caller_without_it_cannot_answer_early_so_it_is_not_offered(self) -> None:
        world = World(carrier={"prack": "required"})
        callee = started(world, b"")
        assert "100rel" not in callee.invites[0][1].headers.all("Require")
        assert "100rel" not in callee.invites[0][1].headers.all("Supported")

    def test_early_media_without_prack_is_offered_again_in_the_200(self) -> None:
        """What a 183 shows is only a preview: the offer that counts is in the 2xx."""
        world = World()
        world.pbx.acknowledge = False
        callee = started(world, b"")
        world.carrier.ring(*callee.invites[0], body=sdp(CARRIER, 5000))
        callee.answer(body=sdp(CARRIER, 5000))
        world.run(0.1)
        assert world.pbx.statuses() == [183, 200]
        early, final = world.pbx.responses[-2:]
        assert early.body == final.body != b""
        world.pbx.send_ack(final, sdp(PBX, 4000))
        world.run(1)
        assert RELAY.encode() in world.carrier.acks[-1].body
        assert world.media.calls[0].updates[Side.CALLER][-1].remote[:2] == (PBX, 4000)
        world.pbx.bye()
        over(world)

    def test_another_offer_of_another_branch_is_the_one_that_counts(self) -> None:
        world = World()
        world.pbx.acknowledge = False
        callee = started(world, b"")
        world.carrier.ring(*callee.invites[0], "b1", sdp(CARRIER, 5000))
        callee.answer("b2", sdp(CARRIER, 5006))
        world.run(0.1)
        world.pbx.dialog = Dialog.uac(world.pbx.invite, world.pbx.responses[-1])
        world.pbx.send_ack(world.pbx.responses[-1], sdp(PBX, 4000))
        world.run(1)
        assert world.media.calls[0].updates[Side.CALLEE][-1].remote[:2] == (CARRIER, 5006)
        world.pbx.bye()
        over(world)


class TestUpdateBeforeTheAnswer:
    """RFC 3311 section 5."""

    def early(self, world: World) -> Callee:
        callee = started(world, Supported="100rel", Allow=ALLOW)
        callee.progress(1, sdp(CARRIER, 5000))
        world.run(0.1)
        response = reliable(world.pbx)[0]
        prack(world.pbx, response)
        world.run(0.1)
        world.carrier.dialog = Dialog.uas(callee.invites[0][1], "b1", f"<sip:{CARRIER}:5060>")
        return callee

    def test_from_the_caller(self) -> None:
        world = World()
        callee = self.early(world)
        update = world.pbx.dialog.request("UPDATE", contact=f"<sip:{PBX}:5060>")
        update.headers.add("Content-Type", "application/sdp")
        update.body = sdp(PBX, 4050)
        world.pbx.send(update)
        world.run(0.2)
        assert world.pbx.statuses("UPDATE") == [200] and world.pbx.responses[-1].body
        assert world.carrier.got("UPDATE")[0].cseq.number == 3
        assert world.media.calls[0].updates[Side.CALLER][-1].remote[:2] == (PBX, 4050)
        callee.answer()  # with the description of before: it says nothing any more
        world.run(1)
        assert world.pbx.statuses() == [183, 200]
        assert world.media.calls[0].updates[Side.CALLER][-1].remote[:2] == (PBX, 4050)
        world.pbx.bye()
        over(world)

    def test_from_the_callee(self) -> None:
        world = World()
        callee = self.early(world)
        world.carrier.in_dialog("UPDATE", sdp(CARRIER, 5060))
        world.run(0.2)
        assert world.carrier.statuses("UPDATE") == [200] and world.carrier.responses[-1].body
        assert len(world.pbx.got("UPDATE")) == 1
        assert world.media.calls[0].updates[Side.CALLEE][-1].remote[:2] == (CARRIER, 5060)
        callee.answer(body=b"")
        world.run(1)
        assert world.pbx.statuses() == [183, 200]
        world.pbx.bye()
        over(world)
        assert world.pbx.requests[0].cseq.number < (world.pbx.dialog.remote_cseq or 99)

    def test_one_without_an_offer_is_answered_here(self) -> None:
        world = World()
        self.early(world)
        world.carrier.in_dialog("UPDATE")
        world.run(0.2)
        assert world.carrier.statuses("UPDATE") == [200] and not world.pbx.got("UPDATE")

    def test_both_at_once_is_glare(self) -> None:
        world = World()
        self.early(world)
        world.pbx.on_request = lambda tx, request: None
        world.carrier.in_dialog("UPDATE", sdp(CARRIER, 5060))
        world.run(0.1)
        update = world.pbx.dialog.request("UPDATE", contact=f"<sip:{PBX}:5060>")
        update.headers.add("Content-Type", "application/sdp")
        update.body = sdp(PBX, 4050)
        world.pbx.send(update)
        world.run(0.2)
        assert world.pbx.statuses("UPDATE") == [491]

    def test_the_call_is_given_up_with_one_under_way(self) -> None:
        world = World()
        self.early(world)
        world.pbx.on_request = lambda tx, request: None
        world.carrier.in_dialog("UPDATE", sdp(CARRIER, 5060))
        world.run(0.1)
        world.pbx.cancel()
        world.run(1)
        assert world.carrier.statuses("UPDATE") == [487]
        assert 487 in world.pbx.statuses()
        over(world)

    def test_before_the_offer_of_the_invite_is_answered(self) -> None:
        """500 with Retry-After to the caller, 491 to the callee (section 5.2)."""
        world = World()
        callee = started(world, Require="100rel", Allow=ALLOW)
        callee.progress(1)
        world.run(0.1)
        prack(world.pbx, reliable(world.pbx)[0])
        world.run(0.1)
        world.carrier.dialog = Dialog.uas(callee.invites[0][1], "b1", f"<sip:{CARRIER}:5060>")
        world.carrier.in_dialog("UPDATE", sdp(CARRIER, 5060))
        update = world.pbx.dialog.request("UPDATE", contact=f"<sip:{PBX}:5060>")
        update.headers.add("Content-Type", "application/sdp")
        update.body = sdp(PBX, 4050)
        world.pbx.send(update)
        world.run(0.2)
        assert world.carrier.statuses("UPDATE") == [491]
        assert world.pbx.statuses("UPDATE") == [500]
        assert world.pbx.responses[-1].headers.get("Retry-After") == "5"
        callee.answer()
        world.run(1)
        assert world.pbx.statuses() == [180, 200]
        world.pbx.bye()
        over(world)
