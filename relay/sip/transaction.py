"""The transaction layer of one endpoint (RFC 3261 section 17): matching and routing.

Sans-IO: parsed messages and time go in, `drain()` gives what to send and what the
transaction user must hear of. Every request and response that it passes up has a readable
Via, From, To, Call-ID, CSeq, Contact and Record-Route. Nothing that a peer sends makes it
raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2s
from secrets import token_bytes

from relay.errors import MalformedMessage
from relay.sip.client import NonInviteClientTransaction
from relay.sip.headers import Via
from relay.sip.invite_client import InviteClientTransaction, same_hop_request
from relay.sip.invite_server import InviteServerTransaction
from relay.sip.live import Live
from relay.sip.machine import ClientTransaction, Event, ServerTransaction, State, Transaction
from relay.sip.matching import Key, is_unique, merge_key, new_branch, server_key
from relay.sip.message import Message, Request, Response
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
from relay.sip.parser import unsupported, validate
from relay.sip.server import NonInviteServerTransaction
from relay.sip.timers import Timers, TimerStore
from relay.sip.way_back import mark_via, without_connection

__all__ = [
    "AckReceived",
    "AckTimedOut",
    "CancelReceived",
    "ClientTransaction",
    "Event",
    "Failed",
    "Hop",
    "InviteClientTransaction",
    "InviteServerTransaction",
    "NonInviteClientTransaction",
    "NonInviteServerTransaction",
    "Output",
    "RequestReceived",
    "ResponseReceived",
    "Send",
    "ServerTransaction",
    "State",
    "StrayResponse",
    "TimedOut",
    "Timers",
    "Transaction",
    "TransactionLayer",
]


RETRY_AFTER_S = 5


class TransactionLayer:
    """All transactions of one endpoint.

    `branch` makes Via branches (with the cookie); `supported` are the option tags that
    Require may name. Without room for more server transactions, all but what ends a
    call gets a stateless 503. `dropped` counts messages that were unusable or belonged to
    nothing, `refused` what the layer itself refuses, as `refused_STATUS`.
    """

    def __init__(
        self,
        timers: Timers | None = None,
        branch: Callable[[], str] | None = None,
        supported: frozenset[str] = frozenset(),
        refused: Counter[str] | None = None,
    ) -> None:
        self._refused: Counter[str] = Counter() if refused is None else refused
        self.timers = timers or Timers()
        self.dropped = 0
        self._branch = branch or new_branch
        self._supported = supported
        self._secret = token_bytes(16)
        self._store = TimerStore()
        self.outputs: list[Output] = []  # grows while it is walked; the machines hold it
        self.next_timer = self._store.next
        self._live = Live()

    # --- verbs of the shell ---------------------------------------------------------------

    def receive(
        self, message: Message, source: Hop, now: float, user: object | None = None
    ) -> None:
        """A parsed message from the network; `user` goes with the transaction that it starts."""
        try:
            if isinstance(message, Request):
                self._receive_request(message, source, now, user)
            elif isinstance(message, Response):
                self._receive_response(message, source, now)
        except MalformedMessage:
            self.dropped += 1

    def drain(self) -> list[Output]:
        """What happened since the last call, in order."""
        outputs = self.outputs[:]
        self.outputs.clear()
        return outputs

    def expects(self, response: Response) -> bool:
        """Whether it answers a request of ours. Raises MalformedMessage."""
        return (response.via.branch or "", response.cseq.method) in self._live.clients

    def release(self) -> None:
        """Ended transactions let go of their users; for when all outputs have been dealt with.

        A user often has its transaction, too: that cycle would wait for the collector.
        """
        for tx in self._live.over:
            tx.user = None
        self._live.over.clear()

    def on_timer(self, now: float) -> None:
        """Fire what is due."""
        for tx, event in self._store.due(now):
            self._feed(tx, event, now)

    def transport_failed(self, hop: Hop, now: float, tx: Transaction | None = None) -> None:
        """A `Send` to `hop` failed, or that connection is gone (then without `tx`)."""
        if tx is not None:
            self._feed(tx, Event.TRANSPORT_ERROR, now)
            return
        for other in self._live.at(hop):
            if hop.link and hop.link == other.hop.link and isinstance(other, ServerTransaction):
                self._live.move(other, without_connection(other.hop, other.request.via))
                self._feed(other, Event.CONNECTION_LOST, now)
            elif hop.link in (0, other.hop.link) or (
                other.hop.link == 0 and other.hop.name == hop.name
            ):
                self._feed(other, Event.TRANSPORT_ERROR, now)

    def follow(self, old: Hop, new: Hop) -> None:
        """A client that was reached over the connection of `old` is over that of `new` now."""
        self._live.follow(old, new)

    def __len__(self) -> int:
        """Live transactions."""
        return len(self._live)

    # --- verbs of the transaction user ----------------------------------------------------

    def request(self, request: Request, hop: Hop, sent_by: str, now: float) -> ClientTransaction:
        """Send a request in a new client transaction; not for ACK (see `send`).

        Puts our Via on top: `sent_by` is `host[:port]` of the listener that answers come to.
        """
        branch = self._add_via(request, hop, sent_by)
        return self._start_client(request, hop, (branch, request.method), now)

    def cancel(
        self, tx: InviteClientTransaction, now: float, reason: str = ""
    ) -> ClientTransaction | None:
        """CANCEL an INVITE (RFC 3261 section 9.1); `reason` is its Reason (RFC 3326).

        None, and nothing sent, unless a provisional but no final response has come and no
        CANCEL went out yet. What becomes of the CANCEL is not passed up: the INVITE ends with
        487, with the 2xx that crossed it, or with TimedOut after 64*T1.
        """
        if tx.state is not State.PROCEEDING or tx.cancelled:
            return None
        tx.cancelled = True
        self._feed(tx, Event.CANCELLED, now)
        request = same_hop_request(tx.request, "CANCEL", tx.request.headers.get("To") or "")
        if reason:
            request.headers.add("Reason", reason)
        branch = tx.request.via.branch or ""
        canceller = self._start_client(request, tx.hop, (branch, "CANCEL"), now)
        canceller.announced = False
        return canceller

    def respond(self, tx: Transaction, response: Response, now: float) -> None:
        """Answer through a server transaction. After a final response only a 2xx to INVITE
        may be repeated; anything else is ignored."""
        status = response.status
        if status < 200:
            event = Event.SEND_PROVISIONAL
        else:
            event = Event.SEND_SUCCESS if status < 300 else Event.SEND_FAILURE
        self._feed(tx, event, now, response)

    def send(self, message: Message, hop: Hop, sent_by: str, now: float) -> None:
        """Send without a transaction: the ACK to a 2xx, or a response.

        A request without Via gets ours, so the same ACK can be sent again for a repeated 2xx.
        """
        if isinstance(message, Request) and "Via" not in message.headers:
            self._add_via(message, hop, sent_by)
        self.outputs.append(Send(message.encode(), hop))

    def knows(self, request: Request, source: Hop) -> bool:
        """Whether it belongs to a transaction: a repeated request, an ACK, a CANCEL.

        Raises MalformedMessage.
        """
        method = "INVITE" if request.method == "CANCEL" else request.method
        return server_key(request, request.via, method, source) in self._live.servers

    def reject(
        self,
        request: Request,
        status: int,
        source: Hop,
        now: float,
        reason: str | None = None,
        fields: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Refuse without keeping state (RFC 3261 section 8.2.7). ACK is never answered."""
        if request.method == "ACK":
            self.dropped += 1
            return
        try:
            hop = mark_via(request, request.via, source)
        except MalformedMessage:
            self.dropped += 1
            return
        response = request.response(status, reason, self._stateless_tag(request))
        if status == 503:
            response.headers.add("Retry-After", str(RETRY_AFTER_S))
        if status == 420:
            response.headers.add("Unsupported", ", ".join(unsupported(request, self._supported)))
        for name, value in fields:
            response.headers.add(name, value)
        self.outputs.append(Send(response.encode(), hop))

    # --- requests -------------------------------------------------------------------------

    def _receive_request(
        self, request: Request, source: Hop, now: float, user: object | None
    ) -> None:
        via = request.via
        key = server_key(request, via, request.method, source)
        tx = self._live.servers.get(key)
        if request.method == "ACK":
            self._receive_ack(request, tx, source, now)
        elif tx is not None:
            self._feed(tx, Event.REQUEST, now)
        else:
            self._receive_new(request, via, key, source, now, user)

    def _receive_ack(
        self, ack: Request, tx: ServerTransaction | None, source: Hop, now: float
    ) -> None:
        # RFC 3261 section 17.2.3: without a branch the To tag tells whose ACK it is.
        if tx is not None and not is_unique(ack.via.branch) and tx.to_tag != ack.to.tag:
            tx = None
        if tx is not None and tx.state is not State.ACCEPTED:
            self._feed(tx, Event.ACK, now, ack)
        elif validate(ack) is not None:
            self.dropped += 1
        elif tx is not None:
            self._feed(tx, Event.ACK, now, ack)
        else:
            self.outputs.append(AckReceived(ack, source))

    def _receive_new(
        self,
        request: Request,
        via: Via,
        key: Key,
        source: Hop,
        now: float,
        user: object | None,
    ) -> None:
        problem = validate(request, self._supported)
        if problem is None and self._live.room.is_full(source.host) and not _ends(request):
            problem = 503
        if problem is not None:
            self._refuse(request, problem, source, now)
            return
        invite = None
        if request.method == "CANCEL":
            invite = self._live.servers.get((*key[:-2], "INVITE", key[-1]))
            if invite is None:
                self._refuse(request, 481, source, now)
                return
        hop = mark_via(request, via, source)
        if request.method == "INVITE":
            tx: ServerTransaction = self._start_server(InviteServerTransaction, request, hop, key)
        else:
            tx = self._start_server(NonInviteServerTransaction, request, hop, key)
        tx.user = user
        if invite is not None:
            self._receive_cancel(tx, request, invite, now)
        elif self._is_merged(tx, request):
            tx.announced = False
            self._refused["refused_482"] += 1
            tag = self._stateless_tag(request)
            self.respond(tx, request.response(482, "Loop Detected (merged request)", tag), now)
        else:
            if request.method == "INVITE":
                self.respond(tx, request.response(100), now)
            self.outputs.append(RequestReceived(tx, request, source))

    def _refuse(self, request: Request, status: int, source: Hop, now: float) -> None:
        self._refused[f"refused_{status}"] += 1
        self.reject(request, status, source, now)

    def _receive_cancel(
        self, tx: ServerTransaction, cancel: Request, invite: ServerTransaction, now: float
    ) -> None:
        """Answer a CANCEL (RFC 3261 section 9.2); pass it up if it can change anything."""
        tx.announced = False
        tag = invite.to_tag or self._stateless_tag(cancel)  # that of our other answers
        self.respond(tx, cancel.response(200, None, tag), now)
        if invite.state is State.PROCEEDING and invite.announced:
            self.outputs.append(CancelReceived(invite, cancel))

    def _is_merged(self, tx: ServerTransaction, request: Request) -> bool:
        """RFC 3261 section 8.2.2.2: the same request came on another path.

        From the same user only: Call-IDs and tags can be guessed, and whoever sent another's
        INVITE before it does would have its call refused.
        """
        if request.to.tag is not None:
            return False
        return self._live.is_merged(tx, (*merge_key(request), str(id(tx.user))))

    # --- responses ------------------------------------------------------------------------

    def _receive_response(self, response: Response, source: Hop, now: float) -> None:
        names = response.read()
        cseq = response.cseq
        branch = response.via.branch or ""
        if "Record-Route" in names:
            _ = response.record_routes
        if names.count("Via") > 1 or "," in (response.headers.get("Via") or ""):
            self.dropped += 1  # RFC 3261 section 8.1.3.3: meant for someone else
            return
        status = response.status
        tx = self._live.clients.get((branch, cseq.method))
        if tx is not None:
            if tx.hop.link != source.link and source.reliable:
                tx.hop = tx.hop._replace(link=source.link)  # what follows stays on it
            if status < 200:
                event = Event.PROVISIONAL
            else:
                event = Event.SUCCESS if status < 300 else Event.FAILURE
            self._feed(tx, event, now, response)
        elif 200 <= status < 300 and cseq.method == "INVITE":
            self.outputs.append(StrayResponse(response, source))
        else:
            self.dropped += 1

    # --- the store of transactions --------------------------------------------------------

    def _feed(
        self, tx: Transaction, event: Event, now: float, message: Message | None = None
    ) -> None:
        tx.feed(event, now, message)
        if tx.state is State.TERMINATED:
            self._live.forget(tx)

    def _start_client(self, request: Request, hop: Hop, key: Key, now: float) -> ClientTransaction:
        machine: type[ClientTransaction] = NonInviteClientTransaction
        if request.method == "INVITE":
            machine = InviteClientTransaction
        tx = machine(request, hop, key, self.timers, self._store, self.outputs)
        self._live.add_client(tx)
        self._feed(tx, Event.START, now)
        return tx

    def _start_server(
        self, machine: type[ServerTransaction], request: Request, hop: Hop, key: Key
    ) -> ServerTransaction:
        tx = machine(request, hop, key, self.timers, self._store, self.outputs)
        self._live.add_server(tx)
        return tx

    def _add_via(self, request: Request, hop: Hop, sent_by: str) -> str:
        branch = self._branch()
        value = f"SIP/2.0/{hop.transport.upper()} {sent_by};branch={branch};rport"
        request.headers.prepend("Via", value)
        return branch

    def _stateless_tag(self, request: Request) -> str:
        # The same for a repeat of the request, as RFC 3261 section 8.2.7 asks.
        text = f"{request.headers.get('Call-ID')} {request.headers.get('From')}"
        octets = text.encode("utf-8", "surrogateescape")
        return blake2s(octets, digest_size=8, key=self._secret).hexdigest()


def _ends(request: Request) -> bool:
    """Whether it ends a call: that is served whatever the load."""
    return request.method == "CANCEL" or (request.method == "BYE" and request.to.tag is not None)
