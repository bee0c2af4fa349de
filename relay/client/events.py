"""What a client and its calls tell their user; each is a plain, frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from relay.client.call import Call

# --- of a client --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """The relay knows where this client is, for `expires_s` (it is renewed by itself)."""

    expires_s: float
    gruu: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """Somebody calls; `answer()` or `reject()` the call."""

    call: Call


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost and being made again; calls go on meanwhile."""

    reason: str


@dataclass(frozen=True, slots=True)
class TokenExpiring:
    """The token ends in `left_s` and there is no source of newer ones: `client.refresh(token)`."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The client gave up, for this reason; it does not come back by itself."""

    reason: Exception


ClientEvent = Registered | IncomingCall | Disconnected | TokenExpiring | Closed

# --- of a call ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ringing:
    """The other side rings; with `early_media` it can be heard already."""

    early_media: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """Both sides can speak."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The other side pressed a key; `duration_ms` where it said how long."""

    key: str
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """`by` put the call on hold: "us" or "peer"."""

    by: Literal["us", "peer"]


@dataclass(frozen=True, slots=True)
class Resumed:
    """`by` took the call off hold."""

    by: Literal["us", "peer"]


@dataclass(frozen=True, slots=True)
class PathLost:
    """The other side consents no longer (RFC 7675): no audio until the path is made anew."""


@dataclass(frozen=True, slots=True)
class PathRestored:
    """Audio goes over a new path (ICE restart)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over. `status` is the SIP status of a refusal, 200 for a hang-up."""

    by: Literal["us", "peer", "relay"]
    status: int
    reason: str


CallEvent = Ringing | Answered | KeyPressed | Held | Resumed | PathLost | PathRestored | Ended


class State(Enum):
    """Where a call is; it only ever goes down this list."""

    CALLING = "calling"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"
