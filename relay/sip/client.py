"""Non-INVITE client transaction (RFC 3261 section 17.1.2)."""

from __future__ import annotations

from typing import ClassVar

from relay.sip.machine import Action as A
from relay.sip.machine import ClientTransaction, State, Transitions
from relay.sip.machine import Event as E
from relay.sip.message import Message

S = State

_FINAL = (S.COMPLETED, (A.STOP_TIMERS, A.PASS_UP, A.ARM_K))

TRANSITIONS: Transitions = {
    # An absent pair is ignored: a late or repeated message changes nothing.
    (S.TRYING, E.START): (S.TRYING, (A.SEND_REQUEST, A.ARM_E, A.ARM_F)),
    (S.TRYING, E.TIMER_E): (S.TRYING, (A.SEND_REQUEST, A.ARM_E)),
    (S.TRYING, E.TIMER_F): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.TRYING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.TRYING, E.PROVISIONAL): (S.PROCEEDING, (A.PASS_UP,)),
    (S.TRYING, E.SUCCESS): _FINAL,
    (S.TRYING, E.FAILURE): _FINAL,
    (S.PROCEEDING, E.TIMER_E): (S.PROCEEDING, (A.SEND_REQUEST, A.ARM_E_T2)),
    (S.PROCEEDING, E.TIMER_F): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.PROCEEDING, E.PROVISIONAL): (S.PROCEEDING, (A.PASS_UP,)),
    (S.PROCEEDING, E.SUCCESS): _FINAL,
    (S.PROCEEDING, E.FAILURE): _FINAL,
    (S.COMPLETED, E.TIMER_K): (S.TERMINATED, ()),
}


class NonInviteClientTransaction(ClientTransaction):
    TRANSITIONS: ClassVar[Transitions] = TRANSITIONS

    __slots__ = ()

    def arm_e(self, now: float, message: Message | None) -> None:
        if not self.hop.reliable:
            self._arm(E.TIMER_E, now + self._interval_s)
            self._interval_s = min(2 * self._interval_s, self.timers.t2_s)

    def arm_e_t2(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_E, now + self.timers.t2_s)

    def arm_f(self, now: float, message: Message | None) -> None:
        self._arm(E.TIMER_F, now + self.timers.f_s)

    def arm_k(self, now: float, message: Message | None) -> None:
        self._linger(E.TIMER_K, now, self.timers.k_s)
