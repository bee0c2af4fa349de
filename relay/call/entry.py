"""Who is let in: a trunk, a dialog's peer, and whoever answers us; all others are strangers.

Only what is let in costs a transaction. A stranger is refused, or asked who it is, without
state; what `relay.call.guard` does not admit is not even looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.call.client_entry import NO_SUCH_CALL, ClientEntry
from relay.call.guard import Offence
from relay.errors import Challenged, MalformedMessage, Refused
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop, TransactionLayer

if TYPE_CHECKING:
    from relay.call.calls import Calls
    from relay.config import Trunk


class Entry:
    """Every message that arrives comes through here, to the transactions or to nowhere."""

    def __init__(
        self,
        calls: Calls,
        layer: TransactionLayer,
        counters: Counter[str],
        trust: Callable[[Hop], None],
    ) -> None:
        """`trust` tells the shell that a stranger's connection is that of a trunk after all."""
        self._calls = calls
        self._layer = layer
        self._counters = counters
        self._trust = trust
        self._clients = ClientEntry(calls, layer, counters, trust)
        self._now = 0.0
        self._told_wrong = -1.0

    def receive(self, message: Request | Response | MalformedMessage, hop: Hop, now: float) -> None:
        """A parsed message, or what is wrong with it."""
        self._now = now
        if hop.is_websocket:
            self._clients.receive(message, hop, now)
        elif self._is_known(message, hop):
            if isinstance(message, MalformedMessage):
                self._malformed(message, hop)
            elif isinstance(message, Request):
                self._request(message, hop)
            else:
                self._layer.receive(message, hop, now)
        elif self._calls.guard.admits(message, hop.host, now):
            self._stranger(message, hop)

    def _is_known(self, message: Request | Response | MalformedMessage, hop: Hop) -> bool:
        """From a trunk's address or a dialog's peer, or the answer to a request of ours."""
        calls = self._calls
        try:
            if calls.identify(hop) is not None:
                if hop.transport == "tls" and calls.router.at(hop.host) is None:
                    calls.guard.proved(hop.host, self._now)  # by its certificate alone
                return True
            if isinstance(message, Request):
                return calls.is_peer(message, hop) or self._layer.knows(message, hop)
            return isinstance(message, Response) and self._layer.expects(message)
        except MalformedMessage:
            return False

    def _request(self, request: Request, hop: Hop) -> None:
        """Of a trunk's address or a dialog's peer; a password may be due all the same."""
        check, trunk = self._calls.authentication, self._calls.identify(hop)
        if self._is_lost(request, hop):
            self._calls.counters["refused_481"] += 1
            self._layer.reject(request, 481, hop, self._now, fields=NO_SUCH_CALL)
            return
        if trunk is not None and check is not None:
            try:
                if check.is_due(request, hop, trunk) and not self._layer.knows(request, hop):
                    trunk = self._authenticate(request, hop, trunk)
                    if trunk is None:
                        return
            except MalformedMessage:
                trunk = None  # the layer answers it 400
        self._layer.receive(request, hop, self._now, trunk)

    def _is_lost(self, request: Request, hop: Hop) -> bool:
        """Inside no dialog of ours, and no repeat: refused without state, for a flood of those
        would be kept for 32 s each. What cannot be read, the layer answers."""
        try:
            if request.method == "ACK" or request.to.tag is None:
                return False
            return not (self._calls.has_dialog(request) or self._layer.knows(request, hop))
        except MalformedMessage:
            return False

    def _malformed(self, error: MalformedMessage, hop: Hop) -> None:
        """400 to a trunk where RFC 3261 allows it, but not for a flood."""
        self._counters["malformed"] += 1
        request, trunk = error.message, self._calls.identify(hop)
        if (
            isinstance(request, Request)
            and trunk is not None
            and self._calls.guard.answers_malformed(trunk.name, self._now)
        ):
            self._layer.reject(request, 400, hop, self._now)

    # --- strangers

    def _stranger(self, message: Request | Response | MalformedMessage, hop: Hop) -> None:
        """A request gets a stateless 403, which tells nothing, or is asked who it is from."""
        if isinstance(message, MalformedMessage):
            self._counters["malformed"] += 1
            self._calls.guard.offence(hop.host, Offence.MALFORMED, self._now)
        elif isinstance(message, Response):
            self._counters["stray_responses"] += 1
        elif self._may_be_known(message, hop):
            trunk = self._authenticate(message, hop, None)
            if trunk is not None:
                self._layer.receive(message, hop, self._now, trunk)
        elif message.method != "ACK":  # which may be to a challenge of ours
            self._counters["unknown_source"] += 1
            if message.method in ("INVITE", "REGISTER"):
                self._calls.guard.offence(hop.host, Offence.UNKNOWN_SOURCE, self._now)
            self._layer.reject(message, 403, hop, self._now)

    def _may_be_known(self, request: Request, hop: Hop) -> bool:
        check = self._calls.authentication
        try:
            return check is not None and check.may_be_known(request, hop)
        except MalformedMessage:
            return False

    # --- passwords

    def _authenticate(self, request: Request, hop: Hop, trunk: Trunk | None) -> Trunk | None:
        """The trunk that the request proves to be from; else it is refused without state."""
        check, guard = self._calls.authentication, self._calls.guard
        assert check is not None
        try:
            found = check.identify(request, hop, trunk, self._now)
        except Challenged as error:
            self._counters[f"digest_{error.why}"] += 1
            self._layer.reject(request, error.status, hop, self._now, fields=error.fields)
            if error.why == "wrong":
                guard.offence(hop.host, Offence.WRONG_PASSWORD, self._now)
                self._tell_wrong(hop, trunk)
        except Refused as error:
            self._counters["digest_unusable"] += 1
            warning = ("Warning", f'399 relay "{error.text}"')
            self._layer.reject(request, error.status, hop, self._now, fields=(warning,))
        else:
            if trunk is None:
                guard.proved(hop.host, self._now)
                if hop.reliable:
                    self._trust(hop)
            return found
        return None

    def _tell_wrong(self, hop: Hop, trunk: Trunk | None) -> None:
        """A wrong user name or password: told to the operator, at most once a second."""
        if self._now >= self._told_wrong + 1.0:
            self._told_wrong = self._now
            self._calls.journal.event(
                "authentication_failed",
                "-",
                trunk=trunk.name if trunk is not None else None,
                source=hop.host,
                count=self._counters["digest_wrong"],
            )
