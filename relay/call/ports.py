"""What the application asks of the shells, as Protocols; and the plain data that crosses.

The application (`relay.call`) decides; signalling, media and recording carry out. They
meet only here, so a test can put a fake on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from relay.residency.boundary import Use
from relay.residency.record import CallRecord, RecordingRecord
from relay.sdp.description import Fingerprint, IceCredentials, LegMedia, MediaAddress
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop, InviteClientTransaction, Transaction
from relay.sip.uri import SipUri

__all__ = ["LegMedia", "MediaAddress"]  # described by SDP, used by the engine


class Side(Enum):
    """Which leg of a call. The caller's audio is the left channel of a recording."""

    CALLER = 0
    CALLEE = 1

    __hash__ = object.__hash__  # members are single; the default hashes their name each time

    @property
    def other(self) -> Side:
        return Side.CALLEE if self is Side.CALLER else Side.CALLER


SIDES = (Side.CALLER, Side.CALLEE)


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """One direction, measured on what arrived from this side (RFC 3550 appendix A)."""

    packets: int = 0
    octets: int = 0
    relayed: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    jitter_ms: float = 0.0
    largest_gap_ms: float = 0.0
    mos: float | None = None
    drops: dict[str, int] = field(default_factory=dict)
    relayed_on_tap: int = 0  # while it was recorded, by the engine's own count
    recorded: int = 0
    reason_for_silence: str | None = None


class CallMedia(Protocol):
    """The media of one call: a local port per leg, both on one engine worker."""

    def local(self, side: Side) -> MediaAddress:
        """Our address that this side's peer sends to (the advertised one)."""

    def check(self, side: Side, remote: MediaAddress) -> None:
        """Whether this side's media can be sent there. Raises NotAcceptable."""

    def offer(self, side: Side, ours: IceCredentials) -> None:
        """A WebRTC peer is offered this side: its checks are answered from now on. Nothing else
        changes until `update` says whose answer counts."""

    def update(self, side: Side, leg: LegMedia) -> None:
        """Apply a negotiated description; takes effect between two packets."""

    def figures(self, side: Side) -> StreamFigures:
        """What arrived from this side so far."""

    def record(self, on: bool) -> int:
        """Start or stop copying both directions to the tap; returns the tap number."""

    def close(self) -> None:
        """Stop both flows and put the ports into quarantine. Idempotent."""


class Media(Protocol):
    """The engine, as the application sees it.

    `fingerprint` is that of this node's DTLS certificate; `transcodes` says whether Opus was
    built in.
    """

    fingerprint: Fingerprint
    transcodes: bool

    def open(self, call_id: str, caller_ipv6: bool, callee_ipv6: bool) -> CallMedia:
        """Reserve ports for both legs. Raises NoMediaPorts."""


# What the engine tells the application: `Calls.on_media(call_id, event, now)`.
@dataclass(frozen=True, slots=True)
class FirstPacket:
    side: Side


@dataclass(frozen=True, slots=True)
class Latched:
    """The source of a symmetric leg was learned."""

    side: Side
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DtmfPressed:
    """One key press (RFC 4733), reported once, at its end."""

    side: Side
    key: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class MediaTimeout:
    """Nothing usable arrived from this side for `idle_timeout_s`."""

    side: Side


@dataclass(frozen=True, slots=True)
class DropBurst:
    """Many packets of this side were dropped for one reason; told at most once a minute.

    `count` is that reason's so far, `reason` a name of `StreamFigures.drops`.
    """

    side: Side
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class StreamChanged:
    """This side goes on with another SSRC (a transfer, a restart of its endpoint)."""

    side: Side


@dataclass(frozen=True, slots=True)
class PathSelected:
    """A voice client's checks chose this address: the first one, or another network's."""

    side: Side
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Secured:
    """DTLS is done and the peer's certificate is the one that its description named."""

    side: Side
    suite: str


@dataclass(frozen=True, slots=True)
class SecuringFailed:
    """DTLS was refused, for good: another certificate, no suite in common, or no answer."""

    side: Side
    why: str


@dataclass(frozen=True, slots=True)
class ConsentLost:
    """No check for 30 s (RFC 7675): nothing is sent to this side until one comes again."""

    side: Side


MediaEvent = (
    FirstPacket
    | Latched
    | DtmfPressed
    | DropBurst
    | StreamChanged
    | MediaTimeout
    | PathSelected
    | Secured
    | SecuringFailed
    | ConsentLost
)


