"""How many connections there may be: in all, of one address, and of strangers."""

from __future__ import annotations

from collections import Counter

from relay.call.guard import source_of

MAX_CONNECTIONS = 4096
MAX_OF_ONE = 1024  # of one address: a trunk that holds all it can get leaves room for others
MAX_STRANGERS = 256  # of all: connections from an address that is no trunk's
MAX_OF_ONE_STRANGER = 32  # or one could keep out who has yet to show its password


class Places:
    """Accepted connections by link, from the handshake on."""

    __slots__ = ("_counts", "_of", "_strangers")

    def __init__(self) -> None:
        self._of: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._strangers: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def strangers(self) -> int:
        """Connections of those who have not shown yet that they are a trunk."""
        return len(self._strangers)

    def take(self, link: int, host: str, stranger: bool) -> bool:
        """A place for this connection; one that has a place is judged anew."""
        self.leave(link)
        source = source_of(host)
        if len(self._of) >= MAX_CONNECTIONS or self._counts[source] >= MAX_OF_ONE:
            return False
        if stranger:
            if len(self._strangers) >= MAX_STRANGERS:
                return False
            if sum(other == source for other in self._strangers.values()) >= MAX_OF_ONE_STRANGER:
                return False
            self._strangers[link] = source
        self._of[link] = source
        self._counts[source] += 1
        return True

    def prove(self, link: int) -> None:
        """It is a trunk's after all."""
        self._strangers.pop(link, None)

    def leave(self, link: int) -> None:
        """The connection is gone."""
        source = self._of.pop(link, None)
        self._strangers.pop(link, None)
        if source is not None:
            self._counts[source] -= 1
            if not self._counts[source]:
                del self._counts[source]
