"""The two ends of an INVITE above its transaction: who repeats the 2xx, who acknowledges it.

RFC 3261 gives both to the core and not to the transaction (sections 13.2.2.4 and
13.3.1.4). An initial INVITE and a re-INVITE differ only in who listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relay.call.refusal import ALLOW
from relay.sip.dialog import Dialog
from relay.sip.message import Request, Response
from relay.sip.transaction import InviteClientTransaction, Transaction

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.leg import Leg


class Inviter(Protocol):
    """Who deals with a peer's INVITE: it may be cancelled, and its 2xx acknowledged."""

    def on_cancel(self, now: float, reason: str = "") -> None: ...

    def on_ack(self, body: bytes, now: float) -> None: ...

    def on_no_ack(self, now: float) -> None: ...


class IncomingInvite:
    """A peer's INVITE: our responses, and the 2xx repeated until its ACK."""

    __slots__ = ("_alarm", "_deadline", "_gap", "_leg", "_ok", "listener", "request", "tx")

    def __init__(self, leg: Leg, tx: Transaction, request: Request, listener: Inviter) -> None:
        self._leg = leg
        self.tx = tx
        tx.user = self
        self.request = request
        self.listener = listener
        self._ok: Response | None = None
        self._alarm: Alarm | None = None
        self._gap = self._deadline = 0.0

    @property
    def waits_for_ack(self) -> bool:
        return self._ok is not None

    def progress(self, status: int, reason: str, tag: str, body: bytes) -> Response:
        """An 18x in the early dialog `tag`."""
        return self._response(status, reason, tag, body)

    def accept(self, tag: str, body: bytes, now: float) -> None:
        """200, repeated at T1, 2*T1 … T2 until the ACK, given up at 64*T1."""
        ok = self._response(200, "OK", tag, body)
        ok.headers.add("Allow", ALLOW)
        self._leg.session.accept(self.request, ok, now)
        self._ok = ok
        timers = self._leg.timers
        self._gap = timers.t1_s
        self._deadline = now + 64 * timers.t1_s
        self._leg.respond(self.tx, ok)
        self._alarm = self._leg.alarms.set(self, now + self._gap)

    def reject(self, response: Response) -> None:
        self._leg.respond(self.tx, response)

    def on_cancel(self, now: float, reason: str) -> None:
        self.listener.on_cancel(now, reason)

    def on_no_response(self, status: int, now: float) -> None:
        """The peer's connection is gone and no other can be made: nobody waits for an answer."""
        self.listener.on_cancel(now)

    def give_up(self) -> None:
        """Stop repeating the 2xx: the peer has shown otherwise that it has it."""
        self._ok = None
        self.let_go()
        if self._alarm is not None:
            self._alarm.cancel()

    def let_go(self) -> None:
        """All is said: the transaction, which lingers, refers to this no more."""
        self.tx.user = None

    def on_timer(self, now: float) -> None:
        if self._ok is None:
            return
        if now >= self._deadline:
            self.give_up()
            self.listener.on_no_ack(now)
            return
        self._leg.respond(self.tx, self._ok)
        self._gap = min(2 * self._gap, self._leg.timers.t2_s)
        self._alarm = self._leg.alarms.set(self, min(now + self._gap, self._deadline))

    def on_ack(self, request: Request, now: float) -> None:
        """The ACK, once; repeated ones change nothing."""
        if self._ok is None or request.cseq.number != self.request.cseq.number:
            return
        self.give_up()
        self.listener.on_ack(request.body, now)

    def _response(self, status: int, reason: str, tag: str, body: bytes) -> Response:
        response = self.request.response(status, reason, to_tag=tag)
        response.headers.add("Contact", self._leg.contact)
        if body:
            response.headers.add("Content-Type", "application/sdp")
            response.body = body
        return response


# Phones that one INVITE may ring or find answering; of a flood of tags the rest is ignored.
MOST_BRANCHES = 32


class InviteListener(Protocol):
    """Who hears what became of our INVITE."""

    def on_progress(self, response: Response, now: float) -> None: ...

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None: ...

    def on_refused(self, status: int, response: Response | None, now: float) -> None: ...


class OutgoingInvite:
    """Our INVITE to a peer: CANCEL at the right moment, and the ACK to each 2xx."""

    __slots__ = (
        "_acks",
        "_again",
        "_leg",
        "_listener",
        "_provisional",
        "_reason",
        "cancelled",
        "final",
        "request",
        "tx",
    )

    def __init__(self, leg: Leg, request: Request, listener: InviteListener) -> None:
        self._leg = leg
        self.request = request
        self._listener = listener
        self.tx: InviteClientTransaction | None = None
        self.cancelled = self.final = self._provisional = self._again = False
        self._reason = ""
        self._acks: dict[str, Request | None] = {}

    @property
    def heard(self) -> bool:
        """The peer has shown that it lives, by a 100 at least."""
        return self._provisional or self._again or self.final

    def start_again(self, request: Request) -> None:
        """It was challenged, and goes out once more with credentials: a CANCEL would have to
        wait for a 1xx again."""
        self.request = request
        self.tx = None
        self._provisional, self._again = False, True

    def cancel(self, reason: str = "") -> None:
        """Give up: at once after a 1xx, else when the first one comes (section 9.1). `reason`
        is the CANCEL's (RFC 3326)."""
        if self.cancelled or self.final:
            return
        self.cancelled = True
        self._reason = reason
        if self._provisional and self.tx is not None:
            self._leg.signalling.cancel(self.tx, reason)

    def acknowledge(self, dialog: Dialog, sdp: bytes) -> None:
        """Send the ACK and keep it: a repeated 2xx gets it again. It has the credentials of
        the INVITE, for nobody may challenge it (section 22.1)."""
        ack = dialog.ack(self.request.cseq.number)
        if self._leg.login is not None:
            for name in ("Authorization", "Proxy-Authorization"):
                for value in self.request.headers.fields(name):
                    ack.headers.add(name, value)
        if sdp:
            ack.headers.add("Content-Type", "application/sdp")
            ack.body = sdp
        self._acks[dialog.remote_tag or ""] = ack
        self._leg.send_ack(ack, dialog)

    def on_response(self, tx: object, response: Response, now: float) -> None:
        status = response.status
        if status < 200:
            self.tx = tx  # type: ignore[assignment]
            first = not self._provisional
            self._provisional = True
            if self.cancelled:
                if first:
                    self._leg.signalling.cancel(self.tx, self._reason)  # type: ignore[arg-type]
            elif status > 100:
                self._listener.on_progress(response, now)
        elif status < 300:
            tag = response.to.tag or ""
            if tag not in self._acks:
                if len(self._acks) >= MOST_BRANCHES:
                    return
                self._acks[tag] = None  # the ACK may have to wait for the other leg's
                self._end()
                self._listener.on_accepted(self, response, now)
            elif (ack := self._acks[tag]) is not None:
                self._leg.send_ack(ack)
        else:
            self._end()
            self._listener.on_refused(status, response, now)

    def _end(self) -> None:
        self.final = True
        self.tx = None  # it lingers, and has this as its user

    def on_no_response(self, status: int, now: float) -> None:
        self._end()
        self._listener.on_refused(status, None, now)


class Discarded:
    """Listens to nothing: the answer changes nothing."""

    __slots__ = ()

    def on_response(self, tx: object, response: Response, now: float) -> None:
        pass

    def on_no_response(self, status: int, now: float) -> None:
        pass
