"""The subscription that a REFER makes: how its INVITE fares, in NOTIFYs (RFC 3515 section 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.sip.message import Request, Response
from relay.sip.reasons import REASONS

if TYPE_CHECKING:
    from relay.call.leg import Leg

GONE = frozenset({404, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604})  # RFC 6665 4.2.2


class Subscription:
    """Tells the transferor's leg. One NOTIFY at a time, so that none overtakes another."""

    __slots__ = ("_event", "_expires_s", "_leg", "_next", "_over", "_status", "_waits", "wanted")

    def __init__(self, leg: Leg, refer: Request, first: bool, expires_s: float) -> None:
        """`first`: no other REFER of this dialog has to be told apart (section 2.4.6)."""
        self._leg = leg
        self._event = "refer" if first else f"refer;id={refer.cseq.number}"
        self._expires_s = int(expires_s)
        # RFC 4488: the transferor may not want to hear.
        self.wanted = (refer.headers.get("Refer-Sub") or "").strip().lower() != "false"
        self._over = not self.wanted
        self._status = self._next = 0
        self._waits = False

    def tell(self, status: int) -> None:
        """A provisional status of the INVITE, once each."""
        if self._over or status == self._status:
            return
        self._status = status
        if self._waits:
            self._next = status
        else:
            self._notify(status, f"active;expires={self._expires_s}")

    def end(self, status: int) -> None:
        """The final status: it does not wait, a BYE may follow at once."""
        if not self._over:
            self._over = True
            self._notify(status, "terminated;reason=noresource")

    def _notify(self, status: int, state: str) -> None:
        leg = self._leg
        if leg.gone or leg.dialog is None:
            self._over = True  # it hung up, and has forgotten the dialog
            return
        notify = leg.dialog.request("NOTIFY", contact=leg.contact)
        notify.headers.add("Event", self._event)
        notify.headers.add("Subscription-State", state)
        notify.headers.add("Content-Type", "message/sipfrag;version=2.0")
        notify.body = f"SIP/2.0 {status} {REASONS.get(status, '')}\r\n".encode()
        self._waits = True
        leg.send(notify, self)

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status < 200:
            return
        self._waits = False
        if response.status in GONE:
            self._over = True
        elif self._next and not self._over:
            status, self._next = self._next, 0
            self._notify(status, f"active;expires={self._expires_s}")

    def on_no_response(self, status: int, now: float) -> None:
        self._over = True
