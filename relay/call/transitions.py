"""What each event does in each state of a call: the table that `relay.call.call` carries out."""

from __future__ import annotations

from enum import Enum, auto

from relay.call import events as e


class State(Enum):
    """Where a call is."""

    CALLING = auto()  # INVITE passed on, nothing heard
    RINGING = auto()  # at least one 18x
    ANSWERED = auto()  # 2xx passed on, the caller's ACK is missing
    UP = auto()
    TRANSFERRING = auto()  # a REFER was accepted, its target has not answered yet
    HANDED_OVER = auto()  # the same, and who asked for it has hung up
    ENDED = auto()  # told to both sides; late messages change nothing

    __hash__ = object.__hash__  # members are single; the default hashes their name each time


class Action(Enum):
    """What a transition does."""

    RING_CALLER = auto()
    ANSWER_CALLER = auto()
    REJECT_CALLER = auto()
    CANCEL_CALLEE = auto()
    ACKNOWLEDGE_CALLEE = auto()
    HANG_UP_OTHER = auto()
    HANG_UP_BOTH = auto()
    HANG_UP_TRANSFEREE = auto()
    REACH_TARGET = auto()
    TELL_TRANSFEROR = auto()
    CONNECT_TARGET = auto()
    GIVE_UP_TARGET = auto()
    ANSWER_EARLY = auto()
    RECORD_RINGING = auto()
    RECORD_ANSWERED = auto()
    FINISH = auto()

    __hash__ = object.__hash__


S, A = State, Action
_GIVE_UP = (S.ENDED, (A.REJECT_CALLER, A.CANCEL_CALLEE, A.FINISH))
_END_BOTH = (S.ENDED, (A.HANG_UP_BOTH, A.FINISH))
_END_OTHER = (S.ENDED, (A.HANG_UP_OTHER, A.FINISH))
_RING = (S.RINGING, (A.RING_CALLER, A.RECORD_RINGING))
_ANSWER = (S.ANSWERED, (A.ANSWER_CALLER, A.RECORD_ANSWERED))
_REJECT = (S.ENDED, (A.REJECT_CALLER, A.FINISH))
_CANCEL = (S.ENDED, (A.CANCEL_CALLEE, A.FINISH))
_CONNECT = (S.UP, (A.CONNECT_TARGET,))
_STAY = (S.UP, (A.GIVE_UP_TARGET,))
_TARGET_FAILED = (S.ENDED, (A.GIVE_UP_TARGET, A.HANG_UP_TRANSFEREE, A.FINISH))
_TRANSFEREE_LEFT = (S.ENDED, (A.GIVE_UP_TARGET, A.HANG_UP_OTHER, A.FINISH))
_END_ALL = (S.ENDED, (A.GIVE_UP_TARGET, A.HANG_UP_BOTH, A.FINISH))

TRANSITIONS: dict[tuple[State, type], tuple[State, tuple[Action, ...]]] = {
    # An absent pair is ignored: a late or repeated event changes nothing.
    (S.CALLING, e.Rang): _RING,
    (S.RINGING, e.Rang): _RING,
    (S.CALLING, e.Answered): _ANSWER,
    (S.RINGING, e.Answered): _ANSWER,
    (S.CALLING, e.Rejected): _REJECT,
    (S.RINGING, e.EarlyAnswered): (S.RINGING, (A.ANSWER_EARLY,)),
    (S.RINGING, e.NegotiationFailed): _GIVE_UP,  # the PRACK brought no usable answer
    (S.RINGING, e.NotAcknowledged): _CANCEL,  # of a reliable 18x
    (S.RINGING, e.Rejected): _REJECT,
    (S.CALLING, e.Cancelled): _CANCEL,
    (S.RINGING, e.Cancelled): _CANCEL,
    (S.CALLING, e.RingTimedOut): _GIVE_UP,
    (S.RINGING, e.RingTimedOut): _GIVE_UP,
    (S.CALLING, e.Stopped): _GIVE_UP,
    (S.RINGING, e.Stopped): _GIVE_UP,
    (S.ANSWERED, e.EarlyAnswered): (S.ANSWERED, (A.ANSWER_EARLY,)),
    (S.ANSWERED, e.Acknowledged): (S.UP, (A.ACKNOWLEDGE_CALLEE,)),
    (S.ANSWERED, e.NotAcknowledged): _END_BOTH,
    (S.ANSWERED, e.NegotiationFailed): _END_BOTH,
    (S.ANSWERED, e.HungUp): _END_OTHER,
    (S.ANSWERED, e.Lost): _END_BOTH,
    (S.ANSWERED, e.SilentTooLong): _END_BOTH,
    (S.ANSWERED, e.LastedTooLong): _END_BOTH,
    (S.ANSWERED, e.Stopped): _END_BOTH,
    (S.UP, e.NotAcknowledged): _END_BOTH,  # of a re-INVITE
    (S.UP, e.NegotiationFailed): _END_BOTH,  # the ACK brought no usable answer
    (S.UP, e.HungUp): _END_OTHER,
    (S.UP, e.Lost): _END_BOTH,
    (S.UP, e.SilentTooLong): _END_BOTH,
    (S.UP, e.LastedTooLong): _END_BOTH,
    (S.UP, e.Stopped): _END_BOTH,
    (S.UP, e.Referred): (S.TRANSFERRING, (A.REACH_TARGET,)),
    (S.TRANSFERRING, e.Rang): (S.TRANSFERRING, (A.TELL_TRANSFEROR,)),
    (S.TRANSFERRING, e.Answered): _CONNECT,
    (S.TRANSFERRING, e.Rejected): _STAY,
    (S.TRANSFERRING, e.RingTimedOut): _STAY,
    (S.TRANSFERRING, e.TransferorLeft): (S.HANDED_OVER, ()),
    (S.TRANSFERRING, e.HungUp): _TRANSFEREE_LEFT,
    (S.TRANSFERRING, e.NegotiationFailed): _END_ALL,  # its audio cannot be secured
    (S.TRANSFERRING, e.Lost): _END_ALL,
    (S.TRANSFERRING, e.LastedTooLong): _END_ALL,
    (S.TRANSFERRING, e.Stopped): _END_ALL,
    (S.HANDED_OVER, e.Answered): _CONNECT,
    (S.HANDED_OVER, e.Rejected): _TARGET_FAILED,
    (S.HANDED_OVER, e.RingTimedOut): _TARGET_FAILED,
    (S.HANDED_OVER, e.HungUp): _TRANSFEREE_LEFT,
    (S.HANDED_OVER, e.NegotiationFailed): _END_ALL,
    (S.HANDED_OVER, e.Lost): _END_ALL,
    (S.HANDED_OVER, e.LastedTooLong): _END_ALL,
    (S.HANDED_OVER, e.Stopped): _END_ALL,
}
