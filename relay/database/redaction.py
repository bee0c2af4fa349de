"""Redacting calls in a transaction, and those that come after their erasure.

A tombstone stays for each party that was erased, as its blind index: a record of a call that began
before, however late it comes (from a queue that is replayed, from another node, at the end of the
call), is redacted in the transaction that keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.database.rows import Rows, recording_of
from relay.database.tables import (
    CALLS,
    ERASED_CALLS,
    HOLDS,
    LEGS,
    PARTIES,
    RECORDINGS,
    REMOVALS,
    TOMBSTONES,
)
from relay.residency.record import ERASED, RecordingRecord

PAGE = 500
_GONE = {"object": "", "keys": [], "complete": False, "problem": ERASED}


async def redact(connection: AsyncConnection, ids: Sequence[str], now: datetime) -> int:
    """Erase what is personal of these calls, for good; how many there were."""
    count = 0
    for some in slices(ids):
        bare = update(CALLS).where(CALLS.c.id.in_(some))
        done = await connection.execute(bare.values(sealed=None, receipt=None, redacted=now))
        count += done.rowcount
        await connection.execute(update(LEGS).where(LEGS.c.call_id.in_(some)).values(sealed=None))
        await connection.execute(delete(PARTIES).where(PARTIES.c.call_id.in_(some)))
    return count


async def erase(connection: AsyncConnection, calls: Mapping[str, str], now: datetime) -> None:
    """Redact calls by id, each for the erasure that it goes with, and note their recordings for
    removal."""
    await redact(connection, list(calls), now)  # then they are ours until the transaction ends
    for some in slices(list(calls)):
        known = select(ERASED_CALLS.c.call_id).where(ERASED_CALLS.c.call_id.in_(some))
        noted = set((await connection.execute(known)).scalars())
        new = [{"call_id": id_, "erasure_id": calls[id_]} for id_ in some if id_ not in noted]
        if new:
            await connection.execute(insert(ERASED_CALLS), new)
        audible = RECORDINGS.c.call_id.in_(some) & (RECORDINGS.c.problem != ERASED)
        rows = (await connection.execute(select(RECORDINGS).where(audible))).mappings().all()
        for row in rows:
            await _note_removal(connection, calls[row["call_id"]], recording_of(row))
        await connection.execute(update(RECORDINGS).where(audible).values(_GONE))


async def erase_late(connection: AsyncConnection, kept: Sequence[Rows], now: datetime) -> None:
    """Of records that were just kept, erase those that an erasure has already."""
    if late := await _late(connection, kept):
        await erase(connection, late, now)


async def _late(connection: AsyncConnection, kept: Sequence[Rows]) -> dict[str, str]:
    """The ids of calls that are erased already, or of whose parties one is; and the erasures."""
    found: dict[str, str] = {}
    for some in slices([rows.id for rows in kept]):
        erased = select(ERASED_CALLS).where(ERASED_CALLS.c.call_id.in_(some))
        found |= {row.call_id: row.erasure_id for row in await connection.execute(erased)}
    stones: dict[str, list[tuple[str, str, datetime]]] = {}
    for some in slices(sorted({party for rows in kept for party in rows.parties})):
        of_them = select(TOMBSTONES).where(TOMBSTONES.c.party.in_(some))
        for row in (await connection.execute(of_them)).mappings():
            stone = row["erasure_id"], row["account"], row["before"]
            stones.setdefault(row["party"], []).append(stone)
    if not stones or await _is_anything_held(connection):
        return found
    for rows in kept:
        peers = {leg["peer"] for leg in rows.legs}
        began = datetime.fromisoformat(rows.call["started"])
        for erasure, account, before in (each for p in rows.parties for each in stones.get(p, ())):
            if began < before and (not account or account in peers):
                found.setdefault(rows.id, erasure)
    return found


async def _is_anything_held(connection: AsyncConnection) -> bool:
    """Then `Erasing.finish` looks whether these calls are: it comes soon, and can open holds."""
    holds = select(HOLDS.c.id).where(HOLDS.c.released.is_(None)).limit(1)
    return (await connection.execute(holds)).first() is not None


async def _note_removal(
    connection: AsyncConnection, erasure: str, recording: RecordingRecord
) -> None:
    """What is not known of a recording before it is closed comes later."""
    if not recording.object:
        return
    this = REMOVALS.c.object == recording.object
    known = {"sha256": recording.sha256, "octets": recording.octets}
    if (await connection.execute(select(REMOVALS.c.object).where(this))).first() is None:
        row = {"object": recording.object, "recording_id": recording.id, "erasure_id": erasure}
        await connection.execute(insert(REMOVALS), {**row, **known})
    elif recording.sha256:
        # Closed since it was noted: what was removed may have been the beginning only.
        await connection.execute(update(REMOVALS).where(this).values(removed=None, **known))


def slices(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """A statement takes so many values at most."""
    return (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))
