"""What is kept of a call: one record a call, two legs in it, and its recording.

The database keeps it, the receipt is made from it, exports and reports count it. Times carry
their zone; numbers, identities, addresses and SIP Call-IDs are personal data and are sealed
before they reach a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

SideName = Literal["caller", "callee"]
ERASED = "erased"  # the `problem` of a recording that was


@dataclass(frozen=True, slots=True)
class Seen:
    """A remote address of a leg, what for (`boundary.Use`), and the boundary's verdict on it."""

    use: str
    host: str
    port: int
    inside: bool
    allowed: bool


@dataclass(frozen=True, slots=True)
class LegRecord:
    """One leg as it was when the call ended.

    `peer` is a trunk or, of a voice client, its account. `encryption` is the SRTP suite, or
    "none" when it had plain RTP at any time; `status` and `reason` are the final answer on this
    leg (RFC 3261 section 21). Packets are those received from it.
    """

    side: SideName
    peer: str
    kind: Literal["trunk", "client"]
    identity: str = ""
    number: str = ""
    sip_call_id: str = ""
    transport: str = ""
    codec: str = ""
    encryption: str = "none"
    status: int | None = None
    reason: str = ""
    packets: int = 0
    octets: int = 0
    relayed: int = 0
    lost: int = 0
    jitter_ms: float = 0.0
    mos: float | None = None
    silence: str = ""
    drops: dict[str, int] = field(default_factory=dict)
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordingRecord:
    """A recording. `object` is its key in the store, `sha256` is of the encrypted octets, `keys`
    are the ids of the keys that its data key is wrapped under."""

    id: str
    object: str
    codec: str
    channels: int
    keys: tuple[str, ...] = ()
    sha256: str = ""
    octets: int = 0
    duration_s: float = 0.0
    relayed: int = 0
    recorded: int = 0
    complete: bool = False
    problem: str = ""

    @property
    def closed(self) -> bool:
        """Whether its file is: until then neither its digest nor a problem is known."""
        return bool(self.sha256 or self.problem)

    @property
    def erased(self) -> bool:
        return self.problem == ERASED


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call, from its INVITE to its end. `ended` is None while it lasts.

    `status` is what the caller got finally; `ended_by` says who or what ended it, in one of a few
    texts, `reason` what the log says, which may hold what a peer wrote. `policy` is the version
    (digest) of the region's manifest. `redacted`: what was personal has been erased.
    """

    id: str
    region: str
    node: str
    policy: str
    started: datetime
    caller: str = ""
    called: str = ""
    answered: datetime | None = None
    ended: datetime | None = None
    status: int | None = None
    ended_by: str = ""
    reason: str = ""
    legs: tuple[LegRecord, ...] = ()
    recording: RecordingRecord | None = None
    redacted: bool = False

    @property
    def final(self) -> bool:
        """Whether nothing more will be known of it: it is over, and so is its recording."""
        return self.ended is not None and (self.recording is None or self.recording.closed)
