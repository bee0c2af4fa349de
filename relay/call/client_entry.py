"""Who is let in over a WebSocket: voice clients, by their access tokens, and nobody else.

A connection that has proved a token is that identity's until the token expires; what has begun
on it may go on after that. Whoever has proved nothing is asked for a token, without state and a
few times only: what it costs to verify tokens is bounded by the connections that the listener
lets in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.call.authentication import NEVER
from relay.errors import Challenged, MalformedMessage, Refused, TokenRefused
from relay.sip.message import Request, Response

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.call.clients import Client
    from relay.sip.transaction import Hop, TransactionLayer

MOST_TRIES = 10  # requests of a connection that has proved nothing
NO_SUCH_CALL = (("Warning", '399 relay "no such call"'),)
OTHERS = (("Warning", '399 relay "this connection is another client\'s: open one of its own"'),)


class ClientEntry:
    """Every message that arrives over a WebSocket comes through here."""

    def __init__(
        self,
        calls: Calls,
        layer: TransactionLayer,
        counters: Counter[str],
        trust: Callable[[Hop], None],
    ) -> None:
        """`trust` tells the shell that a connection is a client's."""
        self._calls = calls
        self._layer = layer
        self._counters = counters
        self._trust = trust
        self._told = -1.0
        self._now = 0.0

    def receive(self, message: Request | Response | MalformedMessage, hop: Hop, now: float) -> None:
        """A parsed message, or what is wrong with it."""
        self._now = now
        clients = self._calls.clients
        known = clients.of(hop)
        if known is None and not clients.may_try(hop, MOST_TRIES):
            self._counters["client_dropped"] += 1
        elif isinstance(message, MalformedMessage):
            self._malformed(message, hop, known)
        elif isinstance(message, Request):
            try:
                self._request(message, hop, known)
            except MalformedMessage:
                self._layer.reject(message, 400, hop, now)
        elif known is not None:
            self._layer.receive(message, hop, now)
        else:
            self._counters["stray_responses"] += 1

    def _malformed(self, error: MalformedMessage, hop: Hop, known: Client | None) -> None:
        self._counters["malformed"] += 1
        if (
            known is not None
            and isinstance(error.message, Request)
            and self._calls.guard.answers_malformed(known.account.name, self._now)
        ):
            self._layer.reject(error.message, 400, hop, self._now)

    def _request(self, request: Request, hop: Hop, known: Client | None) -> None:
        """Raises MalformedMessage where its head cannot be read."""
        layer, now = self._layer, self._now
        if request.method in NEVER:  # nobody could answer a challenge to these
            if known is not None:
                layer.receive(request, hop, now, known)
            elif request.method == "CANCEL":
                layer.reject(request, 481, hop, now, fields=NO_SUCH_CALL)
        elif layer.knows(request, hop):
            layer.receive(request, hop, now, known)
        elif request.to.tag is not None and known is not None:
            if self._calls.has_dialog(request):
                layer.receive(request, hop, now, known)
            else:  # without state, for a flood of those would be kept for 32 s each
                self._calls.counters["refused_481"] += 1
                layer.reject(request, 481, hop, now, fields=NO_SUCH_CALL)
        elif (client := self._client(request, hop, known)) is not None:
            layer.receive(request, hop, now, client)

    # --- tokens

    def _client(self, request: Request, hop: Hop, known: Client | None) -> Client | None:
        """Whose request it is; None when it was refused, without state."""
        calls = self._calls
        current, check = calls.clients.at(hop, self._now), calls.token_check
        if current is not None and not self._shows_again(request, current):
            return current
        if check is None:
            self._layer.reject(request, 403, hop, self._now)
            return None
        try:
            client = check.identify(request, hop, self._now)
        except Challenged as error:
            self._counters[f"token_{error.why}"] += 1
            self._layer.reject(request, error.status, hop, self._now, fields=error.fields)
        except TokenRefused as error:
            self._counters[f"token_{error.reason}"] += 1
            self._tell(error.reason, hop)
            fields = check.challenge(request, hop, self._now, str(error))
            self._layer.reject(request, check.status(request), hop, self._now, fields=fields)
        except Refused as error:
            self._counters["token_unusable"] += 1
            warning = ("Warning", f'399 relay "{error.text}"')
            self._layer.reject(request, error.status, hop, self._now, fields=(warning,))
        else:
            if known is not None and not known.is_same(client):
                self._counters["token_other_client"] += 1
                self._layer.reject(request, 403, hop, self._now, fields=OTHERS)
                return None
            calls.clients.prove(hop, client)
            self._trust(hop)
            return client
        return None

    def _shows_again(self, request: Request, current: Client) -> bool:
        """Whether a REGISTER brings a token, or is to bring one: the connection's does not last
        for as long as it wants to be registered, and there may be a newer one."""
        check, registrar = self._calls.token_check, self._calls.registrar
        if request.method != "REGISTER" or check is None:
            return False
        return check.is_presented(request) or registrar.outlasts(request, current, self._now)

    def _tell(self, reason: str, hop: Hop) -> None:
        """Told to the operator at most once a second: a token that is refused."""
        if self._now >= self._told + 1.0:
            self._told = self._now
            count = self._counters[f"token_{reason}"]
            self._calls.journal.event(
                "token_refused", "-", reason=reason, source=hop.host, count=count
            )
