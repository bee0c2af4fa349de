"""Reaching a voice client: all its devices ring together, and the first that answers has the call.

The parallel fork of RFC 3261 section 16.7. Each device has a leg of its own; all are offered
the same description, which holds no keys (WebRTC has them from DTLS), so that the caller's
negotiation serves whichever answers. Of several devices the caller hears as of one: one early
dialog, no early media, and the best failure when all have failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from relay.call.callee import CalleeLeg
from relay.call.events import Answered, Rang, Rejected
from relay.call.failure import ours, rank, told
from relay.call.hunt import CALLED, Client, Hunt, Invitation, Target
from relay.call.ports import Side
from relay.config import Account
from relay.errors import RelayError
from relay.sip.message import Response

if TYPE_CHECKING:
    from relay.call.call import Call
    from relay.config import Trunk

ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'  # RFC 3326: no call was missed


class State(Enum):
    """Where a fork is."""

    RINGING = auto()  # an INVITE is out to at least one device
    ANSWERED = auto()
    OVER = auto()  # all failed, or nobody wants it any more

    __hash__ = object.__hash__  # members are single; the default hashes their name each time


class Event(Enum):
    """What ends the ringing."""

    ANSWERED = "first 2xx"
    REFUSED = "6xx: the person does not want the call on any device"
    EXHAUSTED = "no device left"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__


class Action(Enum):
    """What a transition does; the value is the name of its method."""

    CANCEL_OTHERS = "_cancel_others"
    CANCEL_ALL = "_cancel_all"
    REPORT = "_report"

    __hash__ = object.__hash__


S, E, A = State, Event, Action

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Action, ...]]] = {
    # An absent pair is ignored: who answers after another is acknowledged and ended by its leg.
    (S.RINGING, E.ANSWERED): (S.ANSWERED, (A.CANCEL_OTHERS,)),
    (S.RINGING, E.REFUSED): (S.OVER, (A.CANCEL_ALL, A.REPORT)),
    (S.RINGING, E.EXHAUSTED): (S.OVER, (A.CANCEL_ALL, A.REPORT)),
    (S.RINGING, E.CANCELLED): (S.OVER, (A.CANCEL_ALL,)),
}


class Fork:
    """The attempts to reach one voice client, all at once. `leg` is the one that counts."""

    __slots__ = (
        "_account",
        "_best",
        "_call",
        "_client",
        "_delayed_offer",
        "_invitation",
        "_legs",
        "_name",
        "_reason",
        "_said",
        "_side",
        "_targets",
        "leg",
        "state",
    )

    def __init__(
        self,
        call: Call,
        client: Client,
        account: Account,
        targets: Sequence[Target],
        invitation: Invitation,
        delayed_offer: bool = False,
        side: Side = Side.CALLEE,
    ) -> None:
        """`targets` are the devices, each with its connection as its hop; `delayed_offer`
        leaves the offer to them."""
        self._call = call
        self._client = client
        self._account = account
        called = targets[0].client
        assert called is not None
        self._name = account.name, called.identity
        self._targets = list(targets)
        self._invitation = invitation
        self._delayed_offer = delayed_offer
        self._side = side
        self._best: Rejected | None = None
        self._reason = ""
        self._said: dict[CalleeLeg, bytes] = {}  # in an 18x that the caller did not hear
        self._legs = [self._new_leg(target) for target in targets]
        self.state = State.RINGING
        self.leg = self._legs[0]
        client.on_attempt(self.leg)

    def start(self, now: float) -> None:
        """Ring all."""
        if not self._targets[0].direct and not self._delayed_offer:
            self._call.calls.ringing.setdefault(self._name, []).append(self)
        for leg, target in zip(list(self._legs), self._targets, strict=True):
            self._ring(leg, target, now)

    def join(self, target: Target, now: float) -> None:
        """Another device has registered meanwhile. It rings, too, unless the caller hears one
        of the others already."""
        if self.state is not State.RINGING or self._call.branches.count:
            return
        if len(self._legs) >= self._account.contacts or target.hop in [x.hop for x in self._legs]:
            return
        leg = self._new_leg(target)
        self._legs.append(leg)
        self._ring(leg, target, now)

    def cancel(self, now: float, reason: str = "") -> None:
        """Nobody wants an answer any more; `reason` is told."""
        self._reason = reason
        self._feed(Event.CANCELLED, now)

    def let_go(self) -> None:
        """The call is over: undo the reference cycles."""
        self._legs.clear()
        self._said.clear()
        del self.leg, self._client, self._invitation

    # --- from the legs

    def on_rang(self, leg: CalleeLeg, event: Rang, now: float) -> None:
        if self.state is not State.RINGING:
            return
        if len(self._legs) > 1:
            self._said[leg] = event.sdp or self._said.get(leg, b"")
            event = Rang(self._branch, event.status, event.reason, b"")
        self._client.feed(event, now)

    def on_answered(self, leg: CalleeLeg, event: Answered, now: float) -> None:
        if self.state is not State.RINGING:
            return
        if len(self._legs) > 1:
            event = Answered(self._branch, event.sdp or self._said.get(leg, b""))
        if leg is not self.leg:
            self.leg = leg
            self._client.on_attempt(leg)
        self._feed(Event.ANSWERED, now)
        self._client.feed(event, now)

    def on_refused(
        self, leg: CalleeLeg, status: int, response: Response | None, now: float
    ) -> None:
        """A final response that is none of 2xx, or None: it did not come to one."""
        if self.state is not State.RINGING:
            return
        if response is None:
            self._failed(leg, ours(480, f"{CALLED} could not be reached"), now)
        else:
            self._failed(leg, told(status, response), now)

    # --- the table and its actions

    def _feed(self, event: Event, now: float) -> None:
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        self._rings_no_more()
        for action in actions:
            getattr(self, action.value)(now)

    def _cancel_others(self, now: float) -> None:
        for leg in self._legs:
            if leg is not self.leg:
                self._leave(leg, ELSEWHERE)
        self._legs = [self.leg]

    def _cancel_all(self, now: float) -> None:
        for leg in self._legs:
            if leg is not self.leg:
                self._leave(leg, self._reason)
        self.leg.cancel(self._reason)

    def _report(self, now: float) -> None:
        assert self._best is not None
        self._client.feed(self._best, now)

    # --- inside

    def _rings_no_more(self) -> None:
        ringing = self._call.calls.ringing
        forks = ringing.get(self._name, [])
        if self in forks:
            forks.remove(self)
            if not forks:
                del ringing[self._name]

    def _new_leg(self, target: Target) -> CalleeLeg:
        leg = CalleeLeg(self._call, self._account.name, self, self._side)
        leg.client = target.client
        leg.reuse = target.hop
        leg.alone = len(self._targets) == 1
        return leg

    def _ring(self, leg: CalleeLeg, target: Target, now: float) -> None:
        assert target.hop is not None
        leg.contact = leg.signalling.contact(target.hop, target.uri.scheme == "sips")
        try:
            leg.admit(target.hop)
            invite = self._invitation(leg, target.uri, target.hop)
        except RelayError as error:
            leg.leave()
            self._failed(leg, ours(error.status_hint, str(error)), now)
            return
        leg.start(invite, target.hop, self._delayed_offer)

    @property
    def _branch(self) -> str:
        """The one early dialog that the caller sees of several devices."""
        return f"{self._call.id} devices"

    def _leave(self, leg: CalleeLeg, reason: str) -> None:
        """It rings no more; what it still says concerns nobody but itself."""
        leg.abandoned = True
        leg.cancel(reason)
        if leg.gone:
            leg.let_go()

    def _failed(self, leg: CalleeLeg, failure: Rejected, now: float) -> None:
        if self._best is None or rank(failure) < rank(self._best):
            self._best = failure
        self._call.calls.counters["attempts_failed"] += 1
        self._call.calls.journal.event(
            "attempt_failed",
            self._call.id,
            trunk=leg.trunk,
            target=leg.hop.host if leg.hop is not None else "",
            status=failure.status,
            why=failure.text or "answered",
        )
        if failure.status >= 600:
            self._feed(Event.REFUSED, now)
        elif all(each.gone for each in self._legs):
            self._feed(Event.EXHAUSTED, now)


def seek(
    call: Call,
    client: Client,
    peer: Trunk | Account,
    targets: Sequence[Target],
    invitation: Invitation,
    delayed_offer: bool = False,
    side: Side = Side.CALLEE,
) -> Hunt | Fork:
    """How `peer` is reached: a trunk's addresses in turn, a voice client's devices at once."""
    if isinstance(peer, Account):
        return Fork(call, client, peer, targets, invitation, delayed_offer, side)
    wait_s = peer.try_next_after_s
    return Hunt(call, client, peer.name, targets, invitation, wait_s, delayed_offer, side)
