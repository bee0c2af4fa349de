"""Carrying erasures through: entry, tombstone, rows, audio, certificate.

The order is such that a process which dies at any point leaves nothing readable that was said to
be erased, and `finish` does the rest: what is to be removed is written down before it is removed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from relay.access.erasure import (
    Erased,
    Hold,
    Holds,
    Kept,
    Person,
    Plan,
    Removal,
    Request,
    certificate,
    cutoffs,
    plan,
)
from relay.errors import StoreError
from relay.residency.audit import RELAY, Actor, AuditLog
from relay.residency.signing import Signer


class Erasures(Protocol):
    """What the database keeps of erasures and holds. All raise DatabaseUnavailable."""

    async def of_person(self, person: Person) -> list[Kept]:
        """Their calls that are not erased yet."""

    def expired(self, peer: str, before: datetime) -> AsyncIterator[list[Kept]]:
        """Calls of a trunk or an account that ended before and are not erased yet, in pages."""

    async def left(self) -> list[tuple[str, Kept]]:
        """Calls that an erasure should have had (its id; each one that should): they came later,
        or are held."""

    async def begin(self, request: Request, person: Person | None = None) -> None:
        """Keep the request; of this person nothing from before it is taken any more."""

    async def redact(self, erasure: str, calls: Iterable[Kept], now: datetime) -> None:
        """Erase what is personal of these calls, and note their recordings for removal."""

    async def pending(self) -> list[Removal]:
        """Recordings that are to be removed."""

    async def removed(self, removal: Removal, now: datetime) -> None: ...

    async def done(self, erasure: str) -> Erased:
        """Raises NotKept."""


class LegalHolds(Protocol):
    """Raises DatabaseUnavailable, and KeyMissing when a hold cannot be read."""

    async def all(self) -> list[Hold]: ...


class Store(Protocol):
    """Where recordings are."""

    async def delete(self, name: str) -> bool:
        """Remove a recording and its ledger, in which its data key is; whether there was any of
        it. Raises StoreError: then it is there still, since the store is away or it is still being
        recorded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an erasure came to."""

    plan: Plan
    pending: frozenset[str]  # ids of recordings
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a pass of retention came to; a held call counts for each of its peers."""

    calls: int = 0
    recordings: int = 0
    held: int = 0

    def plus(self, made: Plan) -> Counts:
        return Counts(
            self.calls + len(made.erased),
            self.recordings + len(made.recordings),
            self.held + len(made.held),
        )


class Erasing:
    """Erasures of one region, by one node. `signer` is asked for each certificate and raises
    KeyMissing."""

    def __init__(
        self,
        erasures: Erasures,
        holds: LegalHolds,
        store: Store,
        audit: AuditLog,
        signer: Callable[[], Signer],
        clock: Callable[[], datetime],
        node: str,
    ) -> None:
        self._erasures = erasures
        self._legal_holds = holds
        self._store = store
        self._audit = audit
        self._signer = signer
        self._clock = clock
        self._node = node

    async def preview(self, person: Person) -> Plan:
        """What an erasure of this person would do."""
        return plan(await self._erasures.of_person(person), await self._holds())

    async def person(self, person: Person, request: Request, actor: Actor) -> Outcome:
        """Erase a data subject. Nothing is done unless the audit log has
        an entry and a certificate can be signed.

        Raises AuditUnavailable, KeyMissing, DatabaseUnavailable.
        """
        self._signer()
        await self._audit.record("erasure-begun", actor, request.id, reference=request.reference)
        await self._erasures.begin(request, person)
        made = plan(await self._erasures.of_person(person), await self._holds())
        await self._erasures.redact(request.id, made.erased, self._clock())
        pending = await self.finish()
        document = await self.certificate(request.id)
        await self._audit.record(
            "erasure-done",
            actor,
            request.id,
            calls=len(made.erased),
            recordings=len(made.recordings),
            held=len(made.held),
            pending=len(pending),
        )
        return Outcome(made, pending, document)

    async def certificate(self, erasure: str) -> dict[str, Any]:
        """The certificate of an erasure as it is now. Raises NotKept, KeyMissing."""
        erased, holds = await self._erasures.done(erasure), await self._holds()
        left = [call for each, call in await self._erasures.left() if each == erasure]
        pending = {removal.object for removal in await self._erasures.pending()}
        others = pending - {removal.object for removal in erased.removals}
        return certificate(erased, plan(left, holds).held, len(others), self._signer())

    async def expire(self, days: Mapping[str, float], request: Request, actor: Actor) -> Counts:
        """Erase what is older than its trunk or account keeps it; `days` by name.

        Raises AuditUnavailable, DatabaseUnavailable: then some of it may be erased.
        """
        holds, counts = await self._holds(), Counts()
        for peer, before in cutoffs(days, self._clock()).items():
            async for calls in self._erasures.expired(peer, before):
                made = plan(calls, holds)
                if made.erased and not counts.calls:
                    await self._audit.record("retention-begun", actor, request.id)
                    await self._erasures.begin(request)
                await self._erasures.redact(request.id, made.erased, self._clock())
                counts = counts.plus(made)
        if counts.calls:
            told = asdict(counts)
            await self._audit.record("retention-done", actor, request.id, **told)
        return counts

    async def finish(self) -> frozenset[str]:
        """Erase what came late or is held no more, and remove what is to be removed; the ids of
        recordings that still are."""
        holds = await self._holds()
        left = {call.id: (erasure, call) for erasure, call in await self._erasures.left()}
        late: dict[str, list[Kept]] = {}
        for erasure, call in left.values():
            if holds.on(call) is None:
                late.setdefault(erasure, []).append(call)
        for erasure, calls in late.items():
            await self._audit.record("erasure-late", RELAY, erasure, calls=len(calls))
            await self._erasures.redact(erasure, calls, self._clock())
        pending = set()
        for removal in await self._erasures.pending():
            try:
                found = await self._store.delete(removal.object)
            except StoreError:
                pending.add(removal.recording)
                continue
            if found or removal.node in ("", self._node):
                await self._erasures.removed(removal, self._clock())
            else:  # it may be in the spool of that node, which says when it is not
                pending.add(removal.recording)
        return frozenset(pending)

    async def _holds(self) -> Holds:
        return Holds(await self._legal_holds.all())
