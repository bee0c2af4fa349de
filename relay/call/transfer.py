"""Blind transfer: a REFER ends here and becomes an INVITE of ours (RFC 3515, RFC 5589).

    transferor ──REFER──▶ call ──INVITE──▶ target, which takes the transferor's side
    transferor ◀─NOTIFY── call ◀──re-INVITE──▶ transferee, which stays

The target is offered what the transferee can do, and is connected when it answers; until
then, and when it does not, the call stays as it was. The states are the call's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.call import events as e
from relay.call.fork import seek
from relay.call.invitation import SECURE, invite_for, party
from relay.call.refer import check, find_target, invitation
from relay.call.renegotiation import Renegotiation
from relay.call.subscription import Subscription
from relay.errors import NotAcceptable, RelayError
from relay.sip.message import Request
from relay.sip.transaction import Hop
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.callee import CalleeLeg
    from relay.call.end import End
    from relay.call.leg import Leg

BYE_AFTER_S = 3.0  # a transferor that has what it wanted hangs up by itself, or is helped


class Transfer:
    """One accepted REFER. `leg` is the target's, `transferor` the one whose side it takes."""

    __slots__ = (
        "_admitted",
        "_alarm",
        "_call",
        "_failed",
        "_hunt",
        "_invitation",
        "_proposal",
        "_secure",
        "_subscription",
        "_trunk",
        "asked",
        "leg",
        "transferee",
        "transferor",
    )

    leg: CalleeLeg

    def __init__(self, leg: Leg, refer: Request, now: float) -> None:
        """Raises what refuses the REFER; nothing is held in that case."""
        self._call = call = leg.call
        calls = call.calls
        self.transferor = leg
        self.transferee = call.leg(leg.side.other)
        self.asked: Leg | None = None  # nobody: as an exchange it is our own
        self._alarm: Alarm | None = None
        check(call)
        self._trunk, targets, sips = find_target(leg, refer, now)
        first = targets[0]
        callee = calls.router.peer(self._trunk)
        self._secure = sips or callee.secure
        if not call.recording.running:
            call.recording.check(calls.router.recording(self.transferee.trunk, self._trunk))
        self._proposal: End | None = None
        self._invitation = invitation(self.transferee, leg, refer)
        self._failed = False
        self._subscription = Subscription(leg, refer, not leg.referred, calls.ring_timeout_s)
        self._admitted = tuple(dict.fromkeys((leg.trunk, self._trunk)))
        calls.admission.admit(self._admitted, now)
        self._hunt = seek(call, self, callee, targets, self._invite, side=leg.side)
        self._log(
            "call_referred",
            side=leg.side.name.lower(),
            to=self._trunk,
            callee_number=first.client.identity if first.client is not None else first.uri.user,
        )

    @property
    def told(self) -> bool:
        """Whether the transferor wants to hear how it goes (RFC 4488)."""
        return self._subscription.wanted

    @property
    def is_over(self) -> bool:
        """It failed, and nothing of its target can come any more."""
        return self._failed and self.leg.gone

    # --- the call's actions

    def start(self, now: float) -> None:
        """Try the target; no offer of either side comes between."""
        self._call.exchange = self
        self.transferor.referred = True
        self._subscription.tell(100)
        self._alarm = self._call.calls.alarms.set(self, now + self._call.calls.ring_timeout_s)
        self._hunt.start(now)

    def progress(self, status: int) -> None:
        self._subscription.tell(status)

    def connect(self, sdp: bytes, now: float) -> None:
        """The target answered: it takes the transferor's side."""
        call, side = self._call, self.transferor.side
        left = call.notes.leaving(call, self.transferor)
        try:
            if not sdp:
                raise NotAcceptable("the target answered without a session description")
            assert self._proposal is not None
            told = call.negotiation.take_over(side, self._proposal, sdp)
        except RelayError as error:
            self.leg.hang_up('Q.850;cause=127;text="the session description is of no use"')
            self.give_up(NotAcceptable.status_hint, now)
            if self.transferor.gone:
                call.feed(e.NegotiationFailed(str(error)), now)
            return
        self._over()
        call.admitted = (*call.admitted, self._trunk)
        call.calls.admission.release(tuple(n for n in self._admitted if n != self._trunk))
        call.calls.counters["transferred"] += 1
        self._log("call_transferred", side=side.name.lower(), to=self._trunk)
        call.connect(self, left)
        self._subscription.end(200)
        if not self.transferor.gone:
            self._alarm = call.calls.alarms.set(self, now + BYE_AFTER_S)
        if told:
            Renegotiation(self.transferee, told).start(now)

    def give_up(self, status: int, now: float) -> None:
        """The target failed with `status`, or is wanted no more."""
        self._failed = True
        self._hunt.cancel(now)
        self._over()
        self._call.calls.admission.release(self._admitted)
        self._call.calls.counters["transfers_failed"] += 1
        self._log("transfer_failed", status=status)
        self._subscription.end(status)

    def finish(self) -> None:
        """The call ends: so does a transferor that had not hung up yet."""
        self._disarm()
        if self._call.leg(self.transferor.side) is not self.transferor:
            self.transferor.hang_up()

    def abandon(self) -> None:
        """As an exchange: `give_up` came first."""

    def let_go(self) -> None:
        """The call is over on all sides: undo the reference cycles."""
        self._hunt.let_go()
        self.leg.let_go()

    def on_timer(self, now: float) -> None:
        self._alarm = None
        if self._call.leg(self.transferor.side) is self.transferor:
            self._call.feed(e.RingTimedOut(), now)
        else:
            self.transferor.hang_up()

    # --- the hunt's client

    def on_attempt(self, leg: CalleeLeg) -> None:
        """The target is tried at another address."""
        self.leg = leg

    def feed(self, event: e.CallEvent, now: float) -> None:
        self._call.feed(event, now)

    # --- inside

    def _invite(self, leg: CalleeLeg, target: SipUri, hop: Hop) -> Request:
        """The INVITE of one attempt, with keys of its own."""
        if self._secure and hop.transport not in SECURE:  # it was redirected there
            raise NotAcceptable("its address is not reached over TLS, which this call needs")
        call, router = self._call, self._call.calls.router
        ipv6 = ":" in call.media.local(leg.side).host
        if leg.client is None and (":" in hop.host) != ipv6:
            raise NotAcceptable("its address is of another IP version than the call's media")
        callee = router.peer(leg.trunk)
        if self._proposal is None or leg.client is None:  # devices that ring at once share one
            self._proposal = call.negotiation.propose(
                leg.side, party(callee), call.calls.session_id()
            )
        return invite_for(leg, self.transferee, self._invitation, target, self._proposal.body)

    def _over(self) -> None:
        self._disarm()
        if self._call.exchange is self:
            self._call.exchange = None

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _log(self, name: str, **fields: object) -> None:
        self._call.calls.journal.event(name, self._call.id, **fields)
