"""A request inside a call, passed from one leg to the other and back.

re-INVITE and UPDATE with an offer, INFO with whatever it carries. One offer at a time: the
next is glare (RFC 3261 section 14.2, RFC 3311 section 5.2). What only refreshes a session
is answered here: each leg has a session timer of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.events import Lost
from relay.call.hiding import header, without_addresses
from relay.call.invite import IncomingInvite, OutgoingInvite
from relay.call.ports import Side
from relay.call.refusal import refusal, refuse
from relay.call.session_timer import GONE, Refresh, lost_text
from relay.errors import IntervalTooSmall, NotAcceptable, RelayError
from relay.sip.dtmf_info import pressed
from relay.sip.message import Message, Request, Response
from relay.sip.transaction import Transaction

if TYPE_CHECKING:
    from relay.call.leg import Leg

MOST_INFOS = 32  # of one side at a time; each is a transaction towards the other
PASSED_ON = ("Content-Type", "Info-Package")
DESCRIPTIONS = ("application/sdp", "application/trickle-ice-sdpfrag")
PASSED_BACK = ("Retry-After", "Warning")
# What concerns our own dialog with the told side and would mislead the asking one.
OURS = {401: 500, 407: 500, 408: 504, 420: 500, 422: 500, 481: 500}


class MidCall:
    """`asked` is the leg that the request came from, `_told` the one it goes to."""

    __slots__ = (
        "_answered",
        "_closed",
        "_invite",
        "_offered",
        "_out",
        "_request",
        "_told",
        "_tx",
        "asked",
    )

    def __init__(self, asked: Leg, tx: Transaction, request: Request) -> None:
        self.asked = asked
        self._told = asked.call.leg(asked.side.other)
        self._tx = tx
        self._request = request
        self._offered = self._answered = self._closed = False
        self._invite: IncomingInvite | None = None
        self._out: OutgoingInvite | None = None

    @classmethod
    def begin(cls, asked: Leg, tx: Transaction, request: Request, now: float) -> None:
        """Pass the request on, or answer it at once."""
        exchange = cls(asked, tx, request)
        told = exchange._told
        if asked.call.ended or (asked.dialog is not None and told.dialog is None):
            asked.refuse(tx, request, 481)
        elif request.method == "INFO" and exchange._told.gone:
            asked.refuse(tx, request, 491)  # a transfer is still reaching for its target
        elif request.method == "INFO" and asked.infos >= MOST_INFOS:
            text = f"{MOST_INFOS} INFO requests of this call are not answered yet"
            asked.call.calls.counters["infos_refused"] += 1
            asked.respond(tx, refuse(request, 503, asked.local_tag, text, 1))
        elif request.method == "INFO":
            exchange._pass_info()
        elif asked.session.is_too_short(request):
            error = IntervalTooSmall(asked.session.least_s)
            asked.respond(tx, refusal(request, error, asked.local_tag))
        elif request.method == "UPDATE" and not request.body:
            exchange._refreshed(b"", now)
        elif (in_the_way := exchange._glare()) != 0:
            retry_after_s = int(11 * asked.call.calls.chance()) if in_the_way == 500 else None
            asked.respond(tx, refuse(request, in_the_way, asked.local_tag, "", retry_after_s))
        elif said := exchange._known():
            exchange._refreshed(said, now)
        else:
            exchange._pass_on()

    def _glare(self) -> int:
        """What keeps an offer out: 500 for the side's own unfinished request, else 491."""
        call = self.asked.call
        if self.asked.dialog is None and not call.settle_early():
            # The INVITE's own offer is not answered for good (RFC 3311 section 5.2).
            return 500 if self.asked.side is Side.CALLER else 491
        if call.exchange is not None and call.exchange.asked is self.asked:
            return 491 if self.asked.waits_for_ack else 500
        if call.exchange is not None or call.negotiation.open:
            return 491
        return 491 if any(leg.waits_for_ack for leg in call.legs) else 0

    def _known(self) -> bytes:
        """The answer to an offer that is nothing new to the other side, or empty."""
        negotiation, side, body = self.asked.call.negotiation, self.asked.side, self._request.body
        return negotiation.repeated(side, body) or negotiation.restarted(side, body)

    def _refreshed(self, said: bytes, now: float) -> None:
        """Nothing changes but the peer's Contact and the time of its session timer."""
        asked, request = self.asked, self._request
        asked.refresh_target(request)
        self._answered = self._closed = True
        if request.method == "INVITE":
            asked.incoming = IncomingInvite(asked, self._tx, request, self)
            asked.incoming.accept(asked.local_tag, said, now)
            return
        self._accept_update(said, "application/sdp", now)

    def _pass_info(self) -> None:
        """INFO goes on as it is; a key in it is an event, one a request."""
        asked, told = self.asked, self._told
        if _describes(self._request):  # it would cross with its addresses and keys
            error = NotAcceptable("INFO carries no session description: INVITE and UPDATE do")
            asked.respond(self._tx, refusal(self._request, error, asked.local_tag))
            return
        asked.infos += 1
        if (key := pressed(self._request)) is not None:
            asked.call.on_key(asked.side, key[0], key[1])
        onward = self._onward("INFO", self._request.body)
        told.send(onward, self)

    def _pass_on(self) -> None:
        asked, told, request = self.asked, self._told, self._request
        body = request.body
        if body:
            try:
                body = asked.call.negotiation.offer(asked.side, body)
            except RelayError as error:
                asked.respond(self._tx, refusal(request, error, asked.local_tag))
                return
            self._offered = True
        method = request.method
        if method == "UPDATE" and told.allow and not told.allows("UPDATE"):
            method = "INVITE"
        onward = self._onward(method, body)
        told.session.say_again(onward)
        asked.call.exchange = self
        if request.method == "INVITE":
            self._invite = asked.incoming = IncomingInvite(asked, self._tx, request, self)
        if method == "INVITE":
            self._out = OutgoingInvite(told, onward, self)
            told.send(onward, self._out)
        else:
            told.send(onward, self)

    def _onward(self, method: str, body: bytes) -> Request:
        told = self._told
        assert told.live is not None
        onward = told.live.request(method, contact=told.contact)
        if body:
            for name in PASSED_ON:
                if (value := self._request.headers.get(name)) is not None:
                    onward.headers.set(name, value)
            onward.body = body
        return onward

    def abandon(self) -> None:
        """The call ends: a pending request is answered 487 (RFC 3261 section 15.1.2)."""
        if not self._answered:
            self._answered = True
            self.asked.refuse(self._tx, self._request, 487)
        if self._out is not None and not self._closed:
            if self._out.final:  # a 2xx is acknowledged whatever comes next
                self._acknowledge_unchanged(self._out)
            else:
                self._out.cancel()
        self._close()

    def on_cancel(self, now: float, reason: str = "") -> None:
        """The asking side cancelled its re-INVITE: the call goes on as it was."""
        if self._out is not None and not self._answered:
            self._answered = True
            self.asked.refuse(self._tx, self._request, 487)
            self._out.cancel()
            # Not closed: until the told side has given up, another offer would be glare.

    # --- UPDATE and INFO: the answer of the told side

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status < 200:
            return
        told = self._told
        if response.status < 300 and self._request.method == "UPDATE" and not told.gone:
            told.refresh_target(response)
            told.session.accepted(response, now)
        self._finish(response.status, response, now)

    def on_no_response(self, status: int, now: float) -> None:
        self._finish(status, None, now)

    # --- re-INVITE

    def on_progress(self, response: Response, now: float) -> None:
        """A 18x inside a dialog tells the asking side nothing new."""

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None:
        told, asked = self._told, self.asked
        told.refresh_target(response)
        if not self._answered and asked.gone:  # nobody is left who wants the answer
            self._answered = True
            asked.refuse(self._tx, self._request, 487)
        if self._answered:  # cancelled or abandoned
            self._take_back(invite, now)
            return
        told.session.accepted(response, now)
        try:
            sdp = self._translate(response.body)
        except RelayError as error:
            self._answered = True
            asked.refuse(self._tx, self._request, 488, str(error))
            self._take_back(invite, now)
            return
        incoming = self._invite
        if self._offered:
            self._acknowledge(invite, b"")
            self._close()
        self._answered = True
        asked.refresh_target(self._request)
        if incoming is not None:
            incoming.accept(asked.local_tag, sdp, now)
        else:
            self._accept_update(sdp, "application/sdp", now)

    def on_refused(self, status: int, response: Response | None, now: float) -> None:
        self._finish(status, response, now)

    def on_ack(self, body: bytes, now: float) -> None:
        """The asking side's ACK; it carries the answer when the offer was delayed."""
        if self._out is not None and not self._offered:
            negotiation = self.asked.call.negotiation
            try:
                sdp = negotiation.answer(self.asked.side, body) if body else b""
            except RelayError:
                sdp = b""
            if sdp:
                self._acknowledge(self._out, sdp)
            else:
                self._acknowledge_unchanged(self._out)
            self._close()
        self.asked.acknowledged()

    def on_no_ack(self, now: float) -> None:
        if self._out is not None and not self._offered:
            self._acknowledge_unchanged(self._out)
            self._close()
        if not self.asked.acknowledged():
            self.asked.call.not_acknowledged(self.asked.side, now)

    # --- inside

    def _translate(self, body: bytes) -> bytes:
        """The told side's SDP for the asking side: an answer, or a delayed offer."""
        if not body:
            raise NotAcceptable("the other side accepted without a session description")
        negotiation = self.asked.call.negotiation
        if self._offered:
            return negotiation.answer(self._told.side, body)
        return negotiation.offer(self._told.side, body)

    def _acknowledge(self, out: OutgoingInvite, sdp: bytes) -> None:
        assert self._told.dialog is not None
        out.acknowledge(self._told.dialog, sdp)

    def _acknowledge_unchanged(self, out: OutgoingInvite) -> None:
        """An offer in the told side's 2xx is answered with what that side knows already."""
        told = self._told
        known = self._offered or told.gone  # then the call may have been let go
        self._acknowledge(out, b"" if known else told.call.negotiation.current(told.side))

    def _take_back(self, out: OutgoingInvite, now: float) -> None:
        """The told side has accepted what the asking side does not have: back to what was."""
        told = self._told
        self._acknowledge_unchanged(out)
        self._close()
        if self._offered and not told.call.ended and not told.gone:
            Refresh.restore(told)

    def _finish(self, status: int, source: Response | None, now: float) -> None:
        if self._request.method == "INFO":
            self.asked.infos -= 1
        if not self._answered:
            self._answered = True
            if status < 300:
                assert source is not None
                self._succeed(source, now)
            else:
                self._fail(status, source)
        self._close()
        told = self._told
        # RFC 3261 section 12.2.1.2; an INFO without an answer is no proof.
        gone = status == 481 or (status in GONE and self._request.method != "INFO")
        if gone and told.call.has(told):
            told.call.feed(Lost(told.side, lost_text(told, status)), now)

    def _succeed(self, source: Response, now: float) -> None:
        asked = self.asked
        body = source.body
        if self._offered:
            try:
                body = self._translate(body)
            except RelayError as error:
                asked.refuse(self._tx, self._request, 488, str(error))
                return
            asked.refresh_target(self._request)
        if self._request.method == "UPDATE":
            self._accept_update(body, source.content_type, now)
        else:
            body = b"" if _describes(source) else body
            asked.respond(self._tx, self._ok(body, source.content_type))

    def _fail(self, status: int, source: Response | None) -> None:
        reason = None
        if source is not None and status not in OURS:
            reason = without_addresses(source.reason)
        status = OURS.get(status, status)
        response = self._request.response(status, reason or None, to_tag=self.asked.local_tag)
        if source is not None:
            for name in PASSED_BACK:
                if told := header(name, source.headers.get(name) or ""):
                    response.headers.add(name, told)
        self.asked.respond(self._tx, response)

    def _accept_update(self, body: bytes, kind: str | None, now: float) -> None:
        response = self._ok(body, kind)
        response.headers.add("Contact", self.asked.contact)
        self.asked.session.accept(self._request, response, now)
        self.asked.respond(self._tx, response)

    def _ok(self, body: bytes, kind: str | None) -> Response:
        response = self._request.response(200, to_tag=self.asked.local_tag)
        if body and kind:
            response.headers.add("Content-Type", kind)
            response.body = body
        return response

    def _close(self) -> None:
        self._closed = True
        if self._invite is not None and not self._invite.waits_for_ack:
            self._invite.let_go()
        self._invite = self._out = None  # which have us as their listener
        call = self.asked.call
        if call.exchange is self:
            call.exchange = None
            call.negotiation.close()


def _describes(message: Message) -> bool:
    """Whether a body is a session description or a fragment of one (trickled candidates,
    RFC 8840), or has one among its parts."""
    kind = (message.content_type or "").lower()
    body = message.body.lower()
    return bool(body) and any(name in kind or name.encode() in body for name in DESCRIPTIONS)
