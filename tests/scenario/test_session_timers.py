"""Session timers (RFC 4028) in virtual time: on each leg by itself, in both roles."""

from __future__ import annotations

import pytest

from relay.sip.message import Request
from tests.scenario.world import CARRIER, PBX, World, sdp

UPDATE = "INVITE, ACK, BYE, UPDATE"


def answered(world: World, **headers: str) -> None:
    world.pbx.call(**headers)
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)


def caller_with_timer(world: World, expires: str = "100", **headers: str) -> None:
    answered(world, Supported="timer", Session_Expires=expires, **headers)


def callee_with_timer(world: World, expires: str, allow: str = UPDATE) -> None:
    world.carrier.headers.update({"Session-Expires": expires, "Require": "timer"})
    if allow:
        world.carrier.headers["Allow"] = allow
    answered(world)


def over(world: World) -> None:
    world.run(50)
    assert world.calls.idle and world.media.open_count == 0
    assert world.calls.alarms.next_timer() is None
    assert not world.bugs


class TestTowardsTheCallee:
    """We are the UAC of this leg."""

    def test_our_invite_asks_for_what_the_trunk_says(self) -> None:
        world = World(carrier={"session_expires_s": 600})
        answered(world)
        invite = world.carrier.got("INVITE")[0]
        assert invite.headers.get("Session-Expires") == "600"
        assert "timer" in invite.headers.all("Supported")
        assert "Min-SE" not in invite.headers
        assert "Session-Expires" not in world.pbx.responses[-1].headers

    def test_no_timer_is_asked_for_when_it_is_off(self) -> None:
        world = World(carrier={"session_expires_s": 0})
        answered(world)
        invite = world.carrier.got("INVITE")[0]
        assert "Session-Expires" not in invite.headers
        assert "timer" not in invite.headers.all("Supported")

    def test_an_answer_without_a_word_of_it_means_no_timer(self) -> None:
        world = World(carrier={"session_expires_s": 100})
        answered(world)
        world.run(1000)
        assert len(world.calls.active) == 1
        assert not world.carrier.got("UPDATE") and len(world.carrier.got("INVITE")) == 1

    @pytest.mark.parametrize(("allow", "method"), [(UPDATE, "UPDATE"), ("", "INVITE")])
    def test_we_refresh_at_half_the_interval(self, allow: str, method: str) -> None:
        """By UPDATE without SDP where the callee has it, else by a re-INVITE that repeats
        what it was told, version and all (section 7.4)."""
        world = World(carrier={"session_expires_s": 100})
        callee_with_timer(world, "100;refresher=uac", allow)
        start = len(world.carrier.got(method))
        world.run(47)
        assert len(world.carrier.got(method)) == start
        world.run(4)
        refresh = world.carrier.got(method)[-1]
        assert len(world.carrier.got(method)) == start + 1
        assert refresh.headers.get("Session-Expires") == "100;refresher=uac"
        expected = b"" if method == "UPDATE" else world.carrier.got("INVITE")[0].body
        assert refresh.body == expected
        world.run(500)
        assert len(world.calls.active) == 1
        assert len(world.carrier.got(method)) == start + 11
        assert not world.pbx.got(method)  # the other leg has no timer
        world.pbx.bye()
        over(world)

    def test_a_callee_that_refreshes_not_is_hung_up_on(self) -> None:
        """Section 10: a BYE min(32, a third) before the end, to both sides."""
        world = World()
        callee_with_timer(world, "90;refresher=uas")
        world.run(57)
        assert len(world.calls.active) == 1
        world.run(3)
        for phone in (world.pbx, world.carrier):
            assert "session timer" in phone.got("BYE")[0].headers.get("Reason")
        assert not world.carrier.got("UPDATE")
        over(world)

    def test_a_callee_that_refreshes_keeps_the_call(self) -> None:
        world = World()
        callee_with_timer(world, "90;refresher=uas")
        for _ in range(5):
            world.run(45)
            update = world.carrier.dialog.request("UPDATE", contact=f"<sip:{CARRIER}:5060>")
            update.headers.add("Supported", "timer")
            update.headers.add("Session-Expires", "90;refresher=uac")
            world.carrier.send(update)
            world.run(1)
            said = world.carrier.responses[-1].headers
            assert said.get("Session-Expires") == "90;refresher=uac"
            assert said.get("Require") == "timer"
        assert len(world.calls.active) == 1 and not world.pbx.got("UPDATE")
        world.pbx.bye()
        over(world)

    def test_422_makes_us_ask_once_more(self) -> None:
        world = World(carrier={"session_expires_s": 100})

        def too_small(tx: object, request: Request) -> None:
            if request.method == "INVITE" and request.headers.get("Session-Expires") == "100":
                world.carrier.headers["Min-SE"] = "300"
                world.carrier.reply(tx, request, 422)
                world.carrier.headers = {"Session-Expires": "300;refresher=uas"}
            else:
                world.carrier.answer_all(tx, request)

        world.carrier.on_request = too_small
        answered(world)
        first, second = world.carrier.got("INVITE")
        assert second.headers.get("Session-Expires") == second.headers.get("Min-SE") == "300"
        assert second.call_id == first.call_id and second.cseq.number == first.cseq.number + 1
        assert second.body == first.body
        assert world.pbx.statuses() == [180, 200]
        # What it wants of us is no rule for what we take of it.
        update = world.carrier.dialog.request("UPDATE")
        update.headers.add("Supported", "timer")
        update.headers.add("Session-Expires", "120;refresher=uac")
        world.carrier.send(update)
        world.run(1)
        assert world.carrier.statuses("UPDATE") == [200]
        world.pbx.bye()
        over(world)

    def test_a_callee_that_never_has_enough_ends_the_call(self) -> None:
        world = World()
        more = iter(range(2000, 10000, 100))

        def too_small(tx: object, request: Request) -> None:
            world.carrier.headers["Min-SE"] = str(next(more))
            world.carrier.reply(tx, request, 422)

        world.carrier.on_request = too_small
        world.pbx.call()
        world.run_until(lambda: bool(world.pbx.statuses()))
        assert world.pbx.statuses() == [502] and len(world.carrier.got("INVITE")) == 2
        over(world)


