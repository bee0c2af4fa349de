"""What the transaction layer says: octets for the transport, news for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from relay.sip.message import Request, Response

if TYPE_CHECKING:
    from relay.sip.machine import Transaction


class Hop(NamedTuple):
    """Where a message goes to or came from.

    `transport` in lower case; `host` is an address without brackets; `link` numbers our
    listener or connection, 0 = any that fits. `name` is the domain or address that a TLS
    peer's certificate must name before anything is sent to it, or did name; "" for no claim.
    """

    transport: str
    host: str
    port: int
    link: int = 0
    name: str = ""

    @property
    def reliable(self) -> bool:
        return self.transport != "udp"

    @property
    def is_websocket(self) -> bool:
        """Whether only voice clients come this way (RFC 7118)."""
        return self.transport in ("ws", "wss")


class Send(NamedTuple):
    """Octets for the transport. `tx` is to be named when sending fails."""

    data: bytes
    hop: Hop
    tx: Transaction | None = None


class RequestReceived(NamedTuple):
    """A new request; answer it with `TransactionLayer.respond(tx, …)`."""

    tx: Transaction
    request: Request
    source: Hop


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """An unanswered INVITE was cancelled. The CANCEL has its 200 already; send the 487."""

    invite_tx: Transaction
    request: Request


class AckReceived(NamedTuple):
    """An ACK to a 2xx, or to nothing we know."""

    request: Request
    source: Hop


class ResponseReceived(NamedTuple):
    """A response to `tx.request`; 2xx of an INVITE as often as they arrive."""

    tx: Transaction
    response: Response


@dataclass(frozen=True, slots=True)
class StrayResponse:
    """A 2xx to an INVITE whose transaction is gone: it still wants its ACK."""

    response: Response
    source: Hop


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Timer B or F: no final response. Treat as 408 (RFC 3261 section 8.1.3.1)."""

    tx: Transaction


@dataclass(frozen=True, slots=True)
class AckTimedOut:
    """Timer H: our non-2xx was never acknowledged."""

    tx: Transaction


@dataclass(frozen=True, slots=True)
class Failed:
    """The transport failed. Treat as 503 (RFC 3261 section 8.1.3.1)."""

    tx: Transaction


Output = (
    Send
    | RequestReceived
    | CancelReceived
    | AckReceived
    | ResponseReceived
    | StrayResponse
    | TimedOut
    | AckTimedOut
    | Failed
)
