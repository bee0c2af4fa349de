"""Connections by link; a voice client's lost one is parked: what is for it waits until it has come
back on another one (RFC 5626), or has not in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from relay.call.router import NOBODY
from relay.sip.transaction import Hop

if TYPE_CHECKING:
    from relay.signalling.connection import Connection

MOST_WAITING = 64  # messages
MOST_OCTETS = 1 << 18
MOST_FORMER = 32  # links that one connection stands for


class Parked:
    """The place of a connection that was lost; `hop` and `formerly` are as they were there."""

    __slots__ = ("_octets", "formerly", "hop", "timer", "waiting")

    names = NOBODY

    def __init__(self, hop: Hop, formerly: tuple[Hop, ...], waiting: Iterable[bytes]) -> None:
        self.hop = hop
        self.formerly = formerly
        self.timer: asyncio.TimerHandle | None = None  # gives it up
        self.waiting: list[bytes] = []
        self._octets = 0
        for data in waiting:
            self.send(data)

    def send(self, data: bytes) -> bool:
        """Keep a message; a repeated one only once. False when too much waits already."""
        if data in self.waiting:
            return True
        if len(self.waiting) >= MOST_WAITING or self._octets + len(data) > MOST_OCTETS:
            return False
        self.waiting.append(data)
        self._octets += len(data)
        return True


class Links:
    """Where what is for each link goes: to its connection, to the one that took its place, or
    nowhere yet."""

    def __init__(self, failed: Callable[[Hop], None], counted: Callable[[str], None]) -> None:
        """`failed` hears of every hop that is gone for good."""
        self._failed = failed
        self._counted = counted
        self._by_link: dict[int, Connection | Parked] = {}

    def __iter__(self) -> Iterator[Connection]:
        """The connections that stand."""
        return (each for each in {*self._by_link.values()} if not isinstance(each, Parked))

    def __len__(self) -> int:
        return len(self._by_link)

    def __contains__(self, link: int) -> bool:
        return link in self._by_link

    def at(self, link: int) -> Connection | Parked | None:
        return self._by_link.get(link)

    def connection(self, link: int) -> Connection | None:
        """The connection of this link, unless it is parked or gone."""
        found = self._by_link.get(link)
        return None if isinstance(found, Parked) else found

    def add(self, connection: Connection) -> None:
        self._by_link[connection.hop.link] = connection

    def lose(self, connection: Connection, keep_s: float) -> None:
        """It is gone. With `keep_s` its client may come back for so long, and nothing that is
        for it has failed yet."""
        if self._by_link.get(connection.hop.link) is not connection or keep_s <= 0:
            self._forget(connection)
            return
        self._counted("ws_parked")
        parked = Parked(connection.hop, connection.formerly, connection.waiting)
        loop = asyncio.get_running_loop()
        parked.timer = loop.call_later(keep_s, self._give_up, parked)
        self._lead_to(parked, (connection.hop, *connection.formerly))

    def move(self, old: Hop, new: Hop) -> Connection | None:
        """What is for `old`, also what waits already, is for `new` from now on; the connection of
        `old`, should it stand yet."""
        before, after = self._by_link.get(old.link), self._by_link.get(new.link)
        if after is None or before is after:
            return None
        self._counted("ws_moved")
        former = (*before.formerly, before.hop) if before is not None else (old,)
        hops = (*former, *after.formerly)
        after.formerly = hops[-MOST_FORMER:]
        self._lead_to(after, after.formerly)
        for hop in hops[:-MOST_FORMER]:  # nobody has spoken over it for long
            self._by_link.pop(hop.link, None)
            # Later: who has us move it is in the middle of a REGISTER, and would begin it again.
            asyncio.get_running_loop().call_soon(self._failed, hop)
        for data in before.waiting if before is not None else ():
            after.send(data)
        if not isinstance(before, Parked):
            return before
        if before.timer is not None:
            before.timer.cancel()
        return None

    def close(self) -> None:
        """Nobody is waited for any more."""
        for each in self._by_link.values():
            if isinstance(each, Parked) and each.timer is not None:
                each.timer.cancel()

    def _lead_to(self, place: Connection | Parked, hops: Iterable[Hop]) -> None:
        for hop in hops:
            self._by_link[hop.link] = place

    def _give_up(self, parked: Parked) -> None:
        self._counted("ws_not_back")
        self._forget(parked)

    def _forget(self, place: Connection | Parked) -> None:
        for hop in (*place.formerly, place.hop):
            if self._by_link.get(hop.link, place) is place:  # else it was moved
                self._by_link.pop(hop.link, None)
                self._failed(hop)
