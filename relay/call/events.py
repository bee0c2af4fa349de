"""What happens to a call, in words that no protocol owns: legs report, the call decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.call.ports import Side

if TYPE_CHECKING:
    from relay.call.transfer import Transfer


@dataclass(frozen=True, slots=True)
class Rang:
    """The callee's side progresses (18x). `branch` tells early dialogs apart."""

    branch: str
    status: int
    reason: str
    sdp: bytes
    reliable: bool = False  # acknowledged by PRACK: what it says will not be said again


@dataclass(frozen=True, slots=True)
class EarlyAnswered:
    """The caller's PRACK arrived; `sdp` holds the answer to an offer in a 18x."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The callee answered on `branch`."""

    branch: str
    sdp: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """The callee's side failed; `headers` are those that the caller may see, `text` says
    what we found ourselves when no response of the peer's tells it."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller gave up before an answer, or (`cause`) cannot be reached any more. `reason` is
    its Reason header (RFC 3326) or empty."""

    cause: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The caller's ACK arrived; `sdp` holds the answer of a delayed offer."""

    sdp: bytes


@dataclass(frozen=True, slots=True)
class NotAcknowledged:
    """A 2xx of ours was never acknowledged (RFC 3261 section 13.3.1.4)."""

    side: Side


@dataclass(frozen=True, slots=True)
class HungUp:
    """A side ended the call. `reason` is its Reason header (RFC 3326) or empty."""

    side: Side
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A side is gone: it knows the dialog no more, does not answer in it, or let its session
    timer run out; `text` says which."""

    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Referred:
    """A side asked for a transfer, and may have it."""

    transfer: Transfer


@dataclass(frozen=True, slots=True)
class TransferorLeft:
    """The side that asked for the transfer under way has hung up."""


@dataclass(frozen=True, slots=True)
class RingTimedOut:
    """The callee rang for too long."""


@dataclass(frozen=True, slots=True)
class LastedTooLong:
    """The longest duration has passed that a trunk or the region allows; `text` names it."""

    text: str


@dataclass(frozen=True, slots=True)
class SilentTooLong:
    """The engine heard nothing from a side for the configured time."""

    side: Side


@dataclass(frozen=True, slots=True)
class NegotiationFailed:
    """The answer cannot be carried although the call is answered."""

    text: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The relay shuts down."""


CallEvent = (
    Rang
    | EarlyAnswered
    | Answered
    | Rejected
    | Cancelled
    | Acknowledged
    | NotAcknowledged
    | HungUp
    | Lost
    | Referred
    | TransferorLeft
    | RingTimedOut
    | LastedTooLong
    | SilentTooLong
    | NegotiationFailed
    | Stopped
)
