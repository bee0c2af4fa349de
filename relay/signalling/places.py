"""How many connections there may be: in all, of one address, of strangers, in a second."""

from __future__ import annotations

from collections import Counter

from relay.call.guard import source_of

MAX_CONNECTIONS = 4096
MAX_OF_ONE = 1024  # of one address: a trunk that holds all it can get leaves room for others
MAX_STRANGERS = 256  # of all: connections from an address that is no trunk's
MAX_OF_ONE_STRANGER = 32  # or one could keep out who has yet to show its password


class Places:
    """Accepted connections by link, from the handshake on; the limits above unless it has its
    own."""

    __slots__ = ("_counts", "_limits", "_of", "_strangers")

    def __init__(self, limits: tuple[int, int, int, int] | None = None) -> None:
        """`limits`: in all, of one address, of strangers, of one stranger's address."""
        self._limits = limits
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
        in_all, of_one, strangers, of_one_stranger = self._limits or (
            *(MAX_CONNECTIONS, MAX_OF_ONE),
            *(MAX_STRANGERS, MAX_OF_ONE_STRANGER),
        )
        if len(self._of) >= in_all or self._counts[source] >= of_one:
            return False
        if stranger:
            if len(self._strangers) >= strangers:
                return False
            if sum(other == source for other in self._strangers.values()) >= of_one_stranger:
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


class Allowance:
    """So much a second; what is not used is kept for one second."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float("inf")
        self._at = 0.0

    def take(self, per_s: float, now: float) -> bool:
        """One more, if there is any left."""
        self._left = min(max(1.0, per_s), self._left + (now - self._at) * per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