@dataclass(frozen=True, slots=True)
class RecordingSpec:
    """One recording to be made. `codec` is "PCMU" or "PCMA"; packets of `opus_types` are decoded
    into it. `customer_keys` are files of the public keys that it is for, where customers alone may
    play it; `trim_silence` and `retention_days` are its peer's wishes."""

    call_id: str
    tap: int
    codec: str
    dual: bool
    started: datetime
    opus_types: frozenset[int] = frozenset()
    customer_keys: tuple[str, ...] = ()
    trim_silence: bool = False
    retention_days: float | None = None


class Recorder(Protocol):
    """Writes recordings; never blocks, never raises into a call."""

    def obstacle(self, customer_keys: Sequence[str]) -> str:
        """Why nothing could be recorded now for these, or for the region; or ""."""

    def start(self, spec: RecordingSpec) -> None:
        """Begin. The outcome arrives as `RecordingEnded`."""

    def stop(self, call_id: str, relayed: dict[Side, int]) -> None:
        """Finish: write what the tap still holds, then the ledger."""


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """A recording is closed. `problem` is None when it is complete."""

    call_id: str
    path: str
    duration_s: float
    problem: str | None = None
    record: RecordingRecord | None = None


class Records(Protocol):
    """Where the records of calls go; never blocks, never raises into a call."""

    @property
    def full(self) -> bool:
        """No record can be taken: no call may begin, since nothing would be known of it."""

    def keep(self, record: CallRecord) -> None:
        """Keep the record of a call, in place of an earlier one of the same id."""


# The hops to be tried, in order; without any, the text says why. The float is the time.
Located = Callable[[tuple[Hop, ...], str, float], None]
# Whether an address, with its port, may be used for this (`residency/boundary`).
Allows = Callable[[Use, str, int], bool]
# Why a name or an address was not located: it would lead out of the region.
LEADS_OUT = ("its name resolves to an address outside the region", "it is outside the region")


class Signalling(Protocol):
    """The SIP endpoint: transactions, listeners and connections."""

    def contact(self, hop: Hop, sips: bool = False) -> str:
        """Our Contact for the peer at this hop; a `sips:` URI if asked for and it is TLS."""

    def peer_names(self, hop: Hop) -> frozenset[str]:
        """The names that the certificate at the other end of a TLS connection proved."""

    def locate(self, target: SipUri, found: Located, allows: Allows | None = None) -> None:
        """Where `target` is (RFC 3263), as far as that is inside the region.

        `found` is called exactly once, at once or later. `allows` is the call's word on each
        address (`call/trail`), of none the boundary's.
        """

    def move(self, old: Hop, new: Hop) -> None:
        """A voice client has come back on another connection: what is for the old one, also
        what waits already, goes over the new one from now on (RFC 5626)."""

    def leads_to(self, name: str, host: str) -> bool:
        """Whether `name`, when it was last looked up, had this address."""

    def request(
        self,
        request: Request,
        target: SipUri | Hop,
        reuse: Hop | None,
        user: object,
        allows: Allows | None = None,
    ) -> None:
        """Send in a new client transaction, whose events go to `user` (a `TransactionUser`).

        `reuse` names a stream connection that is taken when it is still open; `allows` is as in
        `locate`.
        """

    def cancel(self, tx: InviteClientTransaction, reason: str = "") -> None:
        """CANCEL an INVITE that has had a provisional response (RFC 3261 section 9.1), with
        this Reason."""

    def respond(self, tx: Transaction, response: Response) -> None:
        """Answer in a server transaction."""

    def send(
        self, request: Request, target: SipUri, reuse: Hop | None, allows: Allows | None = None
    ) -> None:
        """Send outside of any transaction: the ACK to a 2xx."""


class TransactionUser(Protocol):
    """Who hears the outcome of a client transaction."""

    def on_response(self, tx: object, response: Response, now: float) -> None:
        """A provisional or final response; a 2xx may come again."""

    def on_no_response(self, status: int, now: float) -> None:
        """None will come: 408 timed out, 503 could not be sent."""


class Journal(Protocol):
    """Where events go: the structured log."""

    def event(self, name: str, call: str, **fields: object) -> None:
        """Record one event of a call. Never numbers or bodies in full."""
