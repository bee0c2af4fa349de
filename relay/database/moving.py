"""From the queue file into the database, whenever that answers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import structlog

from relay.database.call_records import CallRecords
from relay.database.queue_file import QueueFile
from relay.database.rows import Rows
from relay.database.session import Database
from relay.errors import KeyMissing, NotAuthentic, RelayError
from relay.keys.ring import KeyRing
from relay.residency.record import CallRecord, RecordingRecord

BATCH = 100  # moved in one transaction
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # until the database is asked again; the last one repeats

Numbered = list[tuple[int, bytes]]


class Moving:
    """The part of the queue's thread that the database is for.

    What an earlier run left is moved first. Then calls that it left open are ended, as
    interrupted, when that run was last alive; recordings of it that were `repaired` are put to
    their calls.
    """

    def __init__(
        self,
        file: QueueFile,
        database: Database,
        keys: KeyRing,
        node: str,
        counters: Counter[str],
    ) -> None:
        self.repaired: dict[str, RecordingRecord] = {}
        self.waiting = len(file)
        self._file = file
        self._database = database
        self._records = CallRecords(database, keys)
        self._node = node
        self._counters = counters
        self._log = structlog.get_logger()
        self.own: set[str] | None = set()  # calls of this run; None once those before are ended
        self._opened = self._away = False
        self._more = asyncio.Event()
        self._turn = asyncio.Lock()

    def more(self, count: int) -> None:
        """So many more are in the file."""
        self.waiting += count
        self._more.set()

    async def run(self, take: Callable[[CallRecord], None]) -> None:
        """Until cancelled. `take` gets the records of an earlier run that have changed."""
        failures = 0
        while True:
            try:
                async with self._turn:
                    left = await self._move()
                if self.own is not None and not left:
                    await self._end_earlier(self.own, take)
            except Exception as error:  # a bug, too, must not end it: what waits is kept
                self._tell_away(error)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                continue
            failures = 0
            if not left:
                await self._more.wait()

    async def finish(self, limit_s: float) -> None:
        """Move what is left, if the database takes it in time; else it waits for the next run."""
        try:
            async with asyncio.timeout(limit_s), self._turn:
                while await self._move():
                    continue
        except (TimeoutError, RelayError, sqlite3.Error):
            return

    async def _move(self) -> bool:
        """The oldest; whether there are more."""
        if not (opened := self._opened):
            await self._database.open()
            self._opened = True
        self._more.clear()
        items = self._file.first(BATCH)
        if items:
            await self._write(items)
            self._file.remove(items[-1][0])
            self._counters["moved"] += len(items)
            self.waiting -= len(items)
        if self._away or not opened:
            self._away = False
            self._log.info("records_flow", waiting=self.waiting)
        return len(items) == BATCH

    async def _write(self, items: Numbered) -> None:
        try:
            await self._records.write([Rows.decode(rows) for _, rows in items])
        except RelayError:
            raise
        except Exception as error:
            if len(items) > 1:
                for item in items:
                    await self._write([item])
                return
            self._reject(items[0][0], f"{type(error).__name__}: {error}")

    def _reject(self, number: int, problem: str) -> None:
        """One that the database does not take: it stays in the file for who mends it."""
        self._file.reject(number, problem)
        self._counters["rejected"] += 1
        # The failure's text may hold what was to be written.
        self._log.error("record_rejected", number=number, problem=problem.partition(":")[0])

    async def _end_earlier(self, own: set[str], take: Callable[[CallRecord], None]) -> None:
        try:
            left_open = await self._records.lasting(self._node)
            for record in left_open:
                if record.id not in own:
                    take(self._interrupted(record))
            for call_id, recording in self.repaired.items():
                found = await self._records.get(call_id)
                if found is not None and found.recording != recording:
                    take(replace(found, recording=recording))
        except (KeyMissing, NotAuthentic) as error:  # at a start with the right keys, then
            self._log.error("records_left_open", problem=str(error))
        self.own = None
        self.repaired.clear()

    def _interrupted(self, record: CallRecord) -> CallRecord:
        self._counters["interrupted"] += 1
        return replace(
            record,
            ended=max(self._file.alive, record.answered or record.started),
            ended_by="interrupted",
            recording=self.repaired.pop(record.id, record.recording),
        )

    def _tell_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            # The text of another failure may hold what was to be written.
            known = isinstance(error, RelayError | sqlite3.Error)
            problem = str(error) if known else type(error).__name__
            self._log.error("records_waiting", problem=problem, waiting=self.waiting)
