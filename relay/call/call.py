"""A call: two legs and one table of what happens when. Read this first.

    caller ──INVITE──▶ CallerLeg ─▶ Call ─▶ CalleeLeg ──INVITE──▶ callee

The legs speak SIP and report events (`relay.call.events`); the table in
`relay.call.transitions` says what each event does in each state; the actions below tell the
other leg, the engine and the recorder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.call import events as e
from relay.call.branches import Branches
from relay.call.callee import CalleeLeg
from relay.call.caller import CallerLeg
from relay.call.ending import cancelled_status, q850, rejection, target_status
from relay.call.leg import Leg
from relay.call.negotiation import Negotiation
from relay.call.ports import (
    SIDES,
    CallMedia,
    ConsentLost,
    DropBurst,
    DtmfPressed,
    FirstPacket,
    Latched,
    MediaEvent,
    PathSelected,
    Secured,
    SecuringFailed,
    Side,
    StreamChanged,
)
from relay.call.recording import CallRecording
from relay.call.refusal import refuse
from relay.call.transitions import TRANSITIONS, Action, State
from relay.errors import NoCommonCodec, RelayError, Unrecordable
from relay.residency.boundary import Use
from relay.sip.reasons import REASONS

if TYPE_CHECKING:
    from relay.call.alarms import Alarm
    from relay.call.calls import Calls
    from relay.call.fork import Fork
    from relay.call.hunt import Hunt
    from relay.call.midcall import MidCall
    from relay.call.record import Notes
    from relay.call.renegotiation import Renegotiation
    from relay.call.session_timer import Refresh
    from relay.call.trail import Trail
    from relay.call.transfer import Transfer
    from relay.residency.record import LegRecord


class Call:
    """Two legs, their media, and perhaps a recording."""

    def __init__(self, calls: Calls, call_id: str, now: float, trail: Trail) -> None:
        self.calls = calls
        self.trail = trail
        self.id = call_id
        self.state = State.CALLING
        self.started = now
        self.exchange: MidCall | Refresh | Renegotiation | Transfer | None = None
        self.transfers: list[Transfer] = []
        self.caller: CallerLeg
        self.callee: CalleeLeg
        self.hunt: Hunt | Fork
        self.media: CallMedia
        self.negotiation: Negotiation
        self.branches: Branches
        self.notes: Notes
        self.recording = CallRecording(calls, call_id)
        self.admitted: tuple[str, ...] = ()
        self._joined: dict[Side, Leg] = {}  # legs that took a side over, by a transfer
        self._rang: set[tuple[int, bool]] = set()
        self._alarm: Alarm | None = None
        self._cause = ""
        self._early_media = False
        self._finished = self._let_go = False
        self._answered_at: float | None = None

    # --- asked by the legs

    @property
    def ended(self) -> bool:
        return self.state is State.ENDED

    @property
    def transferring(self) -> bool:
        return self.state in (State.TRANSFERRING, State.HANDED_OVER)

    @property
    def legs(self) -> tuple[Leg, Leg]:
        return self.leg(Side.CALLER), self.leg(Side.CALLEE)

    def leg(self, side: Side) -> Leg:
        """The leg that has this side now."""
        if self._joined and side in self._joined:
            return self._joined[side]
        return self.caller if side is Side.CALLER else self.callee

    def has(self, leg: Leg) -> bool:
        """Whether this leg has its side now: not that of an attempt that was left, nor one
        that is not connected yet, or not any more."""
        return not self.ended and self.leg(leg.side) is leg

    def has_had(self, leg: Leg) -> bool:
        """Whether this leg has its side, or had it until the call ended."""
        return self.leg(leg.side) is leg

    def connect(self, transfer: Transfer, left: LegRecord) -> None:
        """The target of a transfer has the transferor's side from now on; `left` is what the
        transferor had."""
        transfer.transferor.session.stop()
        self.notes.left(left)
        self._joined[transfer.leg.side] = transfer.leg
        policy = self.calls.router.recording(transfer.transferee.trunk, transfer.leg.trunk)
        self.recording.joined(policy, self.media, self.negotiation)

    def hung_up(self, leg: Leg, reason: str, now: float) -> None:
        """A leg that has a side got BYE."""
        if self.transferring and leg is self.transfers[-1].transferor:
            self.feed(e.TransferorLeft(), now)
        else:
            self.feed(e.HungUp(leg.side, reason), now)

    def settle_early(self) -> bool:
        """Whether an UPDATE may change the session before the answer: what the one branch
        said was acknowledged on both legs (RFC 3311 section 5.1)."""
        ready = self.caller.live is not None and self.callee.live is not None
        if not ready or self.branches.count != 1 or self.caller.holds_sdp:
            return False
        if not self.branches.settled:
            self.branches.settled = True
            self.negotiation.close()
        return True

    def let_go(self) -> None:
        """Once over and both legs gone: undo the reference cycles, so that the memory is free
        at once and not when the garbage collector comes by."""
        if self._finished and not self._let_go and self.caller.gone and self.callee.gone:
            if not all(transfer.leg.gone for transfer in self.transfers):
                return
            self._let_go = True
            self.caller.let_go()
            self.callee.let_go()
            self.hunt.let_go()
            for transfer in self.transfers:
                transfer.let_go()
            self._joined.clear()
            self.transfers.clear()
            del self.caller, self.callee, self.hunt
            # A 2xx of a fork may come for 32 s; for that the callee's leg is enough.
            del self.negotiation, self.media, self.branches

    # --- events

    def feed(self, event: e.CallEvent, now: float) -> None:
        """One event; the table says what follows."""
        found = TRANSITIONS.get((self.state, type(event)))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            _ACTIONS[action](self, event, now)
            if self._finished:  # by this action, or by what came of it
                return

    def on_attempt(self, leg: CalleeLeg) -> None:
        """The callee is tried at another address."""
        self.callee = leg

    def ring_until(self, deadline: float) -> None:
        """Give up when nobody has answered by `deadline`."""
        self._alarm = self.calls.alarms.set(self, deadline)

    def on_timer(self, now: float) -> None:
        """The time to answer is over, or the longest duration."""
        if self._answered_at is None:
            self.feed(e.RingTimedOut(), now)
        elif (limit := self.calls.admission.longest(self.admitted)) is not None:
            self.feed(e.LastedTooLong(limit[1]), now)

    def not_acknowledged(self, side: Side, now: float) -> None:
        self.feed(e.NotAcknowledged(side), now)

    def on_media(self, event: MediaEvent, now: float) -> None:
        """What the engine saw."""
        side = event.side.name.lower()
        if isinstance(event, DtmfPressed):
            self._key(side, event.key, event.duration_ms, "rfc4733")
        elif isinstance(event, Latched):
            self.trail.allows(event.side, Use.LATCH, event.host, event.port)
            self._log("media_latched", side=side, host=event.host, port=event.port)
        elif isinstance(event, FirstPacket):
            self._log("media_started", side=side)
        elif isinstance(event, DropBurst):
            self._log("media_drops", side=side, reason=event.reason, count=event.count)
        elif isinstance(event, StreamChanged):
            self._log("media_stream_changed", side=side)
        elif isinstance(event, PathSelected):
            self.trail.allows(event.side, Use.CANDIDATE, event.host, event.port)
            self._log("media_path_selected", side=side, host=event.host, port=event.port)
        elif isinstance(event, Secured):
            self.notes.suites[event.side] = event.suite
            self._log("media_secured", side=side, suite=event.suite)
        elif isinstance(event, ConsentLost):  # what it is followed by decides: a path, or silence
            self._log("media_consent_lost", side=side)
        elif isinstance(event, SecuringFailed):
            self.calls.counters["media_not_secured"] += 1
            self._log("media_not_secured", side=side, why=event.why)
            self.feed(e.NegotiationFailed(f"the {side}'s audio is not secured: {event.why}"), now)
        else:
            self.feed(e.SilentTooLong(event.side), now)

    def on_key(self, side: Side, key: str, duration_ms: int | None) -> None:
        """A key came in an INFO request."""
        self._key(side.name.lower(), key, duration_ms, "info")

    def _key(self, side: str, key: str, duration_ms: int | None, source: str) -> None:
        self._log("dtmf", side=side, key=key, duration_ms=duration_ms, source=source)

    # --- actions

    def _ring_caller(self, event: e.Rang, now: float) -> None:
        try:
            sdp = self.branches.rang(event.branch, event.sdp)
        except RelayError:  # what cannot be carried is left out; the 2xx decides
            sdp = b""
        self._early_media = self._early_media or bool(sdp)
        self.caller.ring(event, sdp, now)
        if (event.status, bool(sdp)) not in self._rang:  # a callee may repeat it for minutes
            self._rang.add((event.status, bool(sdp)))
            self._log("call_ringing", status=event.status, early_media=bool(sdp))

    def _answer_early(self, event: e.EarlyAnswered, now: float) -> None:
        """The caller's PRACK carries the answer to the offer of a reliable 18x."""
        if self.branches.settled:
            return
        try:
            sdp = self.negotiation.answer(Side.CALLER, event.sdp)
        except RelayError as error:
            self.feed(e.NegotiationFailed(str(error)), now)
            return
        self.branches.settled = True
        self.negotiation.close()
        self.callee.answer_early(sdp)

    def _answer_caller(self, event: e.Answered, now: float) -> None:
        self._disarm()
        try:
            sdp = self.branches.answered(event.branch, event.sdp)
            self.recording.check_codec(self.negotiation)
        except RelayError as error:
            self._cause = str(error)
            unfit = isinstance(error, NoCommonCodec | Unrecordable)
            invite, status = self.caller.invite, 488 if unfit else 502
            self.notes.status = status
            self.caller.refuse(invite.tx, invite.request, status, str(error))
            self.caller.leave()
            self.feed(e.NegotiationFailed(str(error)), now)
            return
        if not self.branches.delayed and self.exchange is None:
            self.negotiation.close()
        if self._early_media:
            self.negotiation.renew()
        self._answered_at = now
        if (limit := self.calls.admission.longest(self.admitted)) is not None:
            self._alarm = self.calls.alarms.set(self, now + limit[0])
        self.caller.answer(event.branch, sdp, now)
        self.calls.kept.keep(self.notes.answered(self, now))
        self._log(
            "call_answered",
            codec=self.negotiation.codec(),
            caller_srtp=self.negotiation.suite(Side.CALLER),
            callee_srtp=self.negotiation.suite(Side.CALLEE),
            **({"transcoded": True} if self.negotiation.transcoded else {}),
        )

    def _acknowledge_callee(self, event: e.Acknowledged, now: float) -> None:
        """The caller's ACK carries the answer when the callee made the offer."""
        if not self.branches.delayed or self.branches.settled:
            return
        sdp = b""
        try:
            sdp = self.negotiation.answer(Side.CALLER, event.sdp)
            self.recording.check_codec(self.negotiation)
        except RelayError as error:
            sdp, self._cause = b"", str(error)
        self.negotiation.close()
        self.callee.acknowledge(sdp)
        if not sdp:
            self.feed(e.NegotiationFailed(self._cause), now)
        else:
            self._record_answered(event, now)

    def _reject_caller(self, event: e.CallEvent, now: float) -> None:
        failure, invite = rejection(event), self.caller.invite
        status = failure.status
        text = failure.text
        if status == 488 and not text and "Warning" not in dict(failure.headers):
            text = self.negotiation.lacks()
        response = refuse(invite.request, status, self.caller.local_tag, text)
        response.reason = failure.reason or REASONS.get(status, "")
        for name, value in failure.headers:
            response.headers.add(name, value)
        self.notes.status = response.status
        invite.reject(response)
        self.caller.leave()
        # Not the peer's own phrase: it may hold anything, and this goes to the log.
        self._cause = self._cause or f"{status} {REASONS.get(status, '')}".rstrip()

    def _cancel_callee(self, event: e.CallEvent, now: float) -> None:
        cause = event.cause if isinstance(event, e.Cancelled) else ""
        self._cause = self._cause or cause or type(event).__name__
        self.notes.status = self.notes.status or cancelled_status(event)
        self.hunt.cancel(now, event.reason if isinstance(event, e.Cancelled) else "")

    def _hang_up_other(self, event: e.HungUp, now: float) -> None:
        self._cause = f"{event.side.name.lower()} hung up"
        self.leg(event.side.other).hang_up(event.reason)

    def _hang_up_both(self, event: e.CallEvent, now: float) -> None:
        number, text = q850(event)
        self._cause = text
        if isinstance(event, e.LastedTooLong):
            self._cause = event.text
            self.calls.counters["lasted_too_long"] += 1
        elif isinstance(event, e.Lost):
            self.calls.counters["lost"] += 1
        for leg in self.legs:
            leg.hang_up(f'Q.850;cause={number};text="{text}"')

    def _hang_up_transferee(self, event: e.CallEvent, now: float) -> None:
        """The target failed, and who transferred the call is not there any more."""
        status = target_status(event)
        self._cause = f"transfer failed: {status} {REASONS.get(status, '')}".rstrip()
        text = REASONS.get(status, "")
        self.transfers[-1].transferee.hang_up(f'SIP;cause={status};text="{text}"')

    def _reach_target(self, event: e.Referred, now: float) -> None:
        for transfer in [each for each in self.transfers if each.is_over]:
            self.transfers.remove(transfer)  # or a call of many failed ones would grow
            transfer.let_go()
        self.transfers.append(event.transfer)
        event.transfer.start(now)

    def _tell_transferor(self, event: e.Rang, now: float) -> None:
        self.transfers[-1].progress(event.status)

    def _connect_target(self, event: e.Answered, now: float) -> None:
        self.transfers[-1].connect(event.sdp, now)

    def _give_up_target(self, event: e.CallEvent, now: float) -> None:
        self.transfers[-1].give_up(target_status(event), now)

    def _record_ringing(self, event: e.CallEvent, now: float) -> None:
        self.recording.ringing(self.media, self.negotiation)

    def _record_answered(self, event: e.CallEvent, now: float) -> None:
        self.recording.answered(self.media, self.negotiation)

    def _finish(self, event: e.CallEvent, now: float) -> None:
        self._disarm()
        if self.exchange is not None:
            self.exchange.abandon()
        for transfer in self.transfers:
            transfer.finish()
        caller, callee = (self.media.figures(side) for side in SIDES)
        self.recording.stop(self.media, self.negotiation, caller, callee)
        self.media.close()
        talk_s = now - self._answered_at if self._answered_at is not None else 0.0
        self._log(
            "call_ended",
            cause=self._cause,
            duration_s=round(now - self.started, 3),
            talk_s=round(talk_s, 3),
            caller=_as_dict(caller),
            callee=_as_dict(callee),
        )
        figures = {Side.CALLER: caller, Side.CALLEE: callee}
        self.calls.kept.keep(self.notes.ended(self, event, self._cause, figures, now))
        self._finished = True
        self.calls.ended(self)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _log(self, name: str, **fields: object) -> None:
        self.calls.journal.event(name, self.id, **fields)


def _as_dict(figures: object) -> dict[str, object]:
    """The figures that say something, for the log."""
    found: dict[str, object] = {}
    for name in figures.__slots__:  # type: ignore[attr-defined]
        value = getattr(figures, name)
        if value is not None:
            found[name] = round(value, 2) if type(value) is float else value
    return found


_ACTIONS: dict[Action, Callable[..., None]] = {
    action: getattr(Call, f"_{action.name.lower()}") for action in Action
}
