"""Peers that lie, break the rules or leave: nothing of a call stays behind (RFC 3261)."""

from __future__ import annotations

import pytest

from relay.call.user_agent import is_numeric
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.scenario.world import CARRIER, PBX, RELAY, World, sdp

OTHER = "192.0.2.9"


def answered(world: World) -> None:
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.run(1.0)


def inject(world: World, message: Request | Response, source: str) -> bytes:
    """A message from any address; returns what the relay says at once."""
    already = len(world.wire)
    world.relay.receive(parse(message.encode()), Hop("udp", source, 5060), world.now)
    world.settle()
    return b"".join(data for _, _, data in world.wire[already:])


def request_of(world: World, method: str, side: str = "pbx", branch: str = "z9hG4bKx") -> Request:
    """A request inside the dialog of a phone, ready to be changed and injected."""
    phone = getattr(world, side)
    request = phone.dialog.request(method, contact=f"<sip:{phone.host}:5060>")
    request.headers.prepend("Via", f"SIP/2.0/UDP {phone.host}:5060;branch={branch}")
    return request


def assert_clean(world: World, wait_s: float = 120.0) -> None:
    world.run(wait_s)
    assert not world.bugs
    assert world.calls.idle
    assert world.media.open_count == 0
    assert set(world.admission.live.values()) <= {0}
    assert len(world.relay._layer) == 0


@pytest.mark.parametrize(
    "headers",
    [{"Contact": "<tel:+35315550100>"}, {"Record_Route": "<tel:+35315550100>"}],
)
def test_an_invite_whose_dialog_would_lead_nowhere_is_refused(headers: dict[str, str]) -> None:
    """RFC 3261 section 8.1.1.8: later requests of ours go to the Contact or the first route."""
    world = World()
    if "Contact" in headers:
        world.pbx.layer.request = _with_contact(world, headers.pop("Contact"))  # type: ignore[method-assign]
    world.pbx.call(**headers)
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [400]
    assert_clean(world)


def _with_contact(world: World, contact: str):
    send = world.pbx.layer.request

    def request(message: Request, *rest):
        message.headers.set("Contact", contact)
        return send(message, *rest)

    return request


@pytest.mark.parametrize("side", ["pbx", "carrier"])
def test_a_reinvite_cannot_turn_the_target_into_no_sip_address(side: str) -> None:
    """The Contact of a re-INVITE, or of its 2xx, becomes the remote target (section 12.2)."""
    world = World()
    answered(world)
    if side == "pbx":
        reinvite = request_of(world, "INVITE")
        reinvite.headers.set("Contact", "<tel:+35315550100>")
        reinvite.headers.add("Content-Type", "application/sdp")
        reinvite.body = sdp(PBX, 4000, extra="a=sendonly")
        inject(world, reinvite, PBX)
    else:
        world.carrier.on_request = lambda tx, request: _reply_tel(world, tx, request)
        world.pbx.in_dialog("INVITE", sdp(PBX, 4000, extra="a=sendonly"))
    world.run(5)
    world.carrier.on_request = world.carrier.answer_all
    other = world.carrier if side == "pbx" else world.pbx
    other.bye()
    assert_clean(world)


def _reply_tel(world: World, tx: object, request: Request) -> None:
    response = request.response(200, to_tag="b1")
    response.headers.add("Contact", "<tel:+35315550199>")
    response.headers.add("Content-Type", "application/sdp")
    response.body = sdp(CARRIER, 5000)
    world.carrier.layer.respond(tx, response, world.now)


@pytest.mark.parametrize("body", [b"", sdp(PBX, 4000, extra="a=sendonly")])
def test_a_bye_while_the_other_side_never_acknowledges_its_reinvite(body: bytes) -> None:
    """The BYE to it waits for the ACK (section 15), but not for ever."""
    world = World()
    answered(world)
    world.pbx.acknowledge = False
    world.pbx.in_dialog("INVITE", body)
    world.run_until(lambda: world.pbx.statuses().count(200) >= 2)
    world.carrier.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")), 40)
    assert_clean(world)


@pytest.mark.parametrize("user", ["+3531%0d%0aX:y", "+3531%20", "+3531%40h", "+3531%00", "+%22"])
def test_an_escaped_number_does_not_break_out_of_our_request_line(user: str) -> None:
    world = World()
    world.pbx.call(number=user)
    world.run(1)
    assert all(status >= 400 for status in world.pbx.statuses()) or not world.bugs
    for source, to, data in world.wire:
        if source == RELAY and to == CARRIER:
            line = data.split(b"\r\n")[0].split(b" ")
            assert len(line) == 3 and line[1].count(b"@") <= 1
    world.pbx.cancel()
    assert_clean(world, 300)


