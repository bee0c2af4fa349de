"""What is told of a use of an address outside the region: a counter, an event, an audit entry."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from relay.call.ports import Journal
from relay.residency.audit import RELAY, AuditLog
from relay.residency.boundary import Verdict

TOLD_EVERY_S = 1.0  # of what belongs to no call, an event and an entry at most


class Outside:
    """Listens to the boundary (`Boundary.on_outside`). Of calls each use is told: there can be
    no more than the limits of calls let through."""

    def __init__(
        self, journal: Journal, counters: Counter[str], wall_clock: Callable[[], datetime]
    ) -> None:
        self.audit: AuditLog | None = None
        self._journal = journal
        self._counters = counters
        self._wall_clock = wall_clock
        self._told: datetime | None = None

    def __call__(self, verdict: Verdict, subject: str) -> None:
        name = "boundary_would_refuse" if verdict.allowed else "boundary_refused"
        self._counters[name] += 1
        if not subject and not self._is_due():
            return
        count = self._counters[name]
        self._journal.event(
            name, subject or "-", use=verdict.use.value, host=verdict.host, count=count
        )
        if self.audit is not None:
            network = network_of(verdict.host)
            action = name.replace("_", "-")
            self.audit.note(action, RELAY, subject, use=verdict.use.value, network=network)

    def _is_due(self) -> bool:
        now = self._wall_clock()
        due = self._told is None or abs((now - self._told).total_seconds()) >= TOLD_EVERY_S
        if due:
            self._told = now
        return due


def network_of(host: str) -> str:
    """An address as it may be kept in clear: its /24 or /48; a name not at all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "a name"
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((int(address), bits), strict=False))
