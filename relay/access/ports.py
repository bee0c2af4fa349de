"""What access asks of the shells: call records, recordings, receipts, grants. The audit log is
`residency.audit.AuditLog`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from relay.access.grant import Grant
from relay.residency.audit import AuditLog
from relay.residency.record import CallRecord

__all__ = ["AuditLog"]

Format = Literal["wav", "wav-pcm", "flac", "ogg"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there was; nothing of whom."""

    calls: int = 0
    answered: int = 0
    recorded: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Query:
    """Which calls: all that is given must hold. Newest first; `before` is where a page ends, the
    time and id of its last call."""

    number: str | None = None  # or an identity, of any of its parties
    peer: str | None = None  # the name of a trunk or an account
    since: datetime | None = None
    until: datetime | None = None  # not included
    recorded: bool = False
    before: tuple[datetime, str] | None = None
    limit: int = 100


class CallRecords(Protocol):
    """What is known of calls. All raise DatabaseUnavailable."""

    async def get(self, call_id: str) -> CallRecord | None: ...

    async def of_recording(self, recording_id: str) -> CallRecord | None:
        """The call that a recording is of."""

    async def find(self, query: Query) -> list[CallRecord]:
        """A page of calls."""

    async def count(self, query: Query) -> Counts:
        """Of all pages."""

    async def receipt(self, call_id: str) -> dict[str, Any] | None:
        """The signed receipt of a call that is final."""


class Playback(Protocol):
    """A recording in the form that was asked for; `size` is in octets."""

    @property
    def size(self) -> int: ...

    @property
    def media_type(self) -> str: ...

    async def read(self, start: int, end: int) -> bytes:
        """The octets from `start` up to, without, `end`."""


class Recordings(Protocol):
    async def open(
        self, recording_id: str, form: Format = "wav", trim_silence: bool | None = None
    ) -> Playback:
        """`trim_silence` None: as its trunk or account wishes. Raises NotKept without one of that
        id, KeyMissing where the region cannot decrypt it (the customer alone can), StoreError."""


class AuditEntries(Protocol):
    def export(self, first: int = 1) -> AsyncIterator[bytes]:
        """Lines of the audit log from an entry on, checkpoints among them, as `relay audit
        verify` takes them."""

    def lines(self, first: int = 1) -> AsyncIterator[bytes]:
        """The lines of its entries from one on, as they are. Raises AuditUnavailable."""


class Grants(Protocol):
    """Where grants are kept. All raise DatabaseUnavailable."""

    async def add(self, grant: Grant) -> None: ...

    async def find(self, grant_id: str) -> Grant | None: ...

    async def of(self, requester: str) -> list[Grant]:
        """Those that somebody asked for, the latest first."""

    async def all(self) -> list[Grant]:
        """The latest first."""

    async def change(self, grant_id: str, change: Callable[[Grant], Grant]) -> Grant:
        """Replace one by what `change` makes of it, with nothing in between. Raises NotKept, and
        whatever `change` raises: nothing is changed then."""
