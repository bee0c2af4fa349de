"""Voice clients: who is at the other end of a WebSocket connection, as a token has proved it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.config import Account
    from relay.sip.transaction import Hop


@dataclass(frozen=True, slots=True)
class Client:
    """What an access token says: whose client it is, and what it may do.

    `until` is the token's expiry in monotonic seconds, fixed when it was first seen.
    """

    account: Account
    identity: str
    may_call_out: bool
    may_be_called: bool
    number: str | None
    token_id: str
    until: float

    @property
    def caller_number(self) -> str | None:
        """Who it is to a trunk."""
        return self.number or self.account.caller_number

    def is_same(self, other: Client) -> bool:
        """Whether both tokens are of one identity."""
        return self.account.name == other.account.name and self.identity == other.identity


class Clients:
    """Whose each connection is: a token is good for the connection that it was presented on."""

    def __init__(self) -> None:
        self._by_link: dict[int, Client] = {}
        self._tries: dict[int, int] = {}  # requests of connections that have proved nothing

    def at(self, hop: Hop, now: float) -> Client | None:
        """Who may begin something on this connection; None once its token has expired."""
        client = self._by_link.get(hop.link)
        return client if client is not None and now < client.until else None

    def of(self, hop: Hop) -> Client | None:
        """Whose connection this is, be its token expired or not: what has begun may go on."""
        return self._by_link.get(hop.link)

    def prove(self, hop: Hop, client: Client) -> None:
        """A token was presented on this connection; the newest one counts."""
        self._by_link[hop.link] = client
        self._tries.pop(hop.link, None)

    def may_try(self, hop: Hop, most: int) -> bool:
        """Whether one more request of a connection that has proved nothing is looked at."""
        tries = self._tries[hop.link] = self._tries.get(hop.link, 0) + 1
        return tries <= most

    def end(self, is_over: frozenset[str], account: str, now: float) -> None:
        """These tokens of an account are revoked: nothing more begins with them."""
        for link, client in self._by_link.items():
            if client.account.name == account and client.token_id in is_over:
                self._by_link[link] = replace(client, until=min(client.until, now))

    def lost(self, hop: Hop) -> None:
        """The connection is gone."""
        self._tries.pop(hop.link, None)
        self._by_link.pop(hop.link, None)

    def __len__(self) -> int:
        return len(self._by_link)
