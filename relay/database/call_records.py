"""The records of calls in the database: kept, found, redacted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Select,
    Table,
    and_,
    bindparam,
    delete,
    extract,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.access.ports import Counts, Query
from relay.database.redaction import erase_late, redact, slices
from relay.database.rows import Row, Rows, instants, named, receipt_of, record_of, rows_of
from relay.database.session import Database
from relay.database.tables import CALLS, LEGS, PARTIES, RECORDINGS
from relay.keys.ring import KeyRing
from relay.residency.record import ERASED, CallRecord

__all__ = ["CallRecords", "Query"]


class CallRecords:
    """All of one region's. While its personal keys are missing nothing personal is kept.

    Raises DatabaseUnavailable; reading also KeyMissing, for what an absent key has sealed.
    """

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def keep(self, *records: CallRecord) -> None:
        """Each in place of an earlier one of the same call."""
        await self.write([rows_of(record, self._keys) for record in records])

    async def write(self, batch: Iterable[Rows]) -> None:
        """Rows as they are. Those that are there already in a later state, from a replay of the
        queue, change nothing; what was erased stays erased."""
        newest = {rows.id: rows for rows in batch}
        async with self._database.writing() as connection:
            present = await _present(connection, newest)
            accepted = []
            for rows in newest.values():
                stage, redacted = present.get(rows.id, (-1, None))
                if rows.call["stage"] < stage:
                    continue
                if redacted is not None:
                    accepted.append(rows.redacted())
                elif rows.id in present and rows.call["sealed"] is None:
                    accepted.append(await _as_before(connection, rows))
                else:
                    accepted.append(rows)
            await _put(connection, accepted, present)
            await erase_late(connection, accepted, datetime.now(UTC))

    async def get(self, call_id: str) -> CallRecord | None:
        async with self._database.reading() as connection:
            found = await self._records(connection, select(CALLS).where(CALLS.c.id == call_id))
        return found[0] if found else None

    async def of_recording(self, recording_id: str) -> CallRecord | None:
        """The call that a recording is of."""
        calls = select(CALLS).join(RECORDINGS).where(RECORDINGS.c.id == recording_id)
        async with self._database.reading() as connection:
            found = await self._records(connection, calls)
        return found[0] if found else None

    async def claims(self, call: str, name: str) -> bool:
        """Whether the record of a call, or of a recording "-2" of it, names this recording, by its
        name in the store."""
        ids = call, call.rpartition("-")[0]
        this = RECORDINGS.c.call_id.in_(ids) & (RECORDINGS.c.object == name)
        async with self._database.reading() as connection:
            found = await connection.execute(select(RECORDINGS.c.id).where(this))
        return found.first() is not None

    async def find(self, query: Query) -> list[CallRecord]:
        """A page of calls."""
        async with self._database.reading() as connection:
            return await self._records(connection, self._select(query))

    async def each(self, query: Query) -> AsyncIterator[CallRecord]:
        """All of them, page by page; `limit` is the size of a page here."""
        while page := await self.find(query):
            for record in page:
                yield record
            query = replace(query, before=(page[-1].started, page[-1].id))

    async def receipt(self, call_id: str) -> dict[str, Any] | None:
        """The signed receipt of a call that is final."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(CALLS).where(CALLS.c.id == call_id))
            call = rows.mappings().one_or_none()
        return None if call is None else receipt_of(dict(call), self._keys)

    async def redact(self, ids: Sequence[str], now: datetime) -> int:
        """Erase what is personal of these calls, for good; how many there were."""
        async with self._database.writing() as connection:
            return await redact(connection, ids, now)

    async def lasting(self, node: str) -> list[CallRecord]:
        """The calls of a node that have not ended."""
        calls = select(CALLS).where(CALLS.c.node == node, CALLS.c.stage == 0)
        async with self._database.reading() as connection:
            return await self._records(connection, calls)

    async def count(self, query: Query) -> Counts:
        """How much there was, on all pages."""
        seconds = extract("epoch", CALLS.c.ended) - extract("epoch", CALLS.c.answered)
        recorded = select(RECORDINGS.c.call_id).scalar_subquery()
        figures: Any = select(
            func.count(),
            func.count(CALLS.c.answered),
            func.count().filter(CALLS.c.id.in_(recorded)),
            func.coalesce(func.sum(seconds), 0),
        ).select_from(CALLS)
        async with self._database.reading() as connection:
            found = await connection.execute(self._where(figures, query))
            calls, answered, with_recording, total = found.one()
        return Counts(calls, answered, with_recording, float(total))

    def _select(self, query: Query) -> Select[Any]:
        calls = select(CALLS).order_by(CALLS.c.started.desc(), CALLS.c.id.desc())
        return self._where(calls, query).limit(query.limit)

    def _where(self, calls: Select[Any], query: Query) -> Select[Any]:
        if query.number is not None:
            indexes = self._keys.indexes(*named(query.number))
            parties = select(PARTIES.c.call_id).where(PARTIES.c.party.in_(indexes))
            calls = calls.where(CALLS.c.id.in_(parties))
        if query.peer is not None:
            legs = select(LEGS.c.call_id).where(LEGS.c.peer == query.peer)
            calls = calls.where(CALLS.c.id.in_(legs))
        if query.recorded:
            calls = calls.where(CALLS.c.id.in_(_recorded()))
        if query.since is not None:
            calls = calls.where(CALLS.c.started >= query.since)
        if query.until is not None:
            calls = calls.where(CALLS.c.started < query.until)
        if query.before is not None:
            started, last = query.before
            earlier = and_(CALLS.c.started == started, CALLS.c.id < last)
            calls = calls.where(or_(CALLS.c.started < started, earlier))
        return calls

    async def _records(self, connection: AsyncConnection, calls: Select[Any]) -> list[CallRecord]:
        found = (await connection.execute(calls)).mappings().all()
        ids = [call["id"] for call in found]
        legs, recordings = await _of(connection, LEGS, ids), await _of(connection, RECORDINGS, ids)
        return [
            record_of(
                dict(call),
                legs.get(call["id"], ()),
                next(iter(recordings.get(call["id"], ())), None),
                self._keys,
            )
            for call in found
        ]


