"""re-INVITE, UPDATE and INFO inside an answered call: hold, glare, refresh, and what races."""

from __future__ import annotations

from random import Random

import pytest

from relay.call.ports import Side
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from tests.scenario.world import CARRIER, PBX, RELAY, Phone, World, sdp

HOLD = "a=sendonly"


def answered(world: World, allow: str = "") -> None:
    """A call that is up; `allow` is what both phones say they take."""
    if allow:
        world.carrier.headers["Allow"] = allow
        world.pbx.call(Allow=allow)
    else:
        world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)


def other(world: World, phone: Phone) -> Phone:
    return world.carrier if phone is world.pbx else world.pbx


def accept(phone: Phone, extra: str = "", port: int = 5000, codecs: str = "0 8 101") -> None:
    """Answer every further offer with this description."""

    def on_request(tx: object, request: Request) -> None:
        if request.body and request.method in ("INVITE", "UPDATE"):
            body = sdp(phone.host, port, codecs, extra)
            phone.reply(tx, request, 200, "b1", body)
        else:
            phone.answer_all(tx, request)

    phone.on_request = on_request


def end(world: World) -> None:
    """Hang up and see that nothing stays behind."""
    world.pbx.bye()
    world.run(40)
    assert world.calls.idle and world.media.open_count == 0
    assert len(world.carrier.got("BYE")) == 1 and not world.pbx.got("BYE")
    assert not world.bugs


class TestHold:
    """RFC 3264 section 8.4, and the older way of RFC 2543."""

    @pytest.mark.parametrize("who", ["pbx", "carrier"])
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("style", "told", "answer"),
        [
            ("a=sendonly", b"a=sendonly", "a=recvonly"),
            ("a=inactive", b"a=inactive", "a=inactive"),
            ("0.0.0.0", b"a=sendonly", "a=recvonly"),
        ],
    )
    def test_hold_and_resume(
        self, who: str, method: str, style: str, told: bytes, answer: str
    ) -> None:
        world = World()
        answered(world, "INVITE, ACK, BYE, UPDATE")
        holder: Phone = getattr(world, who)
        held = other(world, holder)
        accept(held, answer)
        offer = sdp(holder.host, 4000, extra="" if style == "0.0.0.0" else style)
        if style == "0.0.0.0":
            offer = offer.replace(f"c=IN IP4 {holder.host}".encode(), b"c=IN IP4 0.0.0.0")
        side = Side.CALLER if who == "pbx" else Side.CALLEE
        holder.in_dialog(method, offer)
        world.run(1)
        assert holder.responses[-1].status == 200
        assert told in held.got(method)[-1].body
        assert answer.encode() in holder.responses[-1].body
        media = world.media.calls[0].updates
        assert not media[side.other][-1].may_send
        accept(held, "a=sendrecv")
        holder.in_dialog(method, sdp(holder.host, 4000, extra="a=sendrecv"))
        world.run(1)
        assert holder.statuses(method)[-1] == 200
        assert b"a=sendrecv" in holder.responses[-1].body
        for each in Side:
            assert media[each][-1].may_send and media[each][-1].may_receive
        end(world)

    def test_a_refused_hold_leaves_everything_as_it_was(self) -> None:
        """RFC 3261 section 14.1; Warning and status are the other side's."""
        world = World()
        answered(world)
        before = {side: list(told) for side, told in world.media.calls[0].updates.items()}
        world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 488)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4000, extra=HOLD))
        world.run_until(lambda: 488 in world.pbx.statuses())
        world.carrier.on_request = world.carrier.answer_all
        assert world.media.calls[0].updates == before
        assert len(world.calls.active) == 1
        end(world)


def test_another_codec_and_another_address_reach_the_engine() -> None:
    world = World()
    answered(world)
    accept(world.carrier, port=5010, codecs="8 101")
    world.pbx.in_dialog("INVITE", sdp(PBX, 4010, "8 101"))
    world.run(1)
    updates = world.media.calls[0].updates
    assert updates[Side.CALLER][-1].remote[:2] == (PBX, 4010)
    assert updates[Side.CALLEE][-1].remote[:2] == (CARRIER, 5010)
    assert 0 not in updates[Side.CALLER][-1].payload_types
    end(world)


