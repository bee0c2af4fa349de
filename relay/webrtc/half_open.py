"""How many DTLS handshakes a node has under way: their memory is bounded, whoever begins them."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

MOST = 256  # 70 to 90 KiB each; a handshake over 100 ms of network is through in 0.3 s
PATIENCE_S = 3.0  # one that takes longer makes room for another


class Handshake(Protocol):
    """Who has a place."""

    def give_way(self) -> None:
        """Lose the place, and all memory of the handshake."""


class HalfOpen:
    """The places, oldest first."""

    def __init__(self, counters: Counter[str], most: int = MOST) -> None:
        self._counters = counters
        self._most = most
        self._began: dict[Handshake, float] = {}

    def __len__(self) -> int:
        return len(self._began)

    def enter(self, handshake: Handshake, now: float) -> bool:
        """Whether there is a place; if not, the peer may try again."""
        if len(self._began) >= self._most:
            oldest = next(iter(self._began))
            if now - self._began[oldest] < PATIENCE_S:
                self._counters["dtls_no_place"] += 1
                return False
            del self._began[oldest]
            self._counters["dtls_gave_way"] += 1
            oldest.give_way()
        self._began[handshake] = now
        return True

    def leave(self, handshake: Handshake) -> None:
        """It is done, or failed, or its call has ended."""
        self._began.pop(handshake, None)
