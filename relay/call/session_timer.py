"""One leg's session timer (RFC 4028): a peer that is silently gone ends the call.

Each leg has its own, agreed with its own peer; half an interval after the last refresh
whoever is the refresher says that the session goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call.events import Lost
from relay.call.invite import OutgoingInvite
from relay.errors import RelayError
from relay.sip.message import Request, Response
from relay.sip.options import supports
from relay.sip.session_timer import (
    SMALLEST_S,
    SessionExpires,
    agree,
    is_too_short,
    min_se,
    session_expires,
)

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.leg import Leg

MOST_GROWN = 3  # 422s of one peer that are followed: a next one might be answered 422, too
GONE = (408, 481)  # RFC 3261 section 12.2.1.2: these end the dialog


class SessionTimer:
    """`interval_s` is 0 while no timer runs; `ours` says that we are the refresher.

    `least_s` is the shortest interval that we take; a peer's own is learned from its 422.
    """

    __slots__ = (
        "_alarm",
        "_deadline",
        "_grown",
        "_leg",
        "_peers_least_s",
        "interval_s",
        "least_s",
        "ours",
        "wanted_s",
    )

    def __init__(self, leg: Leg, wanted_s: int, least_s: int) -> None:
        self._leg = leg
        self.wanted_s = wanted_s
        self.least_s = least_s
        self.interval_s = self._peers_least_s = 0
        self.ours = False
        self._grown = 0
        self._deadline = 0.0
        self._alarm: Alarm | None = None

    def offered(self) -> list[tuple[str, str]]:
        """What the INVITE that starts a dialog says; the peer chooses who refreshes."""
        if not self.wanted_s:
            return []
        asked = max(self.wanted_s, self.least_s, self._peers_least_s)
        return [("Session-Expires", str(asked)), *self._least()]

    def say_again(self, request: Request) -> None:
        """A request of ours in the dialog keeps interval and roles (section 7.4)."""
        if self.interval_s:
            held = SessionExpires(self.interval_s, "uac" if self.ours else "uas")
            request.headers.add("Supported", "timer")
            request.headers.add("Session-Expires", str(held))
            for name, value in self._least():
                request.headers.add(name, value)

    def accepted(self, response: Response, now: float) -> None:
        """The 2xx to a request of ours says what holds; without a word of it, no timer."""
        said = session_expires(response)
        if said is None:
            self.stop()
        else:
            self._start(said.interval_s, said.refresher != "uas", now)

    def is_too_short(self, request: Request) -> bool:
        """Whether a peer's request asks for less than we take: 422."""
        return is_too_short(request, self.least_s)

    def accept(self, request: Request, response: Response, now: float) -> None:
        """Write what holds into our 2xx to a peer's request."""
        agreed = agree(request, self.wanted_s, max(self.least_s, self._peers_least_s))
        if agreed is None:
            self.stop()
            return
        if supports(request, "timer"):
            response.headers.add("Require", "timer")
        response.headers.add("Session-Expires", str(agreed))
        self._start(agreed.interval_s, agreed.refresher == "uas", now)

    def grow(self, response: Response) -> bool:
        """A 422 asks for a longer interval: whether that is one, and not the next of many."""
        least_s = min_se(response)
        asked = self.interval_s or max(self.wanted_s, self.least_s)
        if least_s <= asked or self._grown >= MOST_GROWN:
            return False
        self._grown += 1
        self._peers_least_s = least_s
        if self.interval_s:
            self.interval_s = least_s
        return True

    def stop(self) -> None:
        """No timer runs any more."""
        self.interval_s = 0
        self._disarm()

    def try_again(self, now: float, wait_s: float) -> None:
        """A refresh did not go through: once more, unless the time is over before."""
        if self.interval_s:
            self._arm(min(now + wait_s, self._deadline))

    def let_go(self) -> None:
        """The leg is over: the cycle between the two is undone."""
        self.stop()
        self._leg = None  # type: ignore[assignment]

    def on_timer(self, now: float) -> None:
        self._alarm = None
        leg = self._leg
        if now >= self._deadline:
            self.stop()
            leg.call.feed(Lost(leg.side, f"the {leg.name} let its session timer run out"), now)
        else:
            self._arm(self._deadline)
            Refresh.begin(leg, self, now)

    def _start(self, interval_s: int, ours: bool, now: float) -> None:
        if self._leg.gone:
            return
        self.interval_s = interval_s = max(interval_s, SMALLEST_S)
        self.ours = ours
        # Section 10: BYE slightly before the session expires.
        self._deadline = now + interval_s - min(32, interval_s / 3)
        self._arm(now + interval_s / 2 if ours else self._deadline)

    def _arm(self, when: float) -> None:
        self._disarm()
        self._alarm = self._leg.alarms.set(self, when)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _least(self) -> list[tuple[str, str]]:
        least_s = max(self.least_s, self._peers_least_s)
        return [("Min-SE", str(least_s))] if least_s > SMALLEST_S else []