def test_a_contact_that_moves_is_where_the_next_request_goes() -> None:
    """RFC 3261 section 12.2: a target refresh."""
    world = World()
    answered(world)
    update = world.pbx.dialog.request("UPDATE", contact=f"<sip:ann@{PBX}:5060>")
    world.pbx.send(update)
    world.run(1)
    assert world.pbx.statuses("UPDATE") == [200]
    assert not world.carrier.got("UPDATE")  # it concerned one leg only
    world.carrier.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert world.pbx.got("BYE")[0].uri == f"sip:ann@{PBX}:5060"


def test_a_contact_outside_the_region_is_not_followed() -> None:
    world = World()
    answered(world)
    world.pbx.send(world.pbx.dialog.request("UPDATE", contact="<sip:198.51.100.9:5060>"))
    world.run(1)
    assert world.pbx.statuses("UPDATE") == [200]
    assert world.calls.counters["targets_outside"] == 1
    world.carrier.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_an_offer_that_repeats_what_holds_is_answered_here(method: str) -> None:
    """A session refresh: its answer is the same as before, and the other leg hears nothing."""
    world = World()
    answered(world)
    first = world.pbx.responses[-1].body
    world.pbx.in_dialog(method, sdp(PBX, 4000))
    world.run(1)
    assert world.pbx.responses[-1].status == 200 and world.pbx.responses[-1].body == first
    assert len(world.carrier.got("INVITE")) == 1 and not world.carrier.got("UPDATE")
    end(world)


def test_an_update_reaches_a_peer_that_has_none_as_a_reinvite() -> None:
    world = World()
    answered(world, "INVITE, ACK, BYE, CANCEL")
    world.pbx.in_dialog("UPDATE", sdp(PBX, 4002))
    world.run(1)
    assert world.pbx.statuses("UPDATE") == [200] and world.pbx.responses[-1].body
    assert len(world.carrier.got("INVITE")) == 2 and len(world.carrier.acks) == 2
    end(world)


class TestDelayedOffer:
    def test_a_reinvite_without_an_offer(self) -> None:
        """Offer in the 200, answer in the ACK, on both legs."""
        world = World()
        answered(world)
        world.pbx.acknowledge = False
        world.pbx.in_dialog("INVITE")
        world.run_until(lambda: len(world.pbx.statuses()) == 3)
        assert not world.carrier.got("INVITE")[-1].body
        assert len(world.carrier.acks) == 1
        assert RELAY.encode() in world.pbx.responses[-1].body
        world.pbx.send_ack(world.pbx.responses[-1], sdp(PBX, 4020))
        world.run(1)
        assert RELAY.encode() in world.carrier.acks[-1].body
        assert world.media.calls[0].updates[Side.CALLER][-1].remote[:2] == (PBX, 4020)
        end(world)

    def test_an_ack_without_the_answer_leaves_the_call_as_it_was(self) -> None:
        """The other side still must get an answer to its offer: what it knows already."""
        world = World()
        answered(world)
        world.pbx.in_dialog("INVITE")
        world.run_until(lambda: len(world.carrier.acks) == 2)
        assert RELAY.encode() in world.carrier.acks[-1].body
        assert len(world.calls.active) == 1
        end(world)

    def test_an_ack_that_never_comes_ends_the_call(self) -> None:
        world = World()
        answered(world)
        world.pbx.acknowledge = False
        world.pbx.in_dialog("INVITE")
        world.run_until(lambda: bool(world.pbx.got("BYE") and world.carrier.got("BYE")), 40)
        assert len(world.carrier.acks) == 2
        world.run(40)
        assert world.calls.idle and not world.bugs


