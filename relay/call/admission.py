"""How many calls a trunk may have: calls per second and concurrent calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from relay.errors import Refused

if TYPE_CHECKING:
    from relay.config import Config, Trunk

UNAVAILABLE = 503
# When a place becomes free depends on people who hang up: ask again soon, not at once.
RETRY_WHEN_FULL_S = 5


class Admission:
    """Counts the calls of each trunk, the incoming and the outgoing ones alike."""

    def __init__(self, config: Config) -> None:
        self._trunks = {trunk.name: _Allowance(trunk) for trunk in config.trunk}

    def admit(self, trunk_name: str, now: float) -> None:
        """Count a call. Raises Refused 503 with the limit's name; nothing is counted then."""
        self._trunks[trunk_name].take(now)

    def release(self, trunk_name: str) -> None:
        """A call that was admitted has ended."""
        self._trunks[trunk_name].give_back()

    def active(self, trunk_name: str) -> int:
        """The calls that are counted now."""
        return self._trunks[trunk_name].active


class _Allowance:
    """One trunk: a token bucket that holds one second of calls, and a count."""

    __slots__ = ("_at", "_capacity", "_name", "_places", "_rate", "_tokens", "active")

    def __init__(self, trunk: Trunk) -> None:
        self._name = trunk.name
        self._rate = trunk.calls_per_second
        self._capacity = max(1.0, self._rate)
        self._places = trunk.concurrent_calls
        self._tokens = self._capacity
        self._at: float | None = None
        self.active = 0

    def take(self, now: float) -> None:
        if self.active >= self._places:
            raise Refused(
                UNAVAILABLE,
                f"concurrent_calls of trunk {self._name} is {self._places}",
                RETRY_WHEN_FULL_S,
            )
        self._fill(now)
        # Sums of 1/rate fall short of 1 by rounding: a call on the beat must not be lost.
        if self._tokens < 1.0 - 1e-9:
            wait_s = (1.0 - self._tokens) / self._rate
            raise Refused(
                UNAVAILABLE,
                f"calls_per_second of trunk {self._name} is {self._rate:g}",
                max(1, math.ceil(wait_s)),
            )
        self._tokens -= 1.0
        self.active += 1

    def give_back(self) -> None:
        assert self.active > 0, "released more often than admitted"
        self.active -= 1

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._rate)
        self._at = now if self._at is None else max(now, self._at)
