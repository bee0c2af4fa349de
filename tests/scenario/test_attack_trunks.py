"""What a trunk, or who forges a trunk's address, may not do to others: take their calls away,
fill the memory, have them banned, or keep us busy."""

from __future__ import annotations

import pytest

from relay.call.midcall import MOST_INFOS
from relay.call.session_timer import MOST_GROWN
from relay.sip.message import Headers, Request, Response
from tests.scenario.test_attack import answered, assert_clean, inject
from tests.scenario.test_challenged import call, guarded, met
from tests.scenario.test_transfer import TARGET, Transferred
from tests.scenario.world import CARRIER, NUMBER, PBX, RELAY, Phone, World, sdp

NONCE = "A" * 32  # none of ours


def forged(number: int, method: str, host: str = PBX, tag: str = "", **headers: str) -> Request:
    """A request from `host` that belongs to nothing."""
    return Request(
        method,
        f"sip:{NUMBER}@{RELAY}",
        Headers(
            [
                ("Via", f"SIP/2.0/UDP {host}:5060;branch=z9hG4bKf{number}"),
                ("From", f"<sip:+35315550100@{host}>;tag=f{number}"),
                ("To", f"<sip:{NUMBER}@{RELAY}>" + (f";tag={tag}" if tag else "")),
                ("Call-ID", headers.pop("Call_ID", f"forged-{number}")),
                ("CSeq", f"1 {method}"),
                ("Contact", f"<sip:{host}:5060>"),
                *((name.replace("_", "-"), value) for name, value in headers.items()),
            ]
        ),
    )


def late_answer(number: int, target: str) -> Response:
    """A 2xx to an INVITE that was never ours."""
    return Response(
        200,
        "OK",
        Headers(
            [
                ("Via", f"SIP/2.0/UDP {RELAY}:5060;branch=z9hG4bKl{number}"),
                ("From", f"<sip:+35315550100@{RELAY}>;tag=l{number}"),
                ("To", f"<sip:{NUMBER}@{RELAY}>;tag=b"),
                ("Call-ID", f"late-{number}"),
                ("CSeq", "1 INVITE"),
                ("Contact", f"<sip:{target}:5060>"),
            ]
        ),
    )


class TestPasswords:
    def test_who_forges_the_address_of_a_known_source_cannot_have_it_banned(self) -> None:
        """It has no nonce that went to that address, and wrong passwords count only with one."""
        world = guarded(allow=False)
        call(world, met(world))
        guess = (
            f'Digest username="acme", realm="t1", nonce="{NONCE}", uri="sip:{NUMBER}@{RELAY}", '
            f'response="{"0" * 64}", algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"'
        )
        for number in range(100):
            said = inject(world, forged(number, "INVITE", Proxy_Authorization=guess), PBX)
            assert b"SIP/2.0 407" in said and b"stale=true" in said
            world.run(0.2)
        assert world.calls.guard.counters["banned"] == 0
        assert world.relay.counters["digest_stale"] == 100
        world.pbx.bye()
        world.run_until(lambda: world.calls.idle)
        call(world, met(world))

    def test_a_nonce_of_nobody_does_not_tell_whether_the_password_is_right(self) -> None:
        """Else passwords could be tried for ever without an offence."""
        said = []
        for password in ("open sesame", "wrong"):
            world = guarded(allow=False)
            request = met(world, password=password)
            value = request.headers.get("Proxy-Authorization") or ""
            nonce = value.partition('nonce="')[2].partition('"')[0]
            request.headers.set("Proxy-Authorization", value.replace(nonce, NONCE))
            request.headers.prepend("Via", f"SIP/2.0/UDP {PBX}:5060;branch=z9hG4bKn")
            said.append(b"stale=true" in inject(world, request, PBX))
        assert said == [True, True]


