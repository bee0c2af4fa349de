"""The SIP user agent of a client: transactions over the one connection, nothing of calls.

The transaction layer is the relay's own core. A lost connection ends no transaction: what
has no final response yet is sent again over the next connection, where the relay knows it
by its branch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import Protocol

from relay.client.errors import Refused
from relay.errors import MalformedMessage, RelayError
from relay.sip.message import Request, Response
from relay.sip.outputs import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Failed,
    Hop,
    Output,
    RequestReceived,
    ResponseReceived,
    Send,
    StrayResponse,
    TimedOut,
)
from relay.sip.parser import parse
from relay.sip.transaction import (
    ClientTransaction,
    InviteClientTransaction,
    State,
    Transaction,
    TransactionLayer,
)

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY"
USER_AGENT = "relay-client"


class User(Protocol):
    """What is done with what others send."""

    def on_request(self, tx: Transaction, request: Request) -> None: ...

    def on_ack(self, request: Request) -> None: ...

    def on_cancel(self, tx: Transaction) -> None: ...

    def on_late_success(self, response: Response) -> None: ...


class Exchange:
    """A request of ours and what comes back: provisional responses, then `final`.

    `late` gets a 2xx that comes again. `final` raises Refused (408) when nothing came.
    """

    def __init__(
        self,
        provisional: Callable[[Response], None] | None = None,
        late: Callable[[Response], None] | None = None,
    ) -> None:
        self.final: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.tx: ClientTransaction | None = None
        self._provisional = provisional
        self._late = late

    def received(self, response: Response) -> None:
        if response.status < 200:
            if self._provisional is not None:
                self._provisional(response)
        elif not self.final.done():
            self.final.set_result(response)
        elif self._late is not None and response.status < 300:
            self._late(response)

    def timed_out(self) -> None:
        if not self.final.done():
            text = "neither the relay nor the other side answered"
            self.final.set_exception(Refused(408, "Request Timeout", text))


class Agent:
    """Everything that is sent and received. `send` puts octets on the connection."""

    def __init__(self, transport: str, host: str, port: int, user: User) -> None:
        self.sent_by = f"{token_hex(6)}.invalid"  # RFC 7118 section 5: it has no address
        self._hop = Hop(transport, host, port, 1)
        self._user = user
        self._layer = TransactionLayer(supported=frozenset(("outbound", "gruu", "path")))
        self._pending: set[ClientTransaction] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.send: Callable[[bytes, bool], None] = lambda data, urgent: None

    # --- requests and responses of ours ---------------------------------------------------

    def start(self, request: Request, exchange: Exchange) -> None:
        """Send a request; what comes back goes to the exchange."""
        request.headers.add("User-Agent", USER_AGENT)
        tx = self._layer.request(request, self._hop, self.sent_by, self._loop.time())
        tx.user = exchange
        exchange.tx = tx
        self._pending.add(tx)
        self._settle()

    async def ask(self, request: Request) -> Response:
        """Send a request and wait for its final response. Raises Refused (408)."""
        exchange = Exchange()
        self.start(request, exchange)
        return await exchange.final

    def cancel(self, exchange: Exchange) -> bool:
        """CANCEL an INVITE; False when it is too early (no 1xx yet) or too late."""
        tx = exchange.tx
        if not isinstance(tx, InviteClientTransaction):
            return False
        sent = self._layer.cancel(tx, self._loop.time()) is not None
        self._settle()
        return sent

    def respond(self, tx: Transaction, response: Response) -> None:
        response.headers.add("Allow", ALLOW)
        self._layer.respond(tx, response, self._loop.time())
        self._settle()

    def acknowledge(self, ack: Request) -> None:
        """Send the ACK to a 2xx; the same one again for a repeated 2xx."""
        self._layer.send(ack, self._hop, self.sent_by, self._loop.time())
        self._settle()

    # --- from the connection --------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if not data.strip(b"\r\n"):
            return  # keep-alive
        try:
            self._layer.receive(parse(data), self._hop, self._loop.time())
        except MalformedMessage:
            return
        self._settle()

    def repeat_pending(self) -> None:
        """Over a new connection: send again what has had no response."""
        for tx in list(self._pending):
            if tx.state in (State.CALLING, State.TRYING) and tx.request.method != "REGISTER":
                self.send(tx.request.encode(), False)

    def close(self) -> None:
        """No more timers; nobody waits any longer."""
        if self._timer is not None:
            self._timer.cancel()
        for tx in self._pending:
            if isinstance(tx.user, Exchange):
                tx.user.timed_out()
                _ = tx.user.final.exception() if tx.user.final.done() else None
        self._pending.clear()

    # --- what the layer says --------------------------------------------------------------

    def _settle(self) -> None:
        """Carry out what the layer wants and arm its next timer."""
        while outputs := self._layer.drain():
            for output in outputs:
                self._dispatch(output)
        self._layer.release()
        self._pending = {tx for tx in self._pending if not tx.terminated}
        if self._timer is not None:
            self._timer.cancel()
        due = self._layer.next_timer()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._layer.on_timer(self._loop.time())
        self._settle()

    def _dispatch(self, output: Output) -> None:
        match output:
            case Send(data=data, tx=tx):
                self.send(data, tx is not None and tx.request.method == "REGISTER")
            case ResponseReceived(tx=tx, response=response) if isinstance(tx.user, Exchange):
                tx.user.received(response)
            case TimedOut(tx=tx) | Failed(tx=tx) if isinstance(tx.user, Exchange):
                tx.user.timed_out()
            case RequestReceived(tx=tx, request=request):
                self._take(tx, request)
            case AckReceived(request=request):
                self._user.on_ack(request)
            case CancelReceived(invite_tx=tx):
                self._user.on_cancel(tx)
            case StrayResponse(response=response):
                self._user.on_late_success(response)
            case AckTimedOut() | _:
                pass

    def _take(self, tx: Transaction, request: Request) -> None:
        try:
            self._user.on_request(tx, request)
        except RelayError as error:
            self.respond(tx, request.response(error.status_hint, to_tag=token_hex(6)))
