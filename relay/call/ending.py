"""Why a call ends or does not come about: what each event means to the peers and to the log."""

from __future__ import annotations

from relay.call import events as e

NORMAL, EXPIRED, INTERWORKING = 16, 102, 127  # Q.850 causes


def rejection(event: e.CallEvent) -> e.Rejected:
    """What the caller's INVITE is answered with."""
    if isinstance(event, e.Rejected):
        return event
    if isinstance(event, e.RingTimedOut):
        return e.Rejected(480, "", text="nobody answered in time")
    if isinstance(event, e.NegotiationFailed):
        return e.Rejected(488, "", text=event.text)
    return e.Rejected(503, "", text="the relay is shutting down")


def q850(event: e.CallEvent) -> tuple[int, str]:
    """The Q.850 cause and the text of the BYEs when neither side asked for the end."""
    if isinstance(event, e.SilentTooLong):
        return EXPIRED, f"no audio from the {event.side.name.lower()}"
    if isinstance(event, e.NotAcknowledged):
        return EXPIRED, f"the {event.side.name.lower()} never acknowledged the answer"
    if isinstance(event, e.LastedTooLong):  # whose limit it was is not the other trunk's affair
        return EXPIRED, "the longest duration of a call is over"
    if isinstance(event, e.Lost):
        return EXPIRED, event.text
    if isinstance(event, e.NegotiationFailed):
        return INTERWORKING, event.text.replace('"', "'")
    return NORMAL, "the relay is shutting down"


def target_status(event: e.CallEvent) -> int:
    """What a transferor is told of the INVITE to its target."""
    if isinstance(event, e.Rejected):
        return event.status
    return 408 if isinstance(event, e.RingTimedOut) else 487


def cancelled_status(event: e.CallEvent) -> int:
    """What the caller of a call that is not to be answered gets."""
    return 504 if isinstance(event, e.NotAcknowledged) else 487


def ended_by(event: e.CallEvent, answered: bool) -> str:
    """Who or what ended a call, for its record: of a few texts, with nothing of a peer's in it."""
    if isinstance(event, e.HungUp):
        return f"{event.side.name.lower()} hung up"
    if isinstance(event, e.Lost):
        return f"{event.side.name.lower()} lost"
    if isinstance(event, e.SilentTooLong):
        return f"no audio from the {event.side.name.lower()}"
    if isinstance(event, e.NotAcknowledged):
        return f"no acknowledgement from the {event.side.name.lower()}"
    if answered and isinstance(event, (e.Rejected, e.RingTimedOut)):
        return "transfer failed"
    return _ENDS.get(type(event), "relay")


_ENDS = {
    e.Cancelled: "caller cancelled",
    e.Rejected: "callee refused",
    e.RingTimedOut: "no answer in time",
    e.LastedTooLong: "longest duration",
    e.NegotiationFailed: "negotiation failed",
    e.Stopped: "relay stopped",
}