class TestFloods:
    def test_of_requests_in_no_dialog_costs_no_state(self) -> None:
        world = World()
        for number in range(500):
            for method in ("BYE", "INFO", "INVITE", "UPDATE"):
                assert b"SIP/2.0 481" in inject(world, forged(number, method, tag="b"), PBX)
        assert len(world.relay._layer) == 0
        assert world.calls.counters["refused_481"] == 2000

    def test_of_cancels_of_nothing_costs_no_state(self) -> None:
        world = World()
        for number in range(500):
            assert b"SIP/2.0 481" in inject(world, forged(number, "CANCEL"), PBX)
        assert len(world.relay._layer) == 0
        assert world.calls.counters["refused_481"] == 500

    def test_of_requests_in_a_call_is_refused_when_there_is_no_room(self) -> None:
        world = World()
        answered(world)
        room = world.relay._layer._live.room
        room.most = 40
        for _ in range(50):
            world.pbx.in_dialog("OPTIONS")
        world.run(0.5)
        assert room.taken == 30  # its share: the carrier is served all the same
        assert set(world.pbx.statuses("OPTIONS")) == {200, 503}
        world.carrier.in_dialog("OPTIONS")
        world.run(0.5)
        assert world.carrier.statuses("OPTIONS") == [200]
        world.pbx.bye()
        world.run_until(lambda: world.pbx.statuses("BYE") == [200])
        assert_clean(world)

    def test_of_long_requests_is_refused_by_their_length(self) -> None:
        world = World()
        room = world.relay._layer._live.room
        room.most_octets = 1 << 20
        said = [
            inject(world, forged(number, "OPTIONS", Subject="x" * 50_000), PBX)
            for number in range(40)
        ]
        assert 10 < sum(b"SIP/2.0 200" in each for each in said) < 20
        assert b"SIP/2.0 503" in said[-1]
        assert b"SIP/2.0 200" in inject(world, forged(99, "OPTIONS", CARRIER), CARRIER)
        assert_clean(world)
        assert (room.taken, room._octets, len(room._of), len(room._octets_of)) == (0, 0, 0, 0)

    def test_of_late_answers_holds_few(self) -> None:
        world = World()
        for number in range(2000):
            inject(world, late_answer(number, CARRIER), CARRIER)
        assert world.calls.counters["late_answers"] == 100
        assert world.calls.guard.counters["late_answers_dropped"] == 1900
        assert len(world.relay._layer) == 100
        assert_clean(world)

    def test_of_infos_that_nobody_answers_does_not_go_on(self) -> None:
        world = World()
        answered(world)
        world.carrier.on_request = lambda tx, request: None
        for _ in range(200):
            world.pbx.in_dialog("INFO", b"x")
        world.run(0.2)
        assert len(world.carrier.got("INFO")) == MOST_INFOS
        assert world.pbx.statuses("INFO") == [503] * (200 - MOST_INFOS)
        assert world.calls.counters["infos_refused"] == 200 - MOST_INFOS
        world.run(40)
        world.carrier.on_request = world.carrier.answer_all
        world.pbx.in_dialog("INFO", b"x")
        world.run(1)
        assert world.pbx.statuses("INFO")[-1] == 200
        world.pbx.bye()
        assert_clean(world)

    def test_of_transfers_that_fail_holds_one(self) -> None:
        transferred = Transferred()
        target, world = transferred.target, transferred.world
        target.on_request = lambda tx, request: target.reply(tx, request, 486)
        for _ in range(40):
            transferred.refer()
            world.run(3)
        assert len(transferred.call.transfers) == 1
        assert len(transferred.told()) == 80 and len(world.calls._legs) == 2
        events = {notify.headers.get("Event") for notify in transferred.transferor.got("NOTIFY")}
        assert len(events) == 40  # told apart although the others are forgotten
        target.on_request = target.answer_all
        transferred.refer()
        world.run(1)
        assert target.acks and TARGET in world.phones
        transferred.transferee.bye()
        assert_clean(world)


def test_a_refer_in_a_call_that_is_over_takes_no_place_of_its_target_s_trunk() -> None:
    """Our BYE to it is out, and it asks for a transfer instead of an answer."""
    transferred = Transferred()
    world, transferor = transferred.world, transferred.transferor
    transferor.on_request = lambda tx, request: None
    transferred.transferee.bye()
    world.run_until(lambda: bool(transferor.got("BYE")))
    for _ in range(3):
        transferred.refer()
    world.run(1)
    assert transferor.statuses("REFER") == [481] * 3
    assert not transferred.target.requests
    assert_clean(world)


