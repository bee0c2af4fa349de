"""One deadline per owner, thousands of owners: a heap whose cancelled entries let go at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Protocol

FEW = 64  # cancelled entries that are not worth the work of sweeping them out


class Owner(Protocol):
    """Who is woken."""

    def on_timer(self, now: float) -> None:
        """The deadline has passed."""


class Alarm:
    """A set deadline. Cancelling frees the owner although the heap entry stays."""

    __slots__ = ("_alarms", "owner")

    def __init__(self, owner: Owner, alarms: Alarms) -> None:
        self.owner: Owner | None = owner
        self._alarms = alarms

    def cancel(self) -> None:
        if self.owner is not None:
            self.owner = None
            self._alarms.cancelled()


class Alarms:
    """All deadlines of the application, in monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()
        self._cancelled = 0

    def __len__(self) -> int:
        """Entries of the heap, cancelled ones included."""
        return len(self._heap)

    def set(self, owner: Owner, when: float) -> Alarm:
        alarm = Alarm(owner, self)
        heapq.heappush(self._heap, (when, next(self._order), alarm))
        return alarm

    def cancelled(self) -> None:
        """Sweep once more entries are dead than alive: a session timer set for half an hour
        would otherwise outlive its call by as much."""
        self._cancelled += 1
        if self._cancelled > FEW and 2 * self._cancelled > len(self._heap):
            # In place: `due` may be walking it.
            self._heap[:] = [entry for entry in self._heap if entry[2].owner is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_timer(self) -> float | None:
        """When to wake next; cancelled entries at the top are dropped on the way."""
        heap = self._heap
        while heap and heap[0][2].owner is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Owner]:
        """Every owner whose deadline has passed; those set meanwhile count too."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            alarm = heapq.heappop(heap)[2]
            owner, alarm.owner = alarm.owner, None
            if owner is not None:
                yield owner
            else:
                self._cancelled -= 1
