"""One deadline per owner, thousands of owners: a heap whose cancelled entries let go at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Protocol


class Owner(Protocol):
    """Who is woken."""

    def on_timer(self, now: float) -> None:
        """The deadline has passed."""


class Alarm:
    """A set deadline. Cancelling frees the owner although the heap entry stays."""

    __slots__ = ("owner",)

    def __init__(self, owner: Owner) -> None:
        self.owner: Owner | None = owner

    def cancel(self) -> None:
        self.owner = None


class Alarms:
    """All deadlines of the application, in monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = count()

    def set(self, owner: Owner, when: float) -> Alarm:
        alarm = Alarm(owner)
        heapq.heappush(self._heap, (when, next(self._order), alarm))
        return alarm

    def next_timer(self) -> float | None:
        """When to wake next; cancelled entries at the top are dropped on the way."""
        heap = self._heap
        while heap and heap[0][2].owner is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Owner]:
        """Every owner whose deadline has passed; those set meanwhile count too."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            alarm = heapq.heappop(heap)[2]
            owner, alarm.owner = alarm.owner, None
            if owner is not None:
                yield owner
