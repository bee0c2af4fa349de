"""The transactions that are alive, by what messages and connections are matched with."""

from __future__ import annotations

from relay.sip.machine import ClientTransaction, ServerTransaction, Transaction
from relay.sip.matching import Key, whose
from relay.sip.outputs import Hop
from relay.sip.room import Room, octets_of


class Live:
    """`clients` by branch and method, `servers` by `matching.server_key`.

    `over` are those that ended since it was last cleared, `room` is what the servers take.
    """

    __slots__ = ("_hops", "clients", "merged", "over", "room", "servers")

    def __init__(self) -> None:
        self.clients: dict[Key, ClientTransaction] = {}
        self.servers: dict[Key, ServerTransaction] = {}
        self.merged: dict[Key, ServerTransaction] = {}
        self.room = Room()
        self.over: list[Transaction] = []
        self._hops: dict[tuple[str, str, int], set[Transaction]] = {}

    def __len__(self) -> int:
        return len(self.clients) + len(self.servers)

    def add_client(self, tx: ClientTransaction) -> None:
        self.clients[tx.key] = tx
        self._hops.setdefault(tx.hop[:3], set()).add(tx)

    def add_server(self, tx: ServerTransaction) -> None:
        self.servers[tx.key] = tx
        tx.octets = octets_of(tx.request)
        self.room.take(tx.hop.host, tx.octets)
        self._hops.setdefault(tx.hop[:3], set()).add(tx)

    def at(self, hop: Hop) -> list[Transaction]:
        """Those whose messages go to this address, whatever the connection."""
        return list(self._hops.get(hop[:3], ()))

    def move(self, tx: Transaction, hop: Hop) -> None:
        """What it sends goes to another address from now on."""
        self._unlist(tx)
        tx.hop = hop
        self._hops.setdefault(hop[:3], set()).add(tx)

    def follow(self, old: Hop, new: Hop) -> None:
        """Who was at the other end of `old` is at that of `new` now: a CANCEL or an ACK comes
        from there."""
        for tx in self.at(old):
            if tx.hop.link != old.link:
                continue
            if isinstance(tx, ServerTransaction) and self.servers.get(tx.key) is tx:
                self.room.give_back(old.host, tx.octets)
                self.room.take(new.host, tx.octets)
                key = (*tx.key[:-1], whose(new))
                if key not in self.servers:  # else it has been repeated from there already
                    self.servers[key] = self.servers.pop(tx.key)
                    tx.key = key
            self.move(tx, new)

    def is_merged(self, tx: ServerTransaction, key: Key) -> bool:
        """Whether a request of this `matching.merge_key` is alive already; else it is `tx`'s."""
        tx.merged = key
        return self.merged.setdefault(key, tx) is not tx

    def forget(self, tx: Transaction) -> None:
        """It has ended."""
        self.over.append(tx)
        if isinstance(tx, ClientTransaction):
            self.clients.pop(tx.key, None)
        elif isinstance(tx, ServerTransaction):
            if self.servers.get(tx.key) is tx:  # else it was forgotten before
                del self.servers[tx.key]
                self.room.give_back(tx.hop.host, tx.octets)
            if self.merged.get(tx.merged) is tx:
                del self.merged[tx.merged]
        self._unlist(tx)

    def _unlist(self, tx: Transaction) -> None:
        peers = self._hops.get(tx.hop[:3])
        if peers is not None:
            peers.discard(tx)
            if not peers:
                del self._hops[tx.hop[:3]]