class TestGlare:
    def test_both_sides_offer_at_once_and_both_get_491(self) -> None:
        """RFC 3261 section 14.1: each waits for another time, so the second try goes through."""
        world = World()
        answered(world)
        offers = {world.pbx: sdp(PBX, 4002), world.carrier: sdp(CARRIER, 5002)}

        def glare(phone: Phone) -> None:
            def on_request(tx: object, request: Request) -> None:
                if request.method == "INVITE":
                    phone.reply(tx, request, 491)  # its own is under way
                else:
                    phone.answer_all(tx, request)

            phone.on_request = on_request

        for phone, offer in offers.items():
            glare(phone)
            phone.in_dialog("INVITE", offer)
        world.run_until(lambda: all(p.statuses()[-1:] == [491] for p in offers))
        world.pbx.on_request = world.pbx.answer_all
        world.carrier.in_dialog("INVITE", offers[world.carrier])
        world.run(1)
        assert world.carrier.statuses()[-1] == 200
        end(world)

    def test_an_offer_from_the_other_side_gets_491(self) -> None:
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: None
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(0.1)
        for method in ("INVITE", "UPDATE"):
            world.carrier.in_dialog(method, sdp(CARRIER, 5002))
            world.run_until(lambda method=method: world.carrier.statuses(method) == [491])

    def test_a_second_one_from_the_same_side_gets_500_and_when_to_try_again(self) -> None:
        """RFC 3261 section 14.2, RFC 3311 section 5.2: Retry-After is 0 to 10 s."""
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: None
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(0.1)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4004))
        world.run_until(lambda: 500 in world.pbx.statuses())
        assert world.pbx.responses[-1].headers.get("Retry-After") == "5"
        assert len(world.calls.active) == 1


