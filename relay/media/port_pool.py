"""The UDP ports of the engine: even/odd pairs, rested after use.

RTP takes the even port and RTCP the next (RFC 3550 section 11). A pair that was given back
rests for `quarantine_s`, so late packets of one call cannot reach the next. Taking and
giving back cost O(1); the order starts at random, so ports are hard to guess.
"""

from __future__ import annotations

import random
import resource
from collections import deque
from pathlib import Path

from relay.errors import NoMediaPorts

_LOCAL_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED_PORTS = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
_SOCKETS_PER_CALL = 4
_OTHER_FILES = 256  # listeners, connections, recordings, the interpreter's own


class PortPool:
    """Even ports of `first..last`, each standing for itself and the next odd one."""

    def __init__(self, first: int, last: int, quarantine_s: float = 6.0) -> None:
        pairs = list(range(first + first % 2, last, 2))
        if not pairs or first < 1 or last > 65535:
            raise ValueError(f"no even/odd port pair within {first}-{last}")
        random.SystemRandom().shuffle(pairs)
        self.quarantine_s = quarantine_s
        self.pairs = len(pairs)
        self._free = deque(pairs)
        self._resting: deque[tuple[float, int]] = deque()
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        """Pairs that are neither in use nor resting, as of the last `take`."""
        return len(self._free)

    @property
    def resting(self) -> int:
        """Pairs that were given back, as of the last `take`."""
        return len(self._resting)

    def take(self, now: float) -> int:
        """The even port of a pair that has rested. Raises NoMediaPorts."""
        while self._resting and self._resting[0][0] <= now:
            self._free.append(self._resting.popleft()[1])
        if not self._free:
            raise NoMediaPorts(f"all {self.pairs} media port pairs are in use or resting")
        port = self._free.popleft()
        self._taken.add(port)
        return port

    def give_back(self, port: int, now: float) -> None:
        """Rest a pair after use, or one that another program was found to hold."""
        self._taken.discard(port)
        self._resting.append((now + self.quarantine_s, port))

    def restore(self, port: int) -> None:
        """Return a pair that was taken but never bound: it needs no rest."""
        self._taken.discard(port)
        self._free.append(port)

    def in_use(self, port: int) -> bool:
        """Whether this port, even or odd, is of a pair that was taken."""
        return port - port % 2 in self._taken


def check_limits(ports: tuple[int, int], max_calls: int, max_clients: int = 0) -> list[str]:
    """What would stop this machine from carrying `max_calls`, and from having `max_clients`
    connected: a sentence each, for the start."""
    problems = []
    first, last = ports
    pairs = len(range(first + first % 2, last, 2))
    if pairs < 2 * max_calls:
        problems.append(
            f"media ports {first}-{last} hold {pairs} pairs, enough for {pairs // 2} calls, "
            f"not for the {max_calls} that are configured: widen media.ports"
        )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _SOCKETS_PER_CALL * max_calls + max_clients + _OTHER_FILES
    if files != resource.RLIM_INFINITY and files < needed:
        clients = f" and {max_clients} voice clients" if max_clients else ""
        problems.append(
            f"the open-file limit is {files}, but {max_calls} calls{clients} need {needed}: "
            f"raise it (ulimit -n, LimitNOFILE=)"
        )
    overlap = _ephemeral_overlap(first, last)
    if overlap is not None:
        problems.append(
            f"media ports {first}-{last} overlap the system's own ports {overlap[0]}-{overlap[1]} "
            f"(net.ipv4.ip_local_port_range): other programs may take some; those are skipped"
        )
    return problems


def _ephemeral_overlap(first: int, last: int) -> tuple[int, int] | None:
    try:
        low, high = (int(part) for part in _LOCAL_PORT_RANGE.read_text().split())
        reserved = _RESERVED_PORTS.read_text().strip()
    except (OSError, ValueError):
        return None
    for part in filter(None, reserved.split(",")):
        start, _, end = part.partition("-")
        if int(start) <= max(first, low) and min(last, high) <= int(end or start):
            return None
    return (low, high) if first <= high and low <= last else None
