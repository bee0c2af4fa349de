"""Our reliable provisional responses to an INVITE: repeated until their PRACK (RFC 3262)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from relay.call.refusal import ALLOW
from relay.sip.message import Request, Response
from relay.sip.reliable import FIRST_AT_MOST, OPTION, RAck

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.caller import CallerLeg

MOST_QUEUED = 8  # further ones say nothing new to a caller that does not acknowledge


class ReliableProgress:
    """One response waits for its PRACK, the others for that one (section 3).

    Each early dialog counts for itself: towards the caller it is a peer of its own.
    """

    __slots__ = ("_alarm", "_deadline", "_gap", "_last", "_leg", "_queue", "_waiting")

    def __init__(self, leg: CallerLeg) -> None:
        self._leg = leg
        self._queue: deque[Response] = deque()
        self._waiting: Response | None = None
        self._last: dict[str | None, int] = {}
        self._alarm: Alarm | None = None
        self._gap = self._deadline = 0.0

    @property
    def holds_sdp(self) -> bool:
        """A description is not acknowledged yet: the 2xx has to wait."""
        waiting = self._waiting is not None and bool(self._waiting.body)
        return waiting or any(response.body for response in self._queue)

    def send(self, response: Response, now: float) -> None:
        if len(self._queue) < MOST_QUEUED:
            response.headers.add("Require", OPTION)
            response.headers.add("Allow", ALLOW)  # UPDATE is possible from here on
            self._queue.append(response)
            self._next(now)

    def acknowledge(self, prack: Request) -> Response | None:
        """The response that a PRACK is for; None when it fits nothing (481)."""
        response, rack = self._waiting, RAck.of(prack)
        if response is None or rack is None or prack.to.tag != response.to.tag:
            return None
        invite = self._leg.invite.request
        if rack != (self._last[response.to.tag], invite.cseq.number, "INVITE"):
            return None
        self._waiting = None
        self._disarm()
        return response

    def go_on(self, now: float) -> None:
        """The next one, if there is."""
        self._next(now)

    def stop(self) -> None:
        """A final response says all; the PRACK that is under way is still accepted."""
        self._queue.clear()
        self._disarm()

    def on_timer(self, now: float) -> None:
        self._alarm = None
        if self._waiting is None:
            return
        if now >= self._deadline:
            self._waiting = None
            self._leg.on_no_prack(now)
            return
        self._leg.respond(self._leg.invite.tx, self._waiting)
        self._gap *= 2
        self._arm(now)

    def _next(self, now: float) -> None:
        if self._waiting is not None or not self._queue:
            return
        response = self._waiting = self._queue.popleft()
        tag, timers = response.to.tag, self._leg.timers
        first = 1 + int(self._leg.call.calls.chance() * (FIRST_AT_MOST - 1))
        self._last[tag] = self._last.get(tag, first - 1) + 1
        response.headers.add("RSeq", str(self._last[tag]))
        self._gap, self._deadline = timers.t1_s, now + 64 * timers.t1_s
        self._leg.respond(self._leg.invite.tx, response)
        self._arm(now)

    def _arm(self, now: float) -> None:
        self._alarm = self._leg.alarms.set(self, min(now + self._gap, self._deadline))

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