class Refresh:
    """Our refresh: UPDATE where the peer has it, else a re-INVITE that changes nothing."""

    __slots__ = ("_leg", "_out", "_timer", "asked")

    def __init__(self, leg: Leg, timer: SessionTimer) -> None:
        self._leg = leg
        self._timer = timer
        self._out: OutgoingInvite | None = None
        self.asked: Leg | None = None  # nobody: as an exchange it is our own

    @classmethod
    def begin(cls, leg: Leg, timer: SessionTimer, now: float) -> None:
        if leg.gone or leg.dialog is None:
            return
        refresh = cls(leg, timer)
        if leg.allows("UPDATE"):
            update = leg.dialog.request("UPDATE")
            timer.say_again(update)
            leg.send(update, refresh)
        elif leg.call.exchange is not None or leg.waits_for_ack:
            timer.try_again(now, leg.glare_wait())
        else:
            refresh._invite()

    @classmethod
    def restore(cls, leg: Leg) -> None:
        """Tell a peer again what holds, after it has accepted something else."""
        if leg.call.exchange is None:
            cls(leg, leg.session)._invite()

    def _invite(self) -> None:
        leg = self._leg
        assert leg.dialog is not None
        invite = leg.dialog.request("INVITE")
        self._timer.say_again(invite)
        invite.headers.add("Content-Type", "application/sdp")
        invite.body = leg.call.negotiation.current(leg.side)
        self._out = OutgoingInvite(leg, invite, self)
        leg.call.exchange = self
        leg.send(invite, self._out)

    def abandon(self) -> None:
        """The call ends."""
        if self._out is not None:
            self._out.cancel()
            self._out = None
        self._close()

    # --- UPDATE

    def on_response(self, tx: object, response: Response, now: float) -> None:
        if response.status >= 300:
            self._failed(response.status, response, now)
        elif response.status >= 200 and not self._leg.gone:
            self._refreshed(response, now)

    def on_no_response(self, status: int, now: float) -> None:
        self._failed(status, None, now)

    # --- re-INVITE

    def on_progress(self, response: Response, now: float) -> None:
        """Nobody waits for it."""

    def on_accepted(self, invite: OutgoingInvite, response: Response, now: float) -> None:
        leg = self._leg
        assert leg.dialog is not None
        invite.acknowledge(leg.dialog, b"")
        self._close()
        self._out = None
        if leg.gone or leg.call.ended:
            return
        self._refreshed(response, now)
        try:
            if response.body and leg.call.negotiation.agreed:
                leg.call.negotiation.reaffirm(leg.side, response.body)
        except RelayError:
            leg.call.calls.counters["refresh_unusable"] += 1  # what was agreed before stays

    def on_refused(self, status: int, response: Response | None, now: float) -> None:
        self._close()
        self._failed(status, response, now)
        self._out = None  # which has us as its listener

    # --- inside

    def _refreshed(self, response: Response, now: float) -> None:
        self._leg.refresh_target(response)
        self._timer.accepted(response, now)

    def _failed(self, status: int, response: Response | None, now: float) -> None:
        leg, timer = self._leg, self._timer
        if leg.gone or not leg.call.has(leg):
            return
        if status in GONE:
            timer.stop()
            leg.call.feed(Lost(leg.side, lost_text(leg, status)), now)
        elif status == 491:
            timer.try_again(now, leg.glare_wait())
        elif status == 422 and response is not None and timer.grow(response):
            Refresh.begin(leg, timer, now)
        elif status in (405, 501) and leg.allows("UPDATE"):
            leg.allow = ""  # it said otherwise
            Refresh.begin(leg, timer, now)
        else:
            timer.try_again(now, timer.interval_s / 10)

    def _close(self) -> None:
        self._out = None  # it refers back to this
        if self._leg.call.exchange is self:
            self._leg.call.exchange = None


def lost_text(leg: Leg, status: int) -> str:
    """What an operator reads when a request in a dialog found nobody."""
    if status == 481:
        return f"the {leg.name} knows the call no more"
    return f"the {leg.name} does not answer"


def glare_wait_s(owner: bool, chance: float) -> float:
    """How long to wait after a 491, in units of 10 ms (RFC 3261 section 14.1): the owner
    of the Call-ID longer than the other."""
    if owner:
        return 2.1 + round(chance * 190) / 100
    return round(chance * 200) / 100
