"""Non-INVITE server transaction (RFC 3261 section 17.2.2)."""

from __future__ import annotations

from typing import ClassVar

from relay.sip.machine import Action as A
from relay.sip.machine import Event as E
from relay.sip.machine import ServerTransaction, State, Transitions
from relay.sip.message import Message

S = State

_FINAL = (S.COMPLETED, (A.SEND_RESPONSE, A.ARM_J))

TRANSITIONS: Transitions = {
    # An absent pair is ignored: a late or repeated message changes nothing.
    (S.TRYING, E.SEND_PROVISIONAL): (S.PROCEEDING, (A.SEND_RESPONSE,)),
    (S.TRYING, E.SEND_SUCCESS): _FINAL,
    (S.TRYING, E.SEND_FAILURE): _FINAL,
    (S.TRYING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.PROCEEDING, E.REQUEST): (S.PROCEEDING, (A.RESEND_RESPONSE,)),
    (S.PROCEEDING, E.SEND_PROVISIONAL): (S.PROCEEDING, (A.SEND_RESPONSE,)),
    (S.PROCEEDING, E.SEND_SUCCESS): _FINAL,
    (S.PROCEEDING, E.SEND_FAILURE): _FINAL,
    (S.PROCEEDING, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
    (S.COMPLETED, E.REQUEST): (S.COMPLETED, (A.RESEND_RESPONSE,)),
    (S.COMPLETED, E.TIMER_J): (S.TERMINATED, ()),
    (S.COMPLETED, E.TRANSPORT_ERROR): (S.TERMINATED, (A.FAIL,)),
}


class NonInviteServerTransaction(ServerTransaction):
    TRANSITIONS: ClassVar[Transitions] = TRANSITIONS

    __slots__ = ()

    def arm_j(self, now: float, message: Message | None) -> None:
        self._linger(E.TIMER_J, now, self.timers.j_s)
