"""Reaching a peer: one address after the other, until one answers for good.

A `Hunt` is given targets in order. Each resolves to one or more hops (RFC 3263), each hop is
one attempt with a leg of its own: own Call-ID, tags and Contact. It tells its client only
what the caller may hear: who rings, who answered, and, when all have failed, the best of the
failures. Silence, a broken transport and any status that is not `failure.FINAL` move on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.call import health
from relay.call.callee import CalleeLeg
from relay.call.events import Answered, CallEvent, Rang, Rejected
from relay.call.failure import REDIRECTS, UNHEARD, is_final, ours, rank, redirect, told
from relay.call.ports import LEADS_OUT, Side
from relay.errors import RelayError
from relay.residency.boundary import Use
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.call import Call
    from relay.call.clients import Client as VoiceClient

CALLED = "the called side"  # to the caller: which trunk that is, is not its affair


class State(Enum):
    """Where a hunt is."""

    SEEKING = auto()  # between two attempts: an address is being looked up
    TRYING = auto()  # an INVITE is out
    ANSWERED = auto()
    OVER = auto()  # all failed, or nobody wants it any more

    __hash__ = object.__hash__  # members are single; the default hashes their name each time


class Event(Enum):
    """What moves a hunt on."""

    SENT = "INVITE sent"
    NOT_REACHED = "no address, or nothing to send"
    SILENT = "not even a 100 in time"
    FAILED = "failure that another address may cure"
    REFUSED = "failure for good"
    REDIRECTED = "redirect"
    ANSWERED = "2xx"
    EXHAUSTED = "no address left"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__


class Action(Enum):
    """What a transition does; the value is the name of its method."""

    WAIT = "_wait"
    STOP_WAITING = "_stop_waiting"
    ABANDON = "_abandon"
    NEXT = "_next"
    REPORT = "_report"

    __hash__ = object.__hash__


S, E, A = State, Event, Action

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    # An absent pair is ignored: a late answer of an abandoned attempt changes nothing here.
    (S.SEEKING, E.SENT): (S.TRYING, (A.WAIT,)),
    (S.SEEKING, E.NOT_REACHED): (S.SEEKING, (A.NEXT,)),
    (S.SEEKING, E.REFUSED): (S.OVER, (A.ABANDON, A.REPORT)),
    (S.SEEKING, E.EXHAUSTED): (S.OVER, (A.ABANDON, A.REPORT)),
    (S.SEEKING, E.CANCELLED): (S.OVER, (A.ABANDON,)),
    (S.TRYING, E.SILENT): (S.SEEKING, (A.ABANDON, A.NEXT)),
    (S.TRYING, E.FAILED): (S.SEEKING, (A.STOP_WAITING, A.NEXT)),
    (S.TRYING, E.REDIRECTED): (S.SEEKING, (A.STOP_WAITING, A.NEXT)),
    (S.TRYING, E.REFUSED): (S.OVER, (A.STOP_WAITING, A.REPORT)),
    (S.TRYING, E.ANSWERED): (S.ANSWERED, (A.STOP_WAITING,)),
    (S.TRYING, E.CANCELLED): (S.OVER, (A.STOP_WAITING, A.ABANDON)),
}


class Target(NamedTuple):
    """An address to try; `origin` is the origination URI that it stands for, or "".

    A device of a voice client is `client`'s, and reached over the connection `hop` only.
    """

    uri: SipUri
    origin: str = ""
    redirected: bool = False  # the peer named it, not the configuration
    last_resort: bool = False  # for disaster recovery: after all others, whatever their health
    hop: Hop | None = None
    client: VoiceClient | None = None
    direct: bool = False  # this device was called by its GRUU: no other one counts


class Client(Protocol):
    """Who wants somebody reached: a call, or a transfer."""

    def on_attempt(self, leg: CalleeLeg) -> None:
        """`leg` is tried now, in place of the one before."""

    def feed(self, event: CallEvent, now: float) -> None:
        """Rang, as often as it happens; then Answered or Rejected, once."""


# Writes the INVITE of one attempt. Raises RelayError when this hop cannot be tried.
Invitation = Callable[[CalleeLeg, SipUri, Hop], Request]


class Hunt:
    """The attempts to reach one side of a call. `leg` is the one that counts now."""

    __slots__ = (
        "_alarm",
        "_best",
        "_call",
        "_client",
        "_delayed_offer",
        "_hops",
        "_invitation",
        "_reason",
        "_redirected",
        "_side",
        "_target",
        "_targets",
        "_tried",
        "_trunk",
        "_try_next_after_s",
        "leg",
        "state",
    )

    def __init__(
        self,
        call: Call,
        client: Client,
        trunk: str,
        targets: Sequence[Target],
        invitation: Invitation,
        try_next_after_s: float,
        delayed_offer: bool = False,
        side: Side = Side.CALLEE,
    ) -> None:
        """`trunk` is whose leg it will be; `delayed_offer` leaves the offer to the peer."""
        self._call = call
        self._client = client
        self._trunk = trunk
        self._targets = call.calls.health.order(trunk, targets)
        self._invitation = invitation
        self._try_next_after_s = try_next_after_s
        self._delayed_offer = delayed_offer
        self._side = side
        self._target = self._targets[0]
        self._hops: list[Hop] = []
        self._best: Rejected | None = None
        self._alarm: Alarm | None = None
        self._redirected = False
        self._reason = ""
        self._tried = 0
        self.state = State.SEEKING
        self.leg = CalleeLeg(call, trunk, self, side)
        client.on_attempt(self.leg)

    def start(self, now: float) -> None:
        """Try the first target."""
        self._next(now)

    def cancel(self, now: float, reason: str = "") -> None:
        """Nobody wants an answer any more; one that crosses is acknowledged and ended. `reason`
        is told."""
        self._reason = reason
        self._feed(Event.CANCELLED, now)

    def let_go(self) -> None:
        """The call is over: undo the reference cycles."""
        del self.leg, self._client, self._invitation

    # --- from the leg that is tried

    def on_rang(self, leg: CalleeLeg, event: Rang, now: float) -> None:
        if self._counts(leg):
            self._client.feed(event, now)

    def on_answered(self, leg: CalleeLeg, event: Answered, now: float) -> None:
        if self._counts(leg):
            self._saw(health.Event.ANSWERED, "a call was answered", now)
            self._feed(Event.ANSWERED, now)
            self._client.feed(event, now)

    def on_refused(
        self, leg: CalleeLeg, status: int, response: Response | None, now: float
    ) -> None:
        """A final response that is none of 2xx, or None: timed out (408), not sent (503),
        answered in a way that leads nowhere (502)."""
        if not self._counts(leg):
            return
        well = status == 502 if response is None else status != 503
        self._saw(
            health.Event.ANSWERED if well else health.Event.FAILED, f"a call met {status}", now
        )
        if response is None:
            text = UNHEARD.get(status, "could not be reached")
            self._note(ours(status, f"{CALLED} {text}"))
            self._feed(Event.REFUSED if status == 502 else Event.FAILED, now)
        elif status in REDIRECTS:
            self._redirect(status, response, now)
        else:
            final = is_final(status)
            self._note(told(status, response), own_word=final)
            self._feed(Event.REFUSED if final else Event.FAILED, now)

    def on_timer(self, now: float) -> None:
        """`try_next_after_s` have passed since the INVITE."""
        self._alarm = None
        if self.leg.invite is None or self.leg.invite.heard:
            return
        waited = f"did not answer within {self._try_next_after_s:g} s"
        self._saw(health.Event.FAILED, "a call was not answered in time", now)
        self._note(ours(408, f"{CALLED} {waited}"))
        self._feed(Event.SILENT, now)

    # --- the table and its actions

    def _feed(self, event: Event, now: float) -> None:
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            getattr(self, action.value)(now)

    def _next(self, now: float) -> None:
        """The next hop of this target, else the next target."""
        if self._hops:
            self._try(self._hops.pop(0), now)
        elif self._targets:
            self._target = self._targets.pop(0)
            self._call.calls.signalling.locate(self._target.uri, self._located, self._allows)
        else:
            self._feed(Event.EXHAUSTED, now)

    def _located(self, hops: tuple[Hop, ...], why: str, now: float) -> None:
        """The answer to `locate`; without a hop, `why` says so."""
        if self.state is not State.SEEKING:
            return  # cancelled meanwhile
        if hops:
            self._hops = list(hops)
            self._next(now)
            return
        status = 403 if why in LEADS_OUT else None
        if self._target.redirected:
            self._refuse(f"{CALLED} redirected the call elsewhere: {why}", now, status or 480)
            return
        self._saw(health.Event.FAILED, why, now)
        self._note(ours(status or 503, f"{CALLED} cannot be reached: {why}"))
        self._feed(Event.NOT_REACHED, now)

    def _allows(self, use: Use, host: str, port: int) -> bool:
        """Whether the call may use an address of the target, and what led to it."""
        if use is Use.SIGNALLING and self._target.redirected:
            use = Use.REDIRECT
        elif use is Use.SIGNALLING and self._call.transferring:
            use = Use.REFER
        return self._call.trail.allows(self._side, use, host, port)

    def _try(self, hop: Hop, now: float) -> None:
        if self.leg.invite is not None:
            self._replace_leg()
        leg = self.leg
        leg.contact = leg.signalling.contact(hop, self._target.uri.scheme == "sips")
        try:
            invite = self._invitation(leg, self._target.uri, hop)
        except RelayError as error:
            self._note(ours(error.status_hint, str(error)))
            self._feed(Event.NOT_REACHED, now)
            return
        self._tried += 1
        self._feed(Event.SENT, now)
        leg.start(invite, hop, self._delayed_offer)

    def _replace_leg(self) -> None:
        left = self.leg
        left.abandoned = True
        self.leg = CalleeLeg(self._call, self._trunk, self, self._side)
        self._client.on_attempt(self.leg)
        if left.gone:
            left.let_go()

    def _wait(self, now: float) -> None:
        """The last one may take its time: there is nowhere else to go."""
        if self._hops or self._targets:
            self._alarm = self._call.calls.alarms.set(self, now + self._try_next_after_s)

    def _stop_waiting(self, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _abandon(self, now: float) -> None:
        self.leg.cancel(self._reason)

    def _report(self, now: float) -> None:
        best = self._best
        assert best is not None
        if best.text and self._tried > 1:
            best = ours(best.status, f"{best.text}; {self._tried} addresses were tried")
        self._client.feed(best, now)

    # --- inside

    def _counts(self, leg: CalleeLeg) -> bool:
        return self.state is State.TRYING and leg is self.leg

    def _redirect(self, status: int, response: Response, now: float) -> None:
        """Followed once."""
        if self._redirected:
            self._refuse(f"{CALLED} redirected the call twice: once is followed", now)
            return
        uri = redirect(response, self._target.uri.user)
        if uri is None:
            self._refuse(f"{CALLED} redirected the call to no SIP address", now)
            return
        self._redirected = True
        self._hops = []
        self._targets.insert(0, Target(uri, redirected=True))
        self._call.calls.counters["redirected"] += 1
        self._log("call_redirected", status=status, to=uri.host)
        self._feed(Event.REDIRECTED, now)

    def _saw(self, event: health.Event, why: str, now: float) -> None:
        """What it says of the address; of a name's, when no other hop is left to try."""
        if event is health.Event.ANSWERED or not self._hops:
            self._call.calls.health.saw(self._trunk, self._target.origin, event, why, now)

    def _refuse(self, text: str, now: float, status: int = 480) -> None:
        """A redirect that is not followed ends the hunt, whatever was heard before."""
        self._best = None
        self._note(ours(status, text))
        self._feed(Event.REFUSED, now)

    def _note(self, failure: Rejected, own_word: bool = False) -> None:
        """Keep the failure that tells the caller most (RFC 3261 section 16.7, step 6); what is
        not the callee's own word is the address's, and told."""
        if own_word or self._best is None or rank(failure) < rank(self._best):
            self._best = failure
        if own_word:
            return
        self._call.calls.counters["attempts_failed"] += 1
        self._log(
            "attempt_failed",
            trunk=self._trunk,
            target=self._target.uri.host_port,
            status=failure.status,
            why=failure.text or "answered",
        )

    def _log(self, name: str, **fields: object) -> None:
        self._call.calls.journal.event(name, self._call.id, **fields)
