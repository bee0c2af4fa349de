"""Two transaction layers in virtual time, over a link that loses, delays and repeats."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from relay.sip.parser import parse
from relay.sip.transaction import Hop, Output, Send, TransactionLayer


@dataclass
class Endpoint:
    """A layer and its transaction user. `sent` and `heard` carry the virtual time."""

    hop: Hop
    layer: TransactionLayer = field(default_factory=TransactionLayer)
    user: Callable[[Output, float], None] = lambda output, now: None
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    heard: list[tuple[float, Output]] = field(default_factory=list)

    @property
    def sent_by(self) -> str:
        return f"{self.hop.host}:{self.hop.port}"


class Link:
    """Delivers between endpoints. Times are virtual seconds; `chance` makes it repeatable."""

    def __init__(
        self,
        *endpoints: Endpoint,
        seed: int = 0,
        loss: float = 0.0,
        repeat: float = 0.0,
        delay_s: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.now = 0.0
        self._endpoints = {endpoint.hop[:3]: endpoint for endpoint in endpoints}
        self._chance = random.Random(seed)
        self._loss = loss
        self._repeat = repeat
        self._delay_s = delay_s
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do `action` at that time."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, action))

    def run(self, until: float = 1000.0) -> None:
        """Go through everything that happens by `until`, in order of time."""
        while True:
            for endpoint in self._endpoints.values():
                self._drain(endpoint)
            timers = [endpoint.layer.next_timer() for endpoint in self._endpoints.values()]
            times = [time for time in timers if time is not None]
            if self._queue:
                times.append(self._queue[0][0])
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            if self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            for endpoint in self._endpoints.values():
                endpoint.layer.on_timer(self.now)

    def _drain(self, endpoint: Endpoint) -> None:
        while outputs := endpoint.layer.drain():
            for output in outputs:
                if isinstance(output, Send):
                    endpoint.sent.append((self.now, output.data))
                    self._carry(output, endpoint.hop)
                else:
                    endpoint.heard.append((self.now, output))
                    endpoint.user(output, self.now)

    def _carry(self, output: Send, source: Hop) -> None:
        target = self._endpoints.get(output.hop[:3])
        if target is None:
            return
        copies = 0 if self._chance.random() < self._loss else 1
        copies += self._chance.random() < self._repeat
        for _ in range(copies):
            when = self.now + self._chance.uniform(*self._delay_s)
            self.at(when, self._delivery(target, output.data, source))

    def _delivery(self, target: Endpoint, data: bytes, source: Hop) -> Callable[[], None]:
        def deliver() -> None:
            target.layer.receive(parse(data), source, self.now)

        return deliver