class TestGone:
    """RFC 3261 section 12.2.1.2: 481 and 408 end the dialog, and with it the call."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize("status", [481, 408])
    def test_a_request_that_finds_nobody_ends_the_call(self, method: str, status: int) -> None:
        world = World()
        answered(world, "INVITE, ACK, BYE, UPDATE")
        world.carrier.on_request = lambda tx, request: world.carrier.reply(
            tx, request, status if request.method == method else 200
        )
        world.pbx.in_dialog(method, sdp(PBX, 4002))
        world.run_until(lambda: bool(world.pbx.got("BYE") and world.carrier.got("BYE")))
        assert world.pbx.statuses(method)[-1] in (500, 504)
        assert "the callee" in world.pbx.got("BYE")[0].headers.get("Reason")
        assert world.calls.counters["lost"] == 1
        world.run(40)
        assert world.calls.idle and not world.bugs
        assert len(world.pbx.got("BYE")) == len(world.carrier.got("BYE")) == 1

    def test_a_silent_peer_ends_the_call(self) -> None:
        world = World()
        answered(world)
        world.drop = lambda source, to, data: to == CARRIER
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run_until(lambda: bool(world.pbx.got("BYE")), 40)
        assert world.journal.last("call_ended")["cause"] == "the callee does not answer"
        world.run(80)
        assert world.calls.idle and not world.bugs

    def test_any_other_failure_changes_nothing(self) -> None:
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 503)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(2)
        assert world.pbx.statuses()[-1] == 503 and len(world.calls.active) == 1


class TestRaces:
    def test_a_bye_during_a_reinvite(self) -> None:
        """487 to the re-INVITE, one BYE each way at most, nothing left."""
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: (
            world.carrier.reply(tx, request, 200) if request.method == "BYE" else None
        )
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(0.2)
        world.pbx.bye()
        world.run_until(lambda: 487 in world.pbx.statuses())
        world.run(80)
        assert world.pbx.statuses("BYE") == [200]
        assert len(world.carrier.got("BYE")) == 1 and not world.pbx.got("BYE")
        assert world.calls.idle and not world.bugs

    def test_the_asked_side_hangs_up_instead_of_answering(self) -> None:
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: None
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(0.2)
        world.carrier.bye()
        world.run_until(lambda: 487 in world.pbx.statuses())
        world.run(80)
        assert len(world.pbx.got("BYE")) == 1 and not world.carrier.got("BYE")
        assert world.calls.idle and not world.bugs

    def test_a_bye_that_crosses_the_200_of_a_reinvite(self) -> None:
        world = World()
        answered(world)
        accept(world.carrier)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run(0.02)  # the 200 of the callee is on the wire
        world.pbx.bye()
        world.run(80)
        assert len(world.carrier.acks) == 2 and len(world.carrier.got("BYE")) == 1
        assert world.calls.idle and not world.bugs

    def test_a_hang_up_while_a_delayed_answer_is_awaited(self) -> None:
        """The 2xx of the other side gets its ACK before the BYE."""
        world = World()
        answered(world)
        world.pbx.acknowledge = False
        world.pbx.in_dialog("INVITE")
        world.run_until(lambda: len(world.pbx.statuses()) == 3)
        world.pbx.bye()
        world.run(80)
        assert len(world.carrier.acks) == 2
        assert world.calls.idle and not world.bugs

    def test_a_cancelled_reinvite_leaves_the_call(self) -> None:
        world = World()
        answered(world)
        pending: list[tuple[object, Request]] = []

        def ringing(tx: object, request: Request) -> None:
            pending.append((tx, request))
            world.carrier.reply(tx, request, 180)

        world.carrier.on_request = ringing
        offer = world.pbx.dialog.request("INVITE", contact=f"<sip:{PBX}:5060>")
        offer.headers.add("Content-Type", "application/sdp")
        offer.body = sdp(PBX, 4002)
        world.pbx.invite_tx = world.pbx.send(offer)
        world.run(0.1)
        world.pbx.cancel()
        world.run_until(lambda: 487 in world.pbx.statuses())
        world.run(1)
        assert world.carrier.cancelled and len(world.calls.active) == 1
        world.carrier.on_request = world.carrier.answer_all
        end(world)

    def test_a_cancel_that_comes_too_late_is_taken_back(self) -> None:
        """The callee has accepted what the caller cancelled: it is told again what holds."""
        world = World()
        answered(world)
        pending: list[tuple[object, Request]] = []

        def ringing(tx: object, request: Request) -> None:
            if request.method != "INVITE":
                world.carrier.answer_all(tx, request)
                return
            pending.append((tx, request))
            world.carrier.reply(tx, request, 180)

        before = world.carrier.got("INVITE")[0].body
        world.carrier.on_request = ringing
        offer = world.pbx.dialog.request("INVITE", contact=f"<sip:{PBX}:5060>")
        offer.headers.add("Content-Type", "application/sdp")
        offer.body = sdp(PBX, 4002, extra=HOLD)
        world.pbx.invite_tx = world.pbx.send(offer)
        world.run(0.1)
        world.pbx.cancel()
        accept(world.carrier, "a=recvonly")
        world.carrier.reply(*pending[0], 200, "b1", sdp(CARRIER, 5000, extra="a=recvonly"))
        accept(world.carrier)
        world.run(1)
        assert len(world.carrier.got("INVITE")) == 3
        restored = world.carrier.got("INVITE")[-1].body.splitlines()
        assert [line for line in restored if not line.startswith(b"o=")] == [
            line for line in before.splitlines() if not line.startswith(b"o=")
        ]
        assert len(world.carrier.acks) == 3 and len(world.calls.active) == 1
        end(world)

    def test_a_lost_ack_of_a_reinvite_ends_the_call_after_64_t1(self) -> None:
        world = World()
        answered(world)
        world.pbx.acknowledge = False
        world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
        world.run_until(lambda: bool(world.pbx.got("BYE") and world.carrier.got("BYE")), 40)
        world.run(40)
        assert world.calls.idle and not world.bugs

    @pytest.mark.parametrize("seed", range(12))
    def test_both_sides_change_the_session_on_a_lossy_network(self, seed: int) -> None:
        world = World()
        answered(world)
        luck = Random(seed)
        world.drop = lambda source, to, data: luck.random() < 0.25
        for turn in range(4):
            phone = (world.pbx, world.carrier)[turn % 2]
            phone.in_dialog("INVITE", sdp(phone.host, 4100 + 2 * turn))
            world.run(3)
        world.pbx.bye()
        world.carrier.bye()
        world.run(200)
        assert world.calls.idle and world.media.open_count == 0
        assert not world.bugs


class TestInfo:
    @pytest.mark.parametrize(
        ("kind", "body", "key", "duration_ms"),
        [
            ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5", 160),
            ("application/dtmf-relay", b"Signal= *\r\nDuration= 250\r\n", "*", 250),
            ("application/dtmf-relay", b"Signal=11\r\n", "#", None),
            ("application/dtmf", b"7", "7", None),
        ],
    )
    def test_a_key_is_passed_on_and_reported_once(
        self, kind: str, body: bytes, key: str, duration_ms: int | None
    ) -> None:
        world = World()
        answered(world)
        info(world.pbx, kind, body)
        world.run(1)
        assert world.pbx.statuses("INFO") == [200]
        passed = world.carrier.got("INFO")
        assert [(i.content_type, i.body) for i in passed] == [(kind, body)]
        told = {"side": "caller", "key": key, "duration_ms": duration_ms, "source": "info"}
        assert world.journal.last("dtmf") == told
        assert world.journal.names().count("dtmf") == 1

    def test_other_bodies_pass_and_are_no_key(self) -> None:
        world = World()
        answered(world)
        info(world.carrier, "application/media_control+xml", b"<picture_fast_update/>")
        info(world.pbx, "application/dtmf-relay", b"Signal=flash\r\n")
        world.run(1)
        assert world.pbx.got("INFO")[0].body == b"<picture_fast_update/>"
        assert "dtmf" not in world.journal.names()

    def test_a_lost_info_is_one_key(self) -> None:
        """Its repeats are the same transaction."""
        world = World()
        answered(world)
        lost: list[bytes] = []

        def drop(source: str, to: str, data: bytes) -> bool:
            first = source == CARRIER and b"INFO" in data[:300] and len(lost) < 2
            if first:
                lost.append(data)
            return first

        world.drop = drop
        info(world.pbx, "application/dtmf", b"1")
        world.run(5)
        assert len(lost) == 2 and world.pbx.statuses("INFO") == [200]
        assert world.journal.names().count("dtmf") == 1
        assert len(world.carrier.got("INFO")) == 1


def info(phone: Phone, kind: str, body: bytes) -> None:
    request = phone.dialog.request("INFO")
    request.headers.add("Content-Type", kind)
    request.body = body
    phone.send(request)


class TestLateAnswer:
    """A 2xx whose INVITE transaction is gone still wants its ACK (RFC 3261 section 13.2.2.4)."""

    def test_an_unknown_one_is_acknowledged_and_ended(self) -> None:
        world = World()
        world.send(CARRIER, stray("nobody", "0a").encode(), Hop("udp", RELAY, 5060))
        world.run_until(lambda: bool(world.carrier.acks and world.carrier.got("BYE")))
        assert world.carrier.acks[0].cseq.number == 1
        assert world.carrier.got("BYE")[0].to.tag == "late"
        world.run(40)
        assert world.calls.idle and not world.bugs

    def test_that_of_a_call_that_is_up_gets_its_ack_only(self) -> None:
        world = World()
        answered(world)
        invite = world.carrier.got("INVITE")[0]
        late = stray(invite.call_id, invite.from_.tag or "", tag="b1")
        world.send(CARRIER, late.encode(), Hop("udp", RELAY, 5060))
        world.run(1)
        assert len(world.carrier.acks) == 2 and not world.carrier.got("BYE")
        assert len(world.calls.active) == 1

    def test_a_stranger_and_a_far_contact_move_nothing(self) -> None:
        """Nobody may aim our ACK and BYE at a third party."""
        world = World()
        far = stray("nobody", "0a")
        far.headers.set("Contact", "<sip:198.51.100.7:5060>")
        world.send(CARRIER, far.encode(), Hop("udp", RELAY, 5060))
        world.send("198.51.100.7", stray("nobody", "0a").encode(), Hop("udp", RELAY, 5060))
        world.run(1)
        assert not [data for source, _, data in world.wire if source == RELAY]


def stray(call_id: str, from_tag: str, tag: str = "late") -> Response:
    """A 2xx to an INVITE of ours whose transaction is gone."""
    fields = [
        ("Via", f"SIP/2.0/UDP {RELAY}:5060;branch=z9hG4bKlongago"),
        ("From", f"<sip:+35315550100@{RELAY}>;tag={from_tag}"),
        ("To", f"<sip:+35315550199@{CARRIER}>;tag={tag}"),
        ("Call-ID", call_id),
        ("CSeq", "1 INVITE"),
        ("Contact", f"<sip:{CARRIER}:5060>"),
    ]
    return Response(200, None, Headers(fields))
