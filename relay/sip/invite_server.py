"""INVITE server transaction (RFC 3261 section 17.2.1, RFC 6026 section 7.1)."""

from __future__ import annotations

from typing import ClassVar

from relay.sip.machine import Action as A
from relay.sip.machine import Event as E
from relay.sip.machine import ServerTransaction, State, Transitions
from relay.sip.message import Message, Request
from relay.sip.outputs import AckReceived, AckTimedOut

S = State

TRANSITIONS: Transitions = {
    # An absent pair is ignored: a late or repeated message changes nothing.
    (S.PROCEEDING, E.REQUEST): (S.PROCEEDING, (A.RESEND_RESPONSE,)),
    (S.PROCEEDING, E.SEND_PROVISIONAL): (S.PROCEEDING, (A.SEND_RESPONSE,)),
    (S.PROCEEDING, E.SEND_SUCCESS): (S.ACCEPTED, (A.SEND_RESPONSE, A.ARM_L)),
    (S.PROCEEDING, E.SEND_FAILURE): (S.COMPLETED, (A.SEND_RESPONSE, A.ARM_G, A.ARM_H)),
    # What was sent last goes over a new connection, which shows whether the peer is there.
    (S.PROCEEDING, E.CONNECTION_LOST): (S.PROCEEDING, (A.RESEND_RESPONSE,)),
    (S.COMPLETED, E.CONNECTION_LOST): (S.COMPLETED, (A.RESEND_RESPONSE,)),
    (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    # RFC 6026: the INVITE is absorbed; the transaction user repeats its 2xx itself.
    (S.ACCEPTED, E.SEND_SUCCESS): (S.ACCEPTED, (A.SEND_RESPONSE,)),
    (S.ACCEPTED, E.ACK): (S.ACCEPTED, (A.PASS_ACK,)),
    (S.ACCEPTED, E.TRANSPORT_ERROR): (S.ACCEPTED, (A.FAIL,)),
    (S.ACCEPTED, E.TIMER_L): (S.TERMINATED, ()),
    (S.COMPLETED, E.REQUEST): (S.COMPLETED, (A.RESEND_RESPONSE,)),
    (S.COMPLETED, E.TIMER_G): (S.COMPLETED, (A.RESEND_RESPONSE, A.ARM_G)),
    (S.COMPLETED, E.TIMER_H): (S.TERMINATED, (A.ACK_TIMED_OUT,)),
    (S.COMPLETED, E.ACK): (S.CONFIRMED, (A.STOP_TIMERS, A.ARM_I)),
    (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.CONFIRMED, E.TIMER_I): (S.TERMINATED, ()),
}


class InviteServerTransaction(ServerTransaction):
    TRANSITIONS: ClassVar[Transitions] = TRANSITIONS
    START: ClassVar[State] = S.PROCEEDING

    __slots__ = ("_interval_s",)

    def pass_ack(self, now: float, message: Message | None) -> None:
        assert isinstance(message, Request)
        self._tell(AckReceived(message, self.hop))

    def ack_timed_out(self, now: float, message: Message | None) -> None:
        self._tell(AckTimedOut(self))

    def arm_g(self, now: float, message: Message | None) -> None:
        if self.hop.reliable:
            return
        if message is not None:  # entered with the final response: the first interval
            self._interval_s = self.timers.t1_s
        self._arm(E.TIMER_G, now + self._interval_s)
        self._interval_s = min(2 * self._interval_s, self.timers.t2_s)

    def arm_h(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_H, now + self.timers.h_s)

    def arm_i(self, now: float, message: Message | None) -> None:
        self._linger(E.TIMER_I, now, self.timers.i_s)

    def arm_l(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_L, now + self.timers.l_s)
