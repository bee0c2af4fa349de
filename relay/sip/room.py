"""How much the requests that are being answered, or were just now, may hold."""

from __future__ import annotations

from collections import Counter

from relay.sip.message import Request

MOST = 100_000  # some 0.6 GB; 1,000 calls a second need 64,000
MOST_OCTETS = 256 << 20  # of their messages: each is held twice, and its answer once
SHARE = 0.75  # that one address may have: the others are still served when it floods


class Room:
    """Each server transaction stays for 32 s: a flood of them would fill the memory."""

    __slots__ = ("_octets", "_octets_of", "_of", "most", "most_octets", "taken")

    def __init__(self, most: int = MOST, most_octets: int = MOST_OCTETS) -> None:
        self.most = most
        self.most_octets = most_octets
        self.taken = 0
        self._octets = 0
        self._of: Counter[str] = Counter()  # by address
        self._octets_of: Counter[str] = Counter()

    def is_full(self, host: str) -> bool:
        """Whether there is none for one more request from this address."""
        return (
            self.taken >= self.most
            or self._octets >= self.most_octets
            or self._of[host] >= SHARE * self.most
            or self._octets_of[host] >= SHARE * self.most_octets
        )

    def take(self, host: str, octets: int) -> None:
        self.taken += 1
        self._octets += octets
        self._of[host] += 1
        self._octets_of[host] += octets

    def give_back(self, host: str, octets: int) -> None:
        self.taken -= 1
        self._octets -= octets
        self._of[host] -= 1
        self._octets_of[host] -= octets
        if not self._of[host]:
            del self._of[host], self._octets_of[host]


def octets_of(request: Request) -> int:
    """About as long as it was on the wire."""
    octets = len(request.uri) + len(request.body)
    for name, value in request.headers.items():
        octets += len(name) + len(value) + 4
    return octets