def _recorded() -> Select[Any]:
    return select(RECORDINGS.c.call_id).where(RECORDINGS.c.problem != ERASED)


async def _present(
    connection: AsyncConnection, ids: Iterable[str]
) -> dict[str, tuple[int, datetime | None]]:
    """The stage of those that are there, and when they were redacted; nobody else changes them
    until the transaction ends."""
    found: dict[str, tuple[int, datetime | None]] = {}
    for some in slices(sorted(ids)):
        rows = await connection.execute(
            select(CALLS.c.id, CALLS.c.stage, CALLS.c.redacted)
            .where(CALLS.c.id.in_(some))
            .with_for_update()
        )
        found |= {id_: (stage, redacted) for id_, stage, redacted in rows}
    return found


async def _as_before(connection: AsyncConnection, bare: Rows) -> Rows:
    """With what is personal of the call's earlier record: the key to seal it anew is gone since.

    It is sealed together with the recording and each leg's peer: where these have changed, the call
    can still be found by its parties, to be erased.
    """
    of_leg = select(LEGS.c.position, LEGS.c.peer, LEGS.c.sealed).where(LEGS.c.call_id == bare.id)
    found = await connection.execute(of_leg)
    legs = {(row.position, row.peer): row.sealed for row in found}
    of_call = select(CALLS.c.sealed, RECORDINGS.c.id).outerjoin(RECORDINGS)
    sealed, audio = (await connection.execute(of_call.where(CALLS.c.id == bare.id))).one()
    theirs = [(leg["position"], leg["peer"]) for leg in bare.legs]
    if audio != (bare.recording and bare.recording["id"]) or not legs.keys() >= set(theirs):
        sealed, legs = None, {}
    them = select(PARTIES.c.party).where(PARTIES.c.call_id == bare.id)
    return Rows(
        {**bare.call, "sealed": sealed},
        [{**leg, "sealed": legs.get(each)} for leg, each in zip(bare.legs, theirs, strict=True)],
        bare.recording,
        (await connection.execute(them)).scalars().all(),
    )


async def _put(
    connection: AsyncConnection, accepted: Sequence[Rows], present: Mapping[str, object]
) -> None:
    new = [instants(rows.call) for rows in accepted if rows.id not in present]
    old = [instants(rows.call) for rows in accepted if rows.id in present]
    await _insert(connection, CALLS, new)
    if old:
        columns: dict[str, Any] = {
            name: bindparam(f"new_{name}") for name in old[0] if name != "id"
        }
        await connection.execute(
            update(CALLS).where(CALLS.c.id == bindparam("new_id")).values(columns),
            [{f"new_{name}": value for name, value in call.items()} for call in old],
        )
        for table in (LEGS, RECORDINGS, PARTIES):
            for some in slices([call["id"] for call in old]):
                await connection.execute(delete(table).where(table.c.call_id.in_(some)))
    await _insert(connection, LEGS, [leg for rows in accepted for leg in rows.legs])
    recordings = [rows.recording for rows in accepted if rows.recording is not None]
    await _insert(connection, RECORDINGS, recordings)
    parties = [{"party": each, "call_id": rows.id} for rows in accepted for each in rows.parties]
    await _insert(connection, PARTIES, parties)


async def _insert(connection: AsyncConnection, table: Table, rows: list[Row]) -> None:
    if rows:
        await connection.execute(insert(table), rows)


async def _of(
    connection: AsyncConnection, table: Table, ids: Sequence[str]
) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of a table by the call that they are of."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for some in slices(ids):
        chosen = select(table).where(table.c.call_id.in_(some))
        ordered = chosen.order_by(*table.primary_key.columns)
        for row in (await connection.execute(ordered)).mappings():
            found.setdefault(row["call_id"], []).append(dict(row))
    return found
