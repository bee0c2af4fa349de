"""Timer values (RFC 3261 table 4) and the one heap that all transactions share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.sip.machine import Event, Transaction


@dataclass(frozen=True, slots=True)
class Timers:
    """Timer values in seconds (RFC 3261 table 4); all others follow from these three."""

    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0

    @property
    def give_up_s(self) -> float:
        """64*T1: timers B, F, H, J, L, M, and the wait after a CANCEL."""
        return 64 * self.t1_s

    b_s = f_s = h_s = j_s = l_s = m_s = give_up_s

    @property
    def d_s(self) -> float:
        """At least 32 s with the default T1; scales with T1 so that tests may be quick."""
        return 64 * self.t1_s

    @property
    def i_s(self) -> float:
        """T4, as timer K."""
        return self.t4_s

    k_s = i_s


class TimerStore:
    """One heap for all timers; a stopped one stays as a husk until it surfaces."""

    __slots__ = ("_heap", "_husks", "_sequence")

    def __init__(self) -> None:
        self._heap: list[list[Any]] = []  # [due, sequence, transaction | None, event]
        self._husks = 0
        self._sequence = 0

    def arm(self, due: float, tx: Transaction, event: Event) -> list[Any]:
        self._sequence += 1
        entry = [due, self._sequence, tx, event]
        heappush(self._heap, entry)
        return entry

    def stop(self, entry: list[Any]) -> None:
        if entry[2] is None:
            return
        entry[2] = None  # lets go of the transaction at once
        self._husks += 1
        if self._husks > 1024 and self._husks * 2 > len(self._heap):
            self._heap = [kept for kept in self._heap if kept[2] is not None]
            heapify(self._heap)
            self._husks = 0

    def next(self) -> float | None:
        """When the earliest timer is due."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heappop(heap)
            self._husks -= 1
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[tuple[Transaction, Event]]:
        """Timers due by `now`, earliest first; those armed meanwhile count too."""
        while True:
            first = self.next()
            if first is None or first > now:
                return
            entry = heappop(self._heap)
            tx, entry[2] = entry[2], None
            yield tx, entry[3]