class TestTags:
    def test_a_bye_with_another_from_tag_is_not_of_this_call(self) -> None:
        """RFC 3261 section 12.2.2: both tags make the dialog."""
        world = World()
        answered(world)
        bye = request_of(world, "BYE")
        bye.headers.set("From", f"<sip:+35315550100@{PBX}>;tag=guessed")
        assert b"SIP/2.0 481" in inject(world, bye, PBX)
        assert len(world.calls.active) == 1

    def test_the_loser_of_a_fork_cannot_end_the_call(self) -> None:
        """Both branches know the same tag of ours; only the answered one is the call."""
        world = World()

        def two(tx: object, request: Request) -> None:
            if request.method != "INVITE":
                world.carrier.reply(tx, request, 200, request.to.tag or "")
                return
            world.carrier.answer(tx, request, "b1")
            world.carrier.answer(tx, request, "b2")

        world.carrier.on_request = two
        answered(world)
        bye = request_of(world, "BYE", "carrier")
        bye.headers.set("From", (bye.headers.get("From") or "").replace("tag=b1", "tag=b2"))
        assert b"SIP/2.0 481" in inject(world, bye, CARRIER)
        assert len(world.calls.active) == 1

    def test_an_ack_with_another_from_tag_acknowledges_nothing(self) -> None:
        world = World()
        world.pbx.acknowledge = False
        world.pbx.call()
        world.run_until(lambda: 200 in world.pbx.statuses())
        ack = request_of(world, "ACK")
        ack.headers.set("CSeq", "1 ACK")
        ack.headers.set("From", f"<sip:+35315550100@{PBX}>;tag=guessed")
        inject(world, ack, PBX)
        world.run(1)
        assert world.pbx.statuses().count(200) > 1


class TestFloods:
    def test_of_early_dialogs_holds_few(self) -> None:
        world = World()
        pending: list[tuple[object, Request]] = []
        world.carrier.on_request = lambda tx, request: pending.append((tx, request))
        world.pbx.call()
        world.run_until(lambda: bool(pending))
        for number in range(2000):
            world.carrier.ring(*pending[0], tag=f"t{number}")
        world.run(1)
        assert len(world.calls._legs) < 50
        assert len(world.pbx.responses) < 50
        world.carrier.answer(*pending[0], tag="a-new-one")
        world.run_until(lambda: 200 in world.pbx.statuses())
        world.pbx.bye()
        world.carrier.on_request = world.carrier.answer_all
        assert_clean(world)

    def test_of_answers_holds_few(self) -> None:
        """Each further 2xx of a fork gets ACK and BYE; a flood of them does not."""
        world = World()
        pending: list[tuple[object, Request]] = []
        world.carrier.on_request = lambda tx, request: pending.append((tx, request))
        world.pbx.call()
        world.run_until(lambda: bool(pending))
        for number in range(2000):
            world.carrier.reply(*pending[0], 200, f"t{number}", sdp(CARRIER, 5000))
        world.run(0.2)
        assert len(world.relay._layer) < 50
        world.pbx.bye()
        assert_clean(world)

    def test_of_requests_is_refused_without_state_and_calls_still_end(self) -> None:
        """Each transaction lives for 32 s after its answer."""
        world = World()
        answered(world)
        room = world.relay._layer._live.room
        room.most = room.taken + 10
        for _ in range(50):
            world.pbx.call()
        world.run(0.1)
        assert room.taken <= room.most
        refused = [r for r in world.pbx.responses if r.status == 503]
        assert refused and refused[0].headers.get("Retry-After")
        world.pbx.bye()
        world.run_until(lambda: world.pbx.statuses("BYE") == [200])
        world.relay.stop(world.now)
        assert_clean(world)


def test_another_trunk_cannot_cancel_a_call() -> None:
    """A branch can be guessed (many stacks count): the address must fit, too."""
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.ring(tx, request)
    world.pbx.call()
    world.run_until(lambda: 180 in world.pbx.statuses())
    data = next(data for source, _, data in world.wire if source == PBX)
    invite = parse(data)
    assert isinstance(invite, Request)
    fields = [(n, v) for n, v in invite.headers.items() if n not in ("Contact", "Content-Type")]
    cancel = Request("CANCEL", invite.uri, type(invite.headers)(fields))
    cancel.headers.set("CSeq", "1 CANCEL")
    assert b"SIP/2.0 481" in inject(world, cancel, CARRIER)
    world.run(1)
    assert len(world.calls.active) == 1


