"""A request inside an answered call, passed from one leg to the other and back.

re-INVITE and UPDATE with an offer, INFO with whatever it carries. One exchange with an
offer at a time: the next one is glare and gets 491 (RFC 3261 section 14.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.hiding import without_addresses
from relay.call.invite import IncomingInvite, OutgoingInvite
from relay.call.refusal import refusal, refuse
from relay.errors import RelayError
from relay.sip.message import Request, Response
from relay.sip.transaction import Transaction

if TYPE_CHECKING:
    from relay.call.leg import Leg

PASSED_ON = ("Content-Type", "Info-Package")


class MidCall:
    """`asked` is the leg that the request came from, `told` the one it goes to."""

    __slots__ = ("_answered", "_asked", "_invite", "_offered", "_out", "_request", "_told", "_tx")

    def __init__(self, asked: Leg, tx: Transaction, request: Request) -> None:
        self._asked = asked
        self._told = asked.call.leg(asked.side.other)
        self._tx = tx
        self._request = request
        self._offered = self._answered = False
        self._invite: IncomingInvite | None = None
        self._out: OutgoingInvite | None = None

    @classmethod
    def begin(cls, asked: Leg, tx: Transaction, request: Request, now: float) -> None:
        """Pass the request on, or answer it at once when that cannot be done."""
        call = asked.call
        exchange = cls(asked, tx, request)
        offers = request.method == "INVITE" or bool(request.body and request.method == "UPDATE")
        if exchange._told.dialog is None or call.ended:
            asked.refuse(tx, request, 481)
        elif (offers and (call.negotiation.open or call.exchange is not None)) or (
            offers and any(leg.waits_for_ack for leg in call.legs)
        ):
            asked.refuse(tx, request, 491)
        else:
            exchange._pass_on(offers, now)

    def _pass_on(self, offers: bool, now: float) -> None:
        asked, told, request = self._asked, self._told, self._request
        body = request.body
        if offers and body:
            try:
                body = asked.call.negotiation.offer(asked.side, body)
            except RelayError as error:
                asked.respond(self._tx, refusal(request, error, asked.local_tag))
                return
            self._offered = True
        assert told.dialog is not None
        onward = told.dialog.request(request.method, contact=told.contact)
        if body:
            for name in PASSED_ON:
                if (value := request.headers.get(name)) is not None:
                    onward.headers.set(name, value)
            onward.body = body
        if offers:
            asked.call.exchange = self
        if request.method == "INVITE":
            self._invite = asked.incoming = IncomingInvite(asked, self._tx, request, self)
            self._out = OutgoingInvite(told, onward, self)
            told.send(onward, self._out)
        else:
            told.send(onward, self)

    def abandon(self) -> None:
        """The call ends: a pending request is answered 487 (RFC 3261 section 15.1.2)."""
        if not self._answered:
            self._answered = True
            self._asked.refuse(self._tx, self._request, 487)
        if self._out is not None:
            self._out.cancel()
        self._close()

    def on_cancel(self, now: float) -> None:
        """The asking side cancelled its re-INVITE: the call goes on as it was."""
        if self._out is not None and not self._answered:
            self._answered = True
            self._asked.refuse(self._tx, self._request, 487)
            self._out.cancel()
            self._close()

    # --- UPDATE and INFO: the answer of the told side

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status >= 200:
            self._finish(response.status, response.reason, response)

    def on_no_response(self, status: int, now: float) -> None:
        self._finish(status, "", None)

    # --- re-INVITE

    def on_progress(self, response: Response, now: float) -> None:
        """A 18x inside a dialog tells the asking side nothing new."""

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None:
        told, asked = self._told, self._asked
        assert told.dialog is not None and self._invite is not None
        told.dialog.refresh_target(response)
        if self._answered:  # cancelled or abandoned: acknowledge, the rest is over
            self._acknowledge(b"")
            return
        try:
            sdp = self._translate(response.body)
        except RelayError as error:
            self._acknowledge(b"")
            self._answered = True
            asked.respond(self._tx, refusal(self._request, error, asked.local_tag))
            self._close()
            return
        if self._offered:
            self._acknowledge(b"")
            self._close()
        self._answered = True
        assert asked.dialog is not None
        asked.dialog.refresh_target(self._request)
        self._invite.accept(asked.local_tag, sdp, now)

    def on_refused(self, status: int, response: Response | None, now: float) -> None:
        self._finish(status, response.reason if response else "", None)

    def on_ack(self, body: bytes, now: float) -> None:
        """The asking side's ACK; it carries the answer when the offer was delayed."""
        if not self._offered:
            try:
                sdp = self._asked.call.negotiation.answer(self._asked.side, body) if body else b""
            except RelayError:
                sdp = b""  # the told side keeps what it had
            self._acknowledge(sdp)
            self._close()
        self._asked.acknowledged()

    def on_no_ack(self, now: float) -> None:
        if not self._offered:
            self._acknowledge(b"")
            self._close()
        if not self._asked.acknowledged():
            self._asked.call.not_acknowledged(self._asked.side, now)

    # --- inside

    def _translate(self, body: bytes) -> bytes:
        """The told side's SDP for the asking side: an answer, or a delayed offer."""
        negotiation = self._asked.call.negotiation
        if not body:
            return b""
        if self._offered:
            return negotiation.answer(self._told.side, body)
        return negotiation.offer(self._told.side, body)

    def _acknowledge(self, sdp: bytes) -> None:
        told = self._told
        assert told.dialog is not None and self._out is not None
        ack = told.dialog.ack(self._out.request.cseq.number)
        if sdp:
            ack.headers.add("Content-Type", "application/sdp")
            ack.body = sdp
        self._out.acknowledge(ack, told.dialog.remote_tag or "")

    def _finish(self, status: int, reason: str, source: Response | None) -> None:
        if self._answered:
            return
        self._answered = True
        asked = self._asked
        reason = without_addresses(reason)
        response = self._request.response(status, reason or None, to_tag=asked.local_tag)
        if source is not None and source.body and status < 300:
            try:
                response.body = (
                    asked.call.negotiation.answer(self._told.side, source.body)
                    if self._offered
                    else source.body
                )
            except RelayError as error:
                response = refuse(self._request, error.status_hint, asked.local_tag, str(error))
            if response.body and (kind := source.content_type):
                response.headers.set("Content-Type", kind)
        if status < 300:
            response.headers.add("Contact", asked.contact)
        asked.respond(self._tx, response)
        self._close()

    def _close(self) -> None:
        call = self._asked.call
        if call.exchange is self:
            call.exchange = None
            call.negotiation.close()