class TestTowardsTheCaller:
    """We are the UAS of this leg."""

    def test_the_caller_refreshes_unless_it_says_otherwise(self) -> None:
        world = World()
        caller_with_timer(world, "100")
        said = world.pbx.responses[-1].headers
        assert said.get("Session-Expires") == "100;refresher=uac"
        assert said.get("Require") == "timer"
        world.run(60)
        assert len(world.calls.active) == 1
        world.run(10)
        assert len(world.pbx.got("BYE")) == len(world.carrier.got("BYE")) == 1
        assert world.journal.last("call_ended")["cause"] == (
            "the caller let its session timer run out"
        )
        over(world)

    def test_a_longer_one_than_ours_is_shortened(self) -> None:
        world = World(pbx={"session_expires_s": 600})
        caller_with_timer(world, "7200")
        assert world.pbx.responses[-1].headers.get("Session-Expires") == "600;refresher=uac"

    def test_but_not_below_its_own_minimum(self) -> None:
        world = World(pbx={"session_expires_s": 600})
        caller_with_timer(world, "7200", Min_SE="1000")
        assert world.pbx.responses[-1].headers.get("Session-Expires") == "1000;refresher=uac"

    def test_we_refresh_when_the_caller_asks_us_to(self) -> None:
        world = World()
        caller_with_timer(world, "100;refresher=uas", Allow=UPDATE)
        assert world.pbx.responses[-1].headers.get("Session-Expires") == "100;refresher=uas"
        world.pbx.headers["Session-Expires"] = "100;refresher=uac"
        world.run(300)
        assert len(world.pbx.got("UPDATE")) == 6 and not world.carrier.got("UPDATE")
        assert len(world.calls.active) == 1
        world.carrier.bye()
        over(world)

    def test_too_short_gets_422_with_our_minimum(self) -> None:
        world = World(min_session_expires_s=200)
        world.pbx.call(Supported="timer", Session_Expires="100")
        world.run_until(lambda: bool(world.pbx.statuses()))
        assert world.pbx.statuses() == [422]
        assert world.pbx.responses[-1].headers.get("Min-SE") == "200"
        assert world.media.open_count == 0
        world.pbx.call(Supported="timer", Session_Expires="200", Min_SE="200")
        world.run_until(lambda: 200 in world.pbx.statuses())
        assert world.pbx.responses[-1].headers.get("Session-Expires") == "200;refresher=uac"

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_too_short_in_the_call_gets_422_and_changes_nothing(self, method: str) -> None:
        world = World()
        answered(world)
        request = world.pbx.dialog.request(method, contact=f"<sip:{PBX}:5060>")
        request.headers.add("Supported", "timer")
        request.headers.add("Session-Expires", "60")
        world.pbx.send(request)
        world.run(1)
        assert world.pbx.statuses(method)[-1] == 422
        assert world.pbx.responses[-1].headers.get("Min-SE") == "90"
        assert len(world.calls.active) == 1

    def test_a_reinvite_of_one_leg_says_nothing_of_the_others_timer(self) -> None:
        world = World(carrier={"session_expires_s": 0})
        caller_with_timer(world, "1000")
        request = world.pbx.dialog.request("INVITE", contact=f"<sip:{PBX}:5060>")
        request.headers.add("Supported", "timer")
        request.headers.add("Session-Expires", "1000;refresher=uac")
        request.headers.add("Content-Type", "application/sdp")
        request.body = sdp(PBX, 4002)
        world.pbx.send(request)
        world.run(1)
        passed = world.carrier.got("INVITE")[-1]
        assert "Session-Expires" not in passed.headers and "Supported" not in passed.headers
        assert world.pbx.responses[-1].headers.get("Session-Expires") == "1000;refresher=uac"

    def test_nonsense_is_no_timer(self) -> None:
        world = World()
        caller_with_timer(world, "soon;refresher=me", Allow=UPDATE)
        assert world.pbx.statuses() == [180, 200]
        world.pbx.bye()
        over(world)


