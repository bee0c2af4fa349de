"""Our own re-INVITE: a transferee hears what its new party can do (RFC 3725 section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.events import Lost, NegotiationFailed
from relay.call.invite import OutgoingInvite
from relay.call.session_timer import GONE, lost_text
from relay.errors import RelayError
from relay.sip.message import Response

if TYPE_CHECKING:
    from relay.call.leg import Leg

MOST_TRIES = 5


class Renegotiation:
    """One offer of ours, sent again after a 491. Other offers meanwhile get 491."""

    __slots__ = ("_leg", "_offer", "_out", "_tries", "asked")

    def __init__(self, leg: Leg, offer: bytes) -> None:
        self._leg = leg
        self._offer = offer
        self._out: OutgoingInvite | None = None
        self._tries = 0
        self.asked: Leg | None = None  # nobody: as an exchange it is our own

    def start(self, now: float) -> None:
        leg = self._leg
        assert leg.dialog is not None
        self._tries += 1
        invite = leg.dialog.request("INVITE", contact=leg.contact)
        leg.session.say_again(invite)
        invite.headers.add("Content-Type", "application/sdp")
        invite.body = self._offer
        self._out = OutgoingInvite(leg, invite, self)
        leg.call.exchange = self
        leg.send(invite, self._out)

    def on_timer(self, now: float) -> None:
        if not (self._leg.gone or self._leg.call.ended):
            self.start(now)

    def abandon(self) -> None:
        """The call ends."""
        if self._out is not None:
            self._out.cancel()
        self._close()

    def on_progress(self, response: Response, now: float) -> None:
        """Nobody waits for it."""

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None:
        leg = self._leg
        assert leg.dialog is not None
        leg.refresh_target(response)
        invite.acknowledge(leg.dialog, b"")
        self._close()
        if leg.gone or leg.call.ended:
            return
        leg.session.accepted(response, now)
        try:
            leg.call.negotiation.reaffirm(leg.side, response.body)
        except RelayError as error:
            leg.call.feed(NegotiationFailed(str(error)), now)

    def on_refused(self, status: int, response: Response | None, now: float) -> None:
        leg = self._leg
        if leg.gone or leg.call.ended:
            return
        if self._tries < MOST_TRIES:
            if status == 491:
                leg.alarms.set(self, now + leg.glare_wait())  # the exchange stays open
                return
            if status == 422 and response is not None and leg.session.grow(response):
                self.start(now)
                return
        self._close()
        if status in GONE:
            leg.call.feed(Lost(leg.side, lost_text(leg, status)), now)
            return
        text = f"the {leg.side.name.lower()} refused its new party's session: {status}"
        leg.call.feed(NegotiationFailed(text), now)

    def _close(self) -> None:
        self._out = None  # which has us as its listener
        if self._leg.call.exchange is self:
            self._leg.call.exchange = None