def test_a_call_that_its_answer_ends_is_not_recorded() -> None:
    """Its media are closed already: such a recording would never end."""
    world = World(recording="record-from-answer")
    body = sdp(CARRIER, 5000).replace(b"o=phone", b"b=phone")
    early: list[bytes] = []

    def answer(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.reply(tx, request, 200)
            return
        world.carrier.ring(tx, request, "b1", sdp(CARRIER, 5000))
        world.carrier.answer(tx, request, "b1", body)
        early.append(request.body)

    world.carrier.on_request = answer
    world.pbx.call()
    world.run_until(lambda: 502 in world.pbx.statuses())
    assert early
    assert_clean(world)
    assert not world.recorder.started and not world.media.calls[0].recording


class TestAnAddressThatWasLeft:
    """It answers after all, while the call is up with another one: it has no say in it."""

    def left(self) -> tuple[World, Phone]:
        world = World(pbx={"transfer": "enable-all"}, carrier={"transfer": "enable-all"})
        first, second = world.carrier_at(CARRIER, "192.0.2.4")
        world.router.trunks[second.host] = world.router.trunks[CARRIER]
        held: list[tuple[object, Request]] = []
        first.on_request = lambda tx, request: (
            held.append((tx, request)) if request.method == "INVITE" else None
        )
        world.drop = lambda source, to, data: data.startswith(b"SIP/2.0 100") and source == CARRIER
        world.pbx.call()
        world.run_until(lambda: bool(second.acks))
        world.run(1)
        first.answer(*held[0])
        world.run_until(lambda: bool(first.got("BYE")))
        return world, first

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "REFER"])
    def test_cannot_change_the_call(self, method: str) -> None:
        world, first = self.left()
        updates = sum(map(len, world.media.calls[0].updates.values()))
        assert first.dialog is not None
        request = first.dialog.request(method, contact=f"<sip:{first.host}:5060>")
        if method == "REFER":
            request.headers.add("Refer-To", f"<sip:{NUMBER}@{RELAY}>")
        else:
            request.headers.add("Content-Type", "application/sdp")
            request.body = sdp(CARRIER, 6000)
        first.send(request)
        world.run(1)
        assert first.statuses(method) == [481]
        assert sum(map(len, world.media.calls[0].updates.values())) == updates
        assert not world.pbx.requests
        world.pbx.bye()
        assert_clean(world)

    def test_cannot_end_the_call(self) -> None:
        world, first = self.left()
        first.bye()
        world.run(1)
        assert first.statuses("BYE") == [200]
        assert len(world.calls.active) == 1 and not world.pbx.got("BYE")
        world.pbx.bye()
        assert_clean(world)

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "REFER"])
    def test_is_told_so_when_the_call_is_long_gone(self, method: str) -> None:
        world, first = self.left()
        world.pbx.bye()
        world.run(1)
        assert not world.calls.active
        assert first.dialog is not None
        first.send(first.dialog.request(method, contact=f"<sip:{first.host}:5060>"))
        world.run(1)
        assert first.statuses(method) == [481]
        assert_clean(world)


def test_an_offer_that_comes_when_the_call_is_gone_is_acknowledged() -> None:
    """The answer to a re-INVITE without an offer, after that to our BYE; CANCEL was lost."""
    world = World()
    world.drop = lambda source, to, data: data.startswith(b"CANCEL")
    answered(world)
    held: list[tuple[object, Request]] = []
    world.carrier.on_request = lambda tx, request: (
        held.append((tx, request))
        if request.method == "INVITE"
        else world.carrier.reply(tx, request, 200)
    )
    world.pbx.in_dialog("INVITE")
    world.run_until(lambda: bool(held))
    world.pbx.bye()
    world.run(1)
    assert not world.calls.active and not world.calls.dialogs
    acks = len(world.carrier.acks)
    world.carrier.reply(*held[0], 200, body=sdp(CARRIER, 6000))
    world.run(1)
    assert len(world.carrier.acks) == acks + 1
    assert_clean(world)


def test_a_late_answer_is_not_aimed_at_another_trunk() -> None:
    world = World()
    inject(world, late_answer(1, PBX), CARRIER)
    world.run(1)
    assert not [to for source, to, _ in world.wire if source == RELAY]
    assert len(world.relay._layer) == 0


def test_another_trunk_cannot_take_a_call_s_place_as_a_merged_request() -> None:
    """Many PBXs count their Call-IDs and tags: whoever sends the next one first would have the
    call refused with 482 (RFC 3261 section 8.2.2.2)."""
    world = World()
    first = forged(1, "INVITE", CARRIER, Call_ID=f"call-2@{PBX}")
    first.headers.set("From", f"<sip:+35315550100@{CARRIER}>;tag=a1")
    inject(world, first, CARRIER)
    invite = world.pbx.call()
    assert (invite.call_id, invite.from_.tag) == (first.call_id, "a1")
    world.run_until(lambda: 200 in world.pbx.statuses())
    world.pbx.bye()
    world.relay.stop(world.now)
    assert_clean(world, 200)
    assert not world.relay._layer._live.merged


def test_a_peer_that_always_wants_longer_refreshes_is_not_followed_for_ever() -> None:
    """RFC 4028 section 7.4: each 422 may be answered by the next."""
    world = World(carrier={"session_expires_s": 90})
    refreshes: list[Request] = []

    def answer(tx: object, request: Request) -> None:
        if request.method != "UPDATE":
            refreshes.clear()
            world.carrier.headers = {"Session-Expires": "90;refresher=uac", "Allow": "UPDATE"}
            world.carrier.answer_all(tx, request)
            return
        refreshes.append(request)
        response = request.response(422, None, "b1")
        response.headers.add("Min-SE", str(1000 + 100 * len(refreshes)))
        world.carrier.layer.respond(tx, response, world.now)

    world.carrier.on_request = answer
    answered(world)
    world.run_until(lambda: bool(refreshes))
    world.run(3)
    assert len(refreshes) == 1 + MOST_GROWN
    world.carrier.on_request = world.carrier.answer_all
    world.pbx.bye()
    assert_clean(world)
