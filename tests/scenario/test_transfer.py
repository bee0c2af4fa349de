"""Blind transfer in virtual time (RFC 3515, RFC 5589): both sides, every failure, every race."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from relay.call.ports import Side
from relay.call.refer import MOST_TRANSFERS
from relay.call.transfer import BYE_AFTER_S
from relay.call.transitions import State
from relay.sip.message import Request
from tests.scenario.world import RELAY, Phone, World, sdp

TARGET = "192.0.2.9"
NUMBER = "+35315550177"
TRYING, RINGING, OK = (f"SIP/2.0 {status}" for status in ("100 Trying", "180 Ringing", "200 OK"))
ACTIVE, OVER = "active;expires=180", "terminated;reason=noresource"


class Transferred:
    """An answered call, a phone that is to be reached, and a side that asks for it."""

    def __init__(
        self,
        by: str = "callee",
        mode: str = "enable-all",
        recording: str = "do-not-record",
        privacy: str = "none",
        **keys: object,
    ) -> None:
        keys = {"transfer": mode, **keys}
        self.world = world = World(pbx=keys, carrier=keys, recording=recording)
        world.pbx.call(Privacy=privacy)
        world.run_until(lambda: bool(world.carrier.acks))
        world.run(1.0)
        self.target = self.phone(TARGET)
        phones = (world.pbx, world.carrier)
        self.transferor, self.transferee = phones if by == "caller" else phones[::-1]
        self.side = Side.CALLER if by == "caller" else Side.CALLEE
        self.media = world.media.calls[0]

    def phone(self, host: str) -> Phone:
        """Every new call goes to this phone."""
        phone = self.world.phones[host] = Phone(self.world, host)
        self.world.router.targets = {key: [f"sip:{host}:5060"] for key in ("acme", "carrier")}
        return phone

    def refer(self, to: str = f"<sip:{NUMBER}@{RELAY}>", **headers: str) -> Request:
        phone = self.transferor
        assert phone.dialog is not None
        refer = phone.dialog.request("REFER", contact=f"<sip:{phone.host}:5060>")
        if to:
            refer.headers.add("Refer-To", to)
        for name, value in headers.items():
            refer.headers.add(name.replace("_", "-"), value)
        phone.send(refer)
        return refer

    def refused(self, *arguments: str, **headers: str) -> tuple[int, str]:
        """Status and Warning that a REFER gets; the call goes on."""
        before = len(self.transferor.statuses("REFER"))
        self.refer(*arguments, **headers)
        self.world.run_until(lambda: len(self.transferor.statuses("REFER")) > before)
        self.world.run(2.0)
        assert self.call.state is State.UP
        assert self.call.exchange is None
        assert not self.transferor.got("NOTIFY")
        response = self.transferor.responses[-1]
        return response.status, response.headers.get("Warning") or ""

    @property
    def call(self):  # type: ignore[no-untyped-def]
        (call,) = self.world.calls.active.values()
        return call

    def told(self) -> list[tuple[str, str]]:
        """What the NOTIFYs said: sipfrag and state of the subscription."""
        return [
            (notify.body.decode().strip(), notify.headers.get("Subscription-State") or "")
            for notify in self.transferor.got("NOTIFY")
        ]

    def until(self, done: Callable[[], bool], limit_s: float = 100.0) -> None:
        self.world.run_until(done, limit_s)

    def connected(self) -> None:
        """Target and transferee talk, and either may end it."""
        self.until(lambda: bool(self.target.acks))
        self.world.run(BYE_AFTER_S + 1)
        assert self.call.state is State.UP
        assert self.transferor.host not in {leg.peer for leg in self.call.legs}
        remote = self.media.updates[self.side][-1].remote
        assert remote is not None and remote.host == TARGET
        self.target.bye()
        self.all_over()
        assert len(self.transferee.got("BYE")) == 1

    def all_over(self) -> None:
        self.until(lambda: self.world.calls.idle)
        self.world.run(40)
        assert self.world.media.open_count == 0
        assert set(self.world.admission.live.values()) == {0}
        assert not self.world.bugs


SIDES = pytest.mark.parametrize("by", ["caller", "callee"])


def hangs_up(phone: Phone, when: str = OK) -> None:
    """The phone hangs up when a NOTIFY says so, as phones do."""

    def on_request(tx: object, request: Request) -> None:
        phone.answer_all(tx, request)
        if request.method == "NOTIFY" and request.body.decode().startswith(when):
            phone.bye()

    phone.on_request = on_request


def test_the_notifications_follow_the_target() -> None:
    """RFC 3515 section 2.4.5: 100 at once, 180 when it rings, the final status at the end."""
    rig = Transferred()
    hangs_up(rig.transferor)
    rig.refer()
    rig.until(lambda: len(rig.told()) == 3)
    assert rig.transferor.statuses("REFER") == [202]
    assert rig.told() == [(TRYING, ACTIVE), (RINGING, ACTIVE), (OK, OVER)]
    notify = rig.transferor.got("NOTIFY")[0]
    assert notify.headers.get("Event") == "refer"
    assert notify.content_type == "message/sipfrag"
    rig.world.run(10)
    assert rig.transferor.statuses("BYE") == [200]
    assert not rig.transferor.got("BYE")
    names = rig.world.journal.names()
    assert [n for n in names if "refer" in n or "transfer" in n] == [
        "call_referred",
        "call_transferred",
    ]
    rig.connected()


@SIDES
def test_a_transferor_that_does_not_hang_up_is_helped(by: str) -> None:
    rig = Transferred(by)
    rig.refer()
    rig.until(lambda: bool(rig.transferor.got("BYE")))
    assert rig.told()[-1] == (OK, OVER)
    rig.connected()


@SIDES
def test_the_target_hears_of_the_transferee(by: str) -> None:
    """Its number is the caller's, the transferor's stands in Referred-By (RFC 3892)."""
    rig = Transferred(by, trusted=True)
    referrer = f'"Desk" <sip:+35315550111@{rig.transferor.host}>;cid=1@x'
    rig.refer(Referred_By=referrer, X_Secret="1")
    rig.until(lambda: bool(rig.target.got("INVITE")))
    invite = rig.target.got("INVITE")[0]
    number = "+35315550199" if by == "caller" else "+35315550100"
    assert str(invite.from_).startswith(
        f'"Ann" <sip:{number}@{RELAY}' if by == "callee" else f"<sip:{number}@{RELAY}"
    )
    assert invite.uri == f"sip:{NUMBER}@{TARGET}:5060"
    assert invite.headers.get("Referred-By") == f'"Desk" <sip:+35315550111@{RELAY}:5060>'
    assert "X-Secret" not in invite.headers
    rig.connected()


def test_a_private_caller_stays_private_for_the_target() -> None:
    rig = Transferred(privacy="id")
    rig.refer()
    rig.until(lambda: bool(rig.target.got("INVITE")))
    assert "5550100" not in str(rig.target.got("INVITE")[0].headers.items())


@SIDES
def test_the_media_of_the_transferor_become_the_targets(by: str) -> None:
    """Same port of ours for the target, and the transferee hears of its codecs."""
    rig = Transferred(by)
    updates = rig.media.updates
    rig.target.on_request = lambda tx, request: (
        rig.target.answer(tx, request, body=sdp(TARGET, 6000, "8 101"))
        if request.method == "INVITE"
        else rig.target.reply(tx, request, 200)
    )
    rig.refer()
    rig.until(lambda: bool(rig.target.acks))
    offer = rig.target.got("INVITE")[0].body.decode()
    assert f"m=audio {rig.media.local(rig.side).port} RTP/AVP 0 8 101" in offer
    rig.until(lambda: rig.transferee.acks[-1:] != [] and bool(rig.transferee.got("INVITE")[-1:]))
    again = rig.transferee.got("INVITE")[-1].body.decode()
    assert f"m=audio {rig.media.local(rig.side.other).port} RTP/AVP 8 101" in again
    rig.world.run(1.0)
    last = updates[rig.side][-1]
    assert last.remote is not None and (last.remote.host, last.remote.port) == (TARGET, 6000)
    assert updates[rig.side.other][-1].may_send
    rig.connected()


@SIDES
def test_versions_of_our_descriptions_grow_by_one(by: str) -> None:
    """RFC 3264 section 8, on the transferee's leg; the target's leg begins its own."""
    rig = Transferred(by)
    rig.refer()
    rig.until(lambda: bool(rig.target.acks))
    rig.world.run(2.0)
    origins = [
        line.split()[1:3]
        for source, to, data in rig.world.wire
        if source == RELAY and to == rig.transferee.host
        for line in data.decode().splitlines()
        if line.startswith("o=")
    ]
    seen = list(dict.fromkeys((number, int(version)) for number, version in origins))
    assert [version for _, version in seen] == list(range(len(seen)))
    assert b"o=- 0 0 IN IP4" in rig.target.got("INVITE")[0].body
    rig.connected()


def hold(rig: Transferred) -> None:
    rig.transferor.in_dialog("INVITE", sdp(rig.transferor.host, 4000, extra="a=sendonly"))
    rig.until(lambda: rig.transferor.statuses()[-1:] == [200])
    rig.world.run(1.0)


@SIDES
def test_a_transferee_on_hold_is_resumed(by: str) -> None:
    """PBXs hold before they transfer: the target must not be offered the hold."""
    rig = Transferred(by)
    answer = rig.transferee.answer_all

    def as_offered(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            way = "a=recvonly" if b"a=sendonly" in request.body else ""
            rig.transferee.answer(tx, request, body=sdp(rig.transferee.host, 5000, extra=way))
        else:
            answer(tx, request)

    rig.transferee.on_request = as_offered
    hold(rig)
    assert not rig.media.updates[rig.side.other][-1].may_send
    rig.refer()
    rig.until(lambda: bool(rig.target.acks))
    assert not any(
        way in rig.target.got("INVITE")[0].body for way in (b"recvonly", b"sendonly", b"inactive")
    )
    rig.world.run(1.0)
    assert b"a=sendonly" not in rig.transferee.got("INVITE")[-1].body
    for side in Side:
        assert rig.media.updates[side][-1].may_send
        assert rig.media.updates[side][-1].may_receive
    rig.connected()


@SIDES
@pytest.mark.parametrize("status", [404, 486, 503, 603])
def test_a_target_that_fails_leaves_the_call_as_it_was(by: str, status: int) -> None:
    rig = Transferred(by)
    before = {side: list(rig.media.updates[side]) for side in Side}
    rig.target.on_request = lambda tx, request: rig.target.reply(tx, request, status)
    rig.refer()
    rig.until(lambda: len(rig.told()) == 2)
    last, state = rig.told()[-1]
    assert last.startswith(f"SIP/2.0 {status} ")
    assert state == OVER
    rig.world.run(10)
    assert rig.call.state is State.UP
    assert rig.media.updates == before
    assert rig.world.journal.last("transfer_failed")["status"] == status
    rig.transferor.in_dialog("INVITE", sdp(rig.transferor.host, 4010))
    rig.until(lambda: rig.transferor.statuses()[-1:] == [200])
    rig.transferee.bye()
    rig.all_over()
    assert len(rig.transferor.got("BYE")) == 1


@SIDES
def test_a_target_that_never_answers_is_given_up(by: str) -> None:
    rig = Transferred(by)
    rig.target.on_request = rig.target.ring
    rig.refer()
    rig.until(lambda: len(rig.told()) == 3, 200)
    assert rig.told()[-1] == ("SIP/2.0 408 Request Timeout", OVER)
    rig.until(lambda: bool(rig.target.cancelled))
    assert rig.call.state is State.UP
    rig.transferor.bye()
    rig.all_over()


def test_a_target_at_a_second_address_is_reached() -> None:
    rig = Transferred(try_next_after_s=1.0)
    rig.world.router.targets = {
        key: ["sip:192.0.2.66:5060", f"sip:{TARGET}:5060"] for key in ("acme", "carrier")
    }
    rig.refer()
    rig.connected()


class TestHangUps:
    """Somebody leaves while the transfer is under way."""

    @SIDES
    def test_the_transferor_right_after_202(self, by: str) -> None:
        """Many do: the transfer goes on without it, and without NOTIFY."""
        rig = Transferred(by)
        waiting: list[tuple[object, Request]] = []

        def ring(tx: object, request: Request) -> None:
            waiting.append((tx, request))
            rig.target.ring(tx, request)

        rig.target.on_request = ring
        rig.refer()
        rig.transferor.bye()
        rig.until(lambda: bool(waiting))
        rig.world.run(2.0)
        assert rig.call.state is State.HANDED_OVER
        assert not rig.transferee.got("BYE")
        rig.target.on_request = rig.target.answer_all
        rig.target.answer(*waiting[0])
        rig.connected()

    @SIDES
    def test_the_transferor_left_and_the_target_is_busy(self, by: str) -> None:
        rig = Transferred(by)
        rig.target.on_request = lambda tx, request: rig.target.reply(tx, request, 486)
        rig.refer()
        rig.transferor.bye()
        rig.until(lambda: bool(rig.transferee.got("BYE")))
        reason = rig.transferee.got("BYE")[0].headers.get("Reason")
        assert reason == 'SIP;cause=486;text="Busy Here"'
        rig.all_over()
        cause = rig.world.journal.last("call_ended")["cause"]
        assert cause == "transfer failed: 486 Busy Here"

    @SIDES
    def test_the_transferee_while_the_target_rings(self, by: str) -> None:
        rig = Transferred(by)
        rig.target.on_request = rig.target.ring
        rig.refer()
        rig.until(lambda: len(rig.told()) == 2)
        rig.transferee.bye()
        rig.until(lambda: bool(rig.target.cancelled) and bool(rig.transferor.got("BYE")))
        assert rig.told()[-1] == ("SIP/2.0 487 Request Terminated", OVER)
        rig.all_over()

    @SIDES
    def test_both_before_the_target_answers(self, by: str) -> None:
        rig = Transferred(by)
        rig.target.on_request = rig.target.ring
        rig.refer()
        rig.until(lambda: len(rig.told()) == 2)
        rig.transferor.bye()
        rig.transferee.bye()
        rig.until(lambda: bool(rig.target.cancelled))
        rig.all_over()

    @SIDES
    def test_the_transferees_bye_crosses_the_targets_answer(self, by: str) -> None:
        """The late 2xx is acknowledged and ended."""
        rig = Transferred(by)

        def answer(tx: object, request: Request) -> None:
            if request.method == "INVITE":
                rig.target.answer(tx, request)
                rig.transferee.bye()
            else:
                rig.target.reply(tx, request, 200)

        rig.target.on_request = answer
        rig.refer()
        rig.until(lambda: bool(rig.target.got("BYE")))
        assert rig.target.acks
        rig.all_over()
        assert rig.transferor.got("BYE")

    @SIDES
    def test_the_target_at_once(self, by: str) -> None:
        """It hangs up before the transferor has: everybody is let go."""
        rig = Transferred(by)
        rig.refer()
        rig.until(lambda: bool(rig.target.acks))
        rig.target.bye()
        rig.all_over()
        assert rig.transferee.got("BYE")
        assert rig.transferor.got("BYE")

    @SIDES
    def test_the_relay_stops(self, by: str) -> None:
        rig = Transferred(by)
        rig.target.on_request = rig.target.ring
        rig.refer()
        rig.until(lambda: len(rig.told()) == 2)
        rig.world.relay.stop(rig.world.now)
        rig.until(lambda: bool(rig.target.cancelled))
        rig.all_over()
        assert rig.transferee.got("BYE")
        assert rig.transferor.got("BYE")


class TestRefusals:
    """A REFER that may not be served gets the right code and a text; the call is unharmed."""

    def test_transfers_are_off_by_default(self) -> None:
        status, warning = Transferred(mode="disable-all").refused()
        assert (status, "disabled on this trunk" in warning) == (403, True)

    def test_sip_only_keeps_numbers_out(self) -> None:
        rig = Transferred(mode="sip-only")
        for to in (f"<sip:{NUMBER}@{RELAY}>", f"<tel:{NUMBER}>", "<tel:112>"):
            status, warning = rig.refused(to)
            assert (status, "not to numbers" in warning) == (403, True)

    @pytest.mark.parametrize(
        ("to", "status", "text"),
        [
            ("", 400, "one Refer-To"),
            ("nonsense", 400, "cannot be read"),
            (f"<sip:{NUMBER}@{RELAY}>, <sip:2@x>", 400, "cannot be read"),
            (f"<sip:{NUMBER}@{RELAY}?Replaces=1%3Bto-tag%3D2>", 501, "attended transfer"),
            (f"<sip:{NUMBER}@{RELAY};method=BYE>", 501, "an INVITE only"),
            (f"<sip:{RELAY}>", 404, "no number"),
            (f"<sip:service@{RELAY}>", 404, "no route"),
            ("<sip:service@203.0.113.9>", 403, "not reached from here"),
            (f"<sip:%0D%0AX%3A@{RELAY}>", 404, "no route"),
            (f"<sip:+999123456@{RELAY}>", 400, "country code"),
            ("<mailto:ann@acme.example>", 416, "sip:, sips: or tel:"),
            (f"<sips:{NUMBER}@{RELAY}>", 480, "not reached over TLS"),
        ],
    )
    def test_where_to(self, to: str, status: int, text: str) -> None:
        rig = Transferred()
        found, warning = rig.refused(to)
        assert (found, text in warning) == (status, True), warning
        assert not rig.target.requests
        assert NUMBER not in warning
        assert rig.world.calls.counters["transfers_refused"] == 1

    def test_a_host_that_is_not_ours_is_our_number_all_the_same(self) -> None:
        rig = Transferred()
        rig.refer(f"<sip:{NUMBER}@203.0.113.9;transport=tls>")
        rig.connected()
        assert all(b"203.0.113.9" not in data for s, _, data in rig.world.wire if s == RELAY)

    def test_a_tel_uri(self) -> None:
        rig = Transferred()
        rig.refer("<tel:+353-1-555-0177>")
        rig.until(lambda: bool(rig.target.got("INVITE")))
        rig.connected()

    def test_an_extension_that_is_not_known(self) -> None:
        status, _ = Transferred().refused(Require="replaces")
        assert status == 420

    def test_a_second_while_the_first_is_pending(self) -> None:
        rig = Transferred()
        rig.target.on_request = rig.target.ring
        rig.refer()
        rig.until(lambda: len(rig.told()) == 2)
        rig.refer()
        rig.until(lambda: len(rig.transferor.statuses("REFER")) == 2)
        assert rig.transferor.statuses("REFER") == [202, 491]
        assert len(rig.target.got("INVITE")) == 1

    def test_an_offer_while_it_is_pending(self) -> None:
        rig = Transferred()
        rig.target.on_request = rig.target.ring
        rig.refer()
        rig.until(lambda: len(rig.told()) == 2)
        rig.transferee.in_dialog("INVITE", sdp(rig.transferee.host, 4010))
        rig.until(lambda: 491 in rig.transferee.statuses())

    def test_before_the_answer(self) -> None:
        world = World(pbx={"transfer": "enable-all"}, carrier={"transfer": "enable-all"})
        world.carrier.on_request = world.carrier.ring
        world.pbx.call()
        world.run_until(lambda: 180 in world.pbx.statuses())
        ringing = world.pbx.responses[-1]
        refer = Request("REFER", world.pbx.invite.uri, world.pbx.invite.headers.copy())
        refer.headers.remove("Via")
        refer.headers.set("To", str(ringing.to))
        refer.headers.set("CSeq", "2 REFER")
        refer.headers.set("Refer-To", f"<sip:{NUMBER}@{RELAY}>")
        world.pbx.send(refer)
        world.run_until(lambda: bool(world.pbx.statuses("REFER")))
        assert world.pbx.statuses("REFER") == [481]

    def test_outside_a_call(self) -> None:
        rig = Transferred()
        refer = rig.refer()
        rig.until(lambda: bool(rig.transferor.statuses("REFER")))
        refer.headers.remove("Via")
        refer.headers.set("To", f"<sip:{RELAY}>")
        refer.headers.set("Call-ID", "other")
        rig.transferor.send(refer)
        rig.until(lambda: 403 in rig.transferor.statuses("REFER"))

    def test_a_notify_that_nobody_asked_for(self) -> None:
        rig = Transferred()
        rig.transferor.in_dialog("NOTIFY", b"x")
        rig.until(lambda: rig.transferor.statuses("NOTIFY") == [481])

    @SIDES
    def test_calls_do_not_go_round_for_ever(self, by: str) -> None:
        rig = Transferred(by)
        for number in range(MOST_TRANSFERS):
            rig.refer()
            rig.until(lambda: bool(rig.target.acks))
            rig.world.run(BYE_AFTER_S + 1)
            rig.transferor, rig.target = rig.target, rig.phone(f"192.0.2.{100 + number}")
        status, warning = rig.refused()
        assert (status, "5 times" in warning) == (403, True)
        rig.transferor.bye()
        rig.all_over()


def test_a_transferor_that_does_not_want_to_hear() -> None:
    """RFC 4488."""
    rig = Transferred()
    rig.refer(Refer_Sub="false", Require="norefersub")
    rig.until(lambda: bool(rig.target.acks))
    assert rig.transferor.responses[-1].headers.get("Refer-Sub") == "false"
    rig.connected()
    assert not rig.told()


def test_a_second_refer_of_a_dialog_is_told_apart() -> None:
    """RFC 3515 section 2.4.6."""
    rig = Transferred()
    rig.target.on_request = lambda tx, request: rig.target.reply(tx, request, 486)
    rig.refer()
    rig.until(lambda: len(rig.told()) == 2)
    refer = rig.refer()
    rig.until(lambda: len(rig.told()) == 4)
    events = [notify.headers.get("Event") for notify in rig.transferor.got("NOTIFY")]
    assert events[:2] == ["refer", "refer"]
    assert events[2:] == [f"refer;id={refer.cseq.number}"] * 2


def test_a_transferor_that_knows_no_subscription_hears_no_more() -> None:
    rig = Transferred()
    rig.target.on_request = rig.target.ring

    def on_request(tx: object, request: Request) -> None:
        rig.transferor.reply(tx, request, 481 if request.method == "NOTIFY" else 200)

    rig.transferor.on_request = on_request
    rig.refer()
    rig.until(lambda: bool(rig.target.got("INVITE")))
    rig.world.run(5)
    assert rig.told() == [(TRYING, ACTIVE)]


@SIDES
@pytest.mark.parametrize(
    "body", [b"", b"v=1", b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nt=0 0\r\n"]
)
def test_a_target_whose_answer_is_of_no_use(by: str, body: bytes) -> None:
    """It is acknowledged and ended, the call stays."""
    rig = Transferred(by)
    rig.target.on_request = lambda tx, request: (
        rig.target.answer(tx, request, body=body)
        if request.method == "INVITE"
        else rig.target.reply(tx, request, 200)
    )
    before = {side: list(rig.media.updates[side]) for side in Side}
    rig.refer()
    rig.until(lambda: bool(rig.target.got("BYE")))
    rig.world.run(1)
    assert rig.told()[-1][0].startswith("SIP/2.0 488 ")
    assert rig.media.updates == before
    assert rig.call.state is State.UP
    rig.transferor.bye()
    rig.all_over()


@SIDES
def test_a_transferee_that_has_an_offer_of_its_own_is_asked_again(by: str) -> None:
    """Its 491 to our re-INVITE: once more after a while (RFC 3261 section 14.1)."""
    rig = Transferred(by)
    refused: list[Request] = []

    def glare(tx: object, request: Request) -> None:
        if request.method == "INVITE" and not refused:
            refused.append(request)
            rig.transferee.reply(tx, request, 491)
        else:
            rig.transferee.answer_all(tx, request)

    rig.transferee.on_request = glare
    rig.target.on_request = lambda tx, request: (
        rig.target.answer(tx, request, body=sdp(TARGET, 6000, "8 101"))
        if request.method == "INVITE"
        else rig.target.reply(tx, request, 200)
    )
    rig.refer()
    rig.until(lambda: bool(refused) and rig.transferee.got("INVITE")[-1] is not refused[0])
    first, second = rig.transferee.got("INVITE")[-2:]
    assert first.body == second.body
    rig.connected()


@SIDES
def test_a_transferee_that_refuses_its_new_party_ends_the_call(by: str) -> None:
    rig = Transferred(by)
    rig.transferee.on_request = lambda tx, request: rig.transferee.reply(
        tx, request, 488 if request.method == "INVITE" else 200
    )
    rig.target.on_request = lambda tx, request: (
        rig.target.answer(tx, request, body=sdp(TARGET, 6000, "8 101"))
        if request.method == "INVITE"
        else rig.target.reply(tx, request, 200)
    )
    rig.refer()
    rig.until(lambda: bool(rig.target.got("BYE")) and bool(rig.transferee.got("BYE")))
    assert "refused" in (rig.target.got("BYE")[0].headers.get("Reason") or "")
    rig.all_over()


def test_a_recording_goes_on_over_the_transfer() -> None:
    rig = Transferred(recording="record-from-answer-dual")
    rig.refer()
    rig.connected()
    recorder = rig.world.recorder
    assert (len(recorder.started), len(recorder.stopped)) == (1, 1)


@pytest.mark.parametrize("seed", range(12))
def test_under_loss_every_transfer_comes_to_an_end(seed: int) -> None:
    """Every sixth packet lost from the REFER on: connected or not, nothing is left over."""
    rig = Transferred()
    world = rig.world
    world._loss, world._random = 0.17, Random(seed)
    rig.refer()
    world.run(20)
    rig.transferee.bye()
    world.run(200)
    for phone in (rig.transferor, rig.target):  # a lost BYE may have left these two talking
        if not world.calls.idle and phone.dialog is not None:
            phone.bye()
            world.run(100)
    assert world.calls.idle
    assert set(world.admission.live.values()) == {0}
    assert not world.bugs
