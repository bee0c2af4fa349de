"""How many calls there may be, and for how long: the limits of each trunk and of the region."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from relay.errors import Refused

if TYPE_CHECKING:
    from relay.config import Config

UNAVAILABLE = 503
# When a place becomes free depends on people who hang up: ask again soon, not at once.
RETRY_WHEN_FULL_S = 5
REGION = ""  # beside the trunks' names, none of which is empty


class Admission:
    """Counts the calls of each trunk, incoming and outgoing alike, and those of the region."""

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self._allowances = {
            peer.name: _Allowance(
                f"{type(peer).__name__.lower()} {peer.name}",
                peer.calls_per_second,
                peer.concurrent_calls,
                peer.call_duration_s,
            )
            for peer in config.peers
        }
        self._allowances[REGION] = _Allowance(
            f"region {config.region.id}",
            limits.calls_per_second or math.inf,
            limits.concurrent_calls or math.inf,
            limits.call_duration_s,
        )

    def admit(self, names: tuple[str, ...], now: float) -> None:
        """Count a call on every name: the trunk that asks for it first, then other trunks, and
        `REGION` for a new call.

        Raises Refused 503 with the limit's name; nothing is counted anywhere then.
        """
        for name in names:
            self._allowances[name].check(now, told=name in (names[0], REGION))
        for name in names:
            self._allowances[name].take()

    def release(self, names: tuple[str, ...]) -> None:
        """A call that was admitted has ended."""
        for name in names:
            self._allowances[name].give_back()

    def active(self, name: str) -> int:
        """The calls that are counted now."""
        return self._allowances[name].active

    def longest(self, names: tuple[str, ...]) -> tuple[float, str] | None:
        """The lowest limit on the duration of a call, in seconds, and what it is called."""
        found: _Allowance | None = None
        for name in names:
            allowance = self._allowances[name]
            if found is None or allowance.duration_s < found.duration_s:
                found = allowance
        if found is None or found.duration_s == math.inf:
            return None
        text = f"call_duration_s of {found.owner} is {found.duration_s:g}"
        return found.duration_s, text


class _Allowance:
    """A trunk's or the region's: a token bucket that holds one second of calls, and a count."""

    __slots__ = ("_at", "_capacity", "_places", "_rate", "_tokens", "active", "duration_s", "owner")

    def __init__(
        self, owner: str, rate: float, places: float, duration_s: float | None = None
    ) -> None:
        self.owner = owner
        self.duration_s = duration_s or math.inf
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._places = places
        self._tokens = self._capacity
        self._at: float | None = None
        self.active = 0

    def check(self, now: float, told: bool) -> None:
        """Raises Refused when there is no place or no token for one more; `told` unless the
        limit is another trunk's."""
        if self.active >= self._places:
            limit = f"concurrent_calls of {self.owner} is {self._places}"
            text = limit if told else "concurrent_calls of the called side is reached"
            raise Refused(UNAVAILABLE, text, RETRY_WHEN_FULL_S, limit)
        self._fill(now)
        # Sums of 1/rate fall short of 1 by rounding: a call on the beat must not be lost.
        if self._tokens < 1.0 - 1e-9:
            wait_s = (1.0 - self._tokens) / self._rate
            limit = f"calls_per_second of {self.owner} is {self._rate:g}"
            text = limit if told else "calls_per_second of the called side is reached"
            raise Refused(UNAVAILABLE, text, max(1, math.ceil(wait_s)), limit)

    def take(self) -> None:
        self._tokens -= 1.0
        self.active += 1

    def give_back(self) -> None:
        assert self.active > 0, "released more often than admitted"
        self.active -= 1

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            gained = (now - self._at) * self._rate
            self._tokens = min(self._capacity, self._tokens + gained)
        self._at = now if self._at is None else max(now, self._at)
