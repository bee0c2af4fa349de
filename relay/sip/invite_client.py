"""INVITE client transaction (RFC 3261 section 17.1.1, RFC 6026 section 7.2)."""

from __future__ import annotations

from typing import ClassVar

from relay.sip.fields import Headers
from relay.sip.machine import Action as A
from relay.sip.machine import ClientTransaction, State, Transitions
from relay.sip.machine import Event as E
from relay.sip.message import Message, Request
from relay.sip.outputs import Hop, Output, Send
from relay.sip.timers import Timers, TimerStore

S = State

TRANSITIONS: Transitions = {
    # An absent pair is ignored: a late or repeated message changes nothing.
    (S.CALLING, E.START): (S.CALLING, (A.SEND_REQUEST, A.ARM_A, A.ARM_B)),
    (S.CALLING, E.TIMER_A): (S.CALLING, (A.SEND_REQUEST, A.ARM_A)),
    (S.CALLING, E.TIMER_B): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.CALLING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.CALLING, E.PROVISIONAL): (S.PROCEEDING, (A.STOP_TIMERS, A.PASS_UP)),
    (S.CALLING, E.SUCCESS): (S.ACCEPTED, (A.STOP_TIMERS, A.PASS_UP, A.ARM_M)),
    (S.CALLING, E.FAILURE): (S.COMPLETED, (A.STOP_TIMERS, A.SEND_ACK, A.PASS_UP, A.ARM_D)),
    (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, (A.PASS_UP,)),
    (S.PROCEEDING, E.SUCCESS): (S.ACCEPTED, (A.STOP_TIMERS, A.PASS_UP, A.ARM_M)),
    (S.PROCEEDING, E.FAILURE): (S.COMPLETED, (A.STOP_TIMERS, A.SEND_ACK, A.PASS_UP, A.ARM_D)),
    # RFC 3261 section 9.1: 64*T1 after the CANCEL the INVITE is considered cancelled.
    (S.PROCEEDING, E.CANCELLED): (S.PROCEEDING, (A.ARM_CANCELLED,)),
    (S.PROCEEDING, E.TIMER_CANCELLED): (S.TERMINATED, (A.TIMED_OUT,)),
    # The connection that the answer would come on is gone; waiting on would hang the call.
    (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    # RFC 6026: every 2xx goes up, also those of other branches of a fork.
    (S.ACCEPTED, E.SUCCESS): (S.ACCEPTED, (A.PASS_UP,)),
    (S.ACCEPTED, E.TIMER_M): (S.TERMINATED, ()),
    (S.COMPLETED, E.FAILURE): (S.COMPLETED, (A.SEND_ACK,)),
    (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, E.TIMER_D): (S.TERMINATED, ()),
}


class InviteClientTransaction(ClientTransaction):
    """`cancelled` is True once a CANCEL was sent for it."""

    TRANSITIONS: ClassVar[Transitions] = TRANSITIONS
    START: ClassVar[State] = S.CALLING

    __slots__ = ("_ack", "cancelled")

    def __init__(
        self,
        request: Request,
        hop: Hop,
        key: tuple[str, ...],
        timers: Timers,
        store: TimerStore,
        outputs: list[Output],
    ) -> None:
        super().__init__(request, hop, key, timers, store, outputs)
        self.cancelled = False
        self._ack = b""

    def send_ack(self, now: float, message: Message | None) -> None:
        """The ACK to a non-2xx (RFC 3261 section 17.1.1.3)."""
        if not self._ack and message is not None:
            to = message.headers.get("To") or ""
            self._ack = same_hop_request(self.request, "ACK", to).encode()
        self._outputs.append(Send(self._ack, self.hop, self))

    def arm_a(self, now: float, message: Message | None) -> None:
        # Doubles without bound: timer B ends it.
        if not self.hop.reliable:
            self._arm(E.TIMER_A, now + self._interval_s)
            self._interval_s *= 2

    def arm_b(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_B, now + self.timers.b_s)

    def arm_d(self, now: float, message: Message | None) -> None:
        self._linger(E.TIMER_D, now, self.timers.d_s)

    def arm_m(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_M, now + self.timers.m_s)

    def arm_cancelled(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_CANCELLED, now + self.timers.give_up_s)


def same_hop_request(invite: Request, method: str, to: str) -> Request:
    """ACK to a non-2xx, or CANCEL: the INVITE's URI, top Via, Route, From, Call-ID and CSeq
    number (RFC 3261 sections 17.1.1.3 and 9.1)."""
    fields = [("Via", str(invite.via))]
    fields += [("Route", value) for value in invite.headers.fields("Route")]
    fields += [
        ("Max-Forwards", "70"),
        ("From", invite.headers.get("From") or ""),
        ("To", to),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq.number} {method}"),
    ]
    return Request(method, invite.uri, Headers.of_canonical(fields))
