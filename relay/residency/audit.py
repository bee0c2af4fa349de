"""The audit log: who did what to what, in a chain that no one can change unseen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. `kind`: "staff" (a token), "host" (a command on the node), "relay" (by itself)."""

    kind: str
    name: str
    jurisdiction: str = ""
    grant: str = ""


RELAY = Actor("relay", "relay")


class AuditLog(Protocol):
    """Where entries go. No number, name, address or audio is ever in one: subjects are ids of
    records, or pseudonyms."""

    def note(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> None:
        """Add an entry soon; never blocks, never raises."""

    async def record(
        self, action: str, actor: Actor, subject: str = "", **details: str | int
    ) -> int:
        """Add an entry; its number, when it is on the disk. Raises AuditUnavailable: what was to
        be done must not be done then."""