class TestRefresh:
    """What becomes of a refresh of ours."""

    def world(self, allow: str = UPDATE) -> World:
        world = World(carrier={"session_expires_s": 100})
        callee_with_timer(world, "100;refresher=uac", allow)
        return world

    @pytest.mark.parametrize("status", [408, 481])
    def test_nobody_there_ends_the_call(self, status: int) -> None:
        world = self.world()
        world.carrier.on_request = lambda tx, request: world.carrier.reply(
            tx, request, status if request.method == "UPDATE" else 200
        )
        world.run_until(lambda: bool(world.pbx.got("BYE")))
        assert "the callee" in world.pbx.got("BYE")[0].headers.get("Reason")
        over(world)

    def test_no_answer_at_all_ends_the_call(self) -> None:
        world = self.world()
        world.drop = lambda source, to, data: to == CARRIER
        world.run_until(lambda: bool(world.pbx.got("BYE")))
        over(world)

    @pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 2.1), (0.999, 4.0)])
    def test_491_waits_a_random_time_and_tries_again(self, chance: float, wait_s: float) -> None:
        """RFC 3261 section 14.1: we own this leg's Call-ID, so 2.1 to 4 s."""
        world = self.world()
        world.chance = chance
        refused: list[float] = []

        def glare(tx: object, request: Request) -> None:
            if request.method == "UPDATE" and not refused:
                refused.append(world.now)
                world.carrier.reply(tx, request, 491)
            else:
                world.carrier.answer_all(tx, request)

        world.carrier.on_request = glare
        world.run_until(lambda: len(world.carrier.got("UPDATE")) == 2)
        assert world.now - refused[0] == pytest.approx(wait_s, abs=0.05)
        assert len(world.calls.active) == 1

    def test_491_towards_the_caller_waits_less(self) -> None:
        """It owns the Call-ID: 0 to 2 s."""
        world = World()
        caller_with_timer(world, "100;refresher=uas", Allow=UPDATE)
        world.chance = 0.999
        refused: list[float] = []

        def glare(tx: object, request: Request) -> None:
            if not refused:
                refused.append(world.now)
                world.pbx.reply(tx, request, 491)
            else:
                world.pbx.answer_all(tx, request)

        world.pbx.on_request = glare
        world.run_until(lambda: len(world.pbx.got("UPDATE")) == 2)
        assert world.now - refused[0] == pytest.approx(2.0, abs=0.05)

    def test_a_callee_that_has_no_update_after_all_gets_a_reinvite(self) -> None:
        world = self.world()
        world.carrier.on_request = lambda tx, request: (
            world.carrier.reply(tx, request, 405)
            if request.method == "UPDATE"
            else world.carrier.answer_all(tx, request)
        )
        world.run(60)
        assert len(world.carrier.got("INVITE")) == 2 and len(world.calls.active) == 1
        world.run(60)
        assert len(world.carrier.got("UPDATE")) == 1 and len(world.carrier.got("INVITE")) == 3

    def test_422_to_a_refresh_makes_the_interval_longer(self) -> None:
        world = self.world()

        def too_small(tx: object, request: Request) -> None:
            if request.headers.get("Session-Expires") == "100;refresher=uac":
                world.carrier.headers = {"Min-SE": "400"}
                world.carrier.reply(tx, request, 422)
                world.carrier.headers = {"Session-Expires": "400;refresher=uac"}
            else:
                world.carrier.answer_all(tx, request)

        world.carrier.on_request = too_small
        world.run(60)
        asked = [r.headers.get("Session-Expires") for r in world.carrier.got("UPDATE")]
        assert asked == ["100;refresher=uac", "400;refresher=uac"]
        world.run(100)
        assert len(world.carrier.got("UPDATE")) == 2 and len(world.calls.active) == 1

    def test_a_busy_callee_is_asked_again_until_the_time_is_over(self) -> None:
        world = self.world()
        world.carrier.on_request = lambda tx, request: world.carrier.reply(
            tx, request, 500 if request.method == "UPDATE" else 200
        )
        world.run_until(lambda: bool(world.pbx.got("BYE")), 75)
        assert 2 <= len(world.carrier.got("UPDATE")) <= 4
        assert "session timer" in world.pbx.got("BYE")[0].headers.get("Reason")
        over(world)

    def test_a_reinvite_of_the_peer_meets_our_refresh(self) -> None:
        """While our re-INVITE is under way, an offer of either side is glare."""
        world = self.world(allow="")
        world.run_until(lambda: len(world.carrier.got("INVITE")) == 2)
        pending: list[tuple[object, Request]] = []
        world.carrier.on_request = lambda tx, request: pending.append((tx, request))
        world.run_until(lambda: bool(pending), 60)
        for phone in (world.pbx, world.carrier):
            phone.in_dialog("INVITE", sdp(phone.host, 4002))
            world.run(0.1)
            assert phone.statuses()[-1] == 491
        world.carrier.answer(*pending[0])
        world.run(1)
        world.carrier.on_request = world.carrier.answer_all
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(1)
        assert world.pbx.statuses()[-1] == 200
        world.pbx.bye()
        over(world)

    @pytest.mark.parametrize("allow", [UPDATE, ""])
    @pytest.mark.parametrize("who", ["pbx", "carrier"])
    def test_a_hang_up_crosses_a_refresh(self, allow: str, who: str) -> None:
        world = self.world(allow)
        method = "UPDATE" if allow else "INVITE"
        before = len(world.carrier.got(method))
        world.run_until(lambda: len(world.carrier.got(method)) > before)
        getattr(world, who).bye()
        over(world)
        assert len(world.pbx.got("BYE")) + len(world.carrier.got("BYE")) == 1

    @pytest.mark.parametrize("who", ["pbx", "carrier"])
    def test_a_hang_up_during_a_refresh_that_is_not_answered(self, who: str) -> None:
        world = self.world(allow="")
        world.carrier.on_request = lambda tx, request: (
            world.carrier.reply(tx, request, 200) if request.method == "BYE" else None
        )
        world.run_until(lambda: len(world.carrier.got("INVITE")) == 2, 60)
        getattr(world, who).bye()
        world.run(80)
        over(world)
        assert len(world.pbx.got("BYE")) + len(world.carrier.got("BYE")) == 1

    def test_a_new_address_in_the_answer_reaches_the_engine(self) -> None:
        world = self.world(allow="")
        world.carrier.on_request = lambda tx, request: world.carrier.answer(
            tx, request, body=sdp(CARRIER, 5050)
        )
        world.run(60)
        media = world.media.calls[0].updates
        assert any(leg.remote and leg.remote.port == 5050 for leg in media[list(media)[1]])
        assert not world.bugs

    @pytest.mark.parametrize("seed", range(8))
    def test_refreshes_survive_a_lossy_network(self, seed: int) -> None:
        world = World(carrier={"session_expires_s": 100})
        callee_with_timer(world, "100;refresher=uac", UPDATE if seed % 2 else "")
        world._loss = 0.2
        world.run(400)
        assert len(world.calls.active) == 1
        world._loss = 0.0
        world.pbx.bye()
        over(world)


def test_ended_calls_leave_no_alarm_behind() -> None:
    """A timer of half an hour outlives no call: the heap is swept."""
    world = World()
    for _ in range(300):
        world.pbx.dialog = world.carrier.dialog = None
        acks = len(world.carrier.acks)
        world.pbx.call(Supported="timer", Session_Expires="1800")
        world.run_until(lambda before=acks: len(world.carrier.acks) > before)
        world.run(0.1)
        world.pbx.bye()
        world.run_until(lambda: world.calls.idle)
    assert len(world.calls.alarms) < 150
