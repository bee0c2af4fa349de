"""Events for whoever listens; what happened before the first listener came is kept for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 256  # events that wait for a listener: the oldest go first


class Feed(Generic[T]):
    """One source of events, any number of listeners; ended, each listener's loop ends."""

    def __init__(self) -> None:
        self._early: deque[T] = deque(maxlen=MOST)
        self._queues: list[asyncio.Queue[T | None]] = []
        self._heard = self._ended = False

    def publish(self, event: T) -> None:
        if not self._heard:
            self._early.append(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def end(self) -> None:
        """Nothing more will happen."""
        self._ended = True
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    def listen(self) -> AsyncIterator[T]:
        """Events from now on; the first listener gets the earlier ones too."""
        queue: asyncio.Queue[T | None] = asyncio.Queue(MOST + 1)
        self._heard = True
        for event in self._early:
            queue.put_nowait(event)
        self._early.clear()
        if self._ended:
            queue.put_nowait(None)
        else:
            self._queues.append(queue)
        return self._walk(queue)

    async def _walk(self, queue: asyncio.Queue[T | None]) -> AsyncIterator[T]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            if queue in self._queues:
                self._queues.remove(queue)