def test_a_bug_in_one_call_answers_500_and_holds_nothing() -> None:
    world = World()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    world.router.route = broken  # type: ignore[method-assign]
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [500]
    world.run(60)
    assert len(world.bugs) == 1 and len(world.relay._layer) == 0


def test_a_bug_in_one_alarm_does_not_stop_the_others() -> None:
    world = World()
    woken: list[float] = []

    class Broken:
        def on_timer(self, now: float) -> None:
            raise ZeroDivisionError

    class Sound:
        def on_timer(self, now: float) -> None:
            woken.append(now)

    world.calls.alarms.set(Broken(), world.now + 1)
    world.calls.alarms.set(Sound(), world.now + 1)
    world.relay.on_timer(world.now + 1)
    assert len(woken) == len(world.bugs) == 1


def test_a_reason_phrase_of_a_peer_stays_out_of_the_log() -> None:
    """It may hold anything: a number, a name, a body."""
    world = World()

    def refuse(tx: object, request: Request) -> None:
        response = request.response(486, "Ann Murphy is at the dentist", "b1")
        world.carrier.layer.respond(tx, response, world.now)

    world.carrier.on_request = refuse
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.responses[-1].reason == "Ann Murphy is at the dentist"
    assert "Ann" not in repr(world.journal.events)
    assert world.journal.last("call_ended")["cause"] == "486 Busy Here"


@pytest.mark.parametrize(
    ("uri", "body"),
    [
        (None, sdp(PBX, 4000).replace(b"RTP/AVP", b"Ann/Murphy")),
        (None, sdp(PBX, 4000, "96").replace(b"a=ptime", b"a=rtpmap:96 AnnMurphy/8000\r\na=ptime")),
        ("annmurphy:dentist", None),
    ],
)
def test_words_of_a_peer_stay_out_of_the_log(uri: str | None, body: bytes | None) -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: (
        world.carrier.answer(tx, request, body=request.body.replace(RELAY.encode(), b"192.0.2.3"))
        if request.method == "INVITE"
        else world.carrier.reply(tx, request, 200)
    )
    if uri is not None:
        world.pbx.call()
        invite = world.pbx.invite
        again = Request("INVITE", uri, invite.headers.copy(), invite.body)
        again.headers.set("Via", f"SIP/2.0/UDP {PBX};branch=z9hG4bKother")
        again.headers.set("Call-ID", "other")
        inject(world, again, PBX)
    else:
        world.pbx.call(body=body)
    world.run(2)
    assert "murphy" not in repr(world.journal.events).lower()


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
def test_what_can_never_be_sent_fails_at_once(method: str) -> None:
    """Too long for a datagram, or to what is no address: no 32 s of trying."""
    world = World()
    if method == "BYE":
        answered(world)
    world.unsendable = lambda data: data.startswith(method.encode())
    if method == "INVITE":
        world.pbx.call()
        world.run_until(lambda: 503 in world.pbx.statuses(), 1.0)
    else:
        world.carrier.bye()
        world.run_until(lambda: world.calls.idle, 1.0)
    assert_clean(world)


@pytest.mark.parametrize("host", ["999.999.1.1", "1.2.3", "12", "[:::::]"])
def test_what_only_looks_like_an_address_is_looked_up_as_a_name(host: str) -> None:
    assert not is_numeric(host.strip("[]"))


@pytest.mark.parametrize("source", [OTHER, CARRIER])
@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO", "ACK"])
def test_the_right_tags_from_a_wrong_address_change_nothing(method: str, source: str) -> None:
    """A stranger's, or another trunk's; no transaction is kept for the stranger."""
    world = World()
    answered(world)
    before = len(world.relay._layer), list(world.wire)
    request = request_of(world, method)
    said = inject(world, request, source)
    assert (b"SIP/2.0 403" in said) is (method != "ACK")
    if source == OTHER:
        assert len(world.relay._layer) == before[0]
    world.run(1)
    assert not world.carrier.got("BYE") and len(world.calls.active) == 1
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.pbx.statuses("BYE")[-1] == 200  # its CSeq was not used up
