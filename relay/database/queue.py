"""The way of call records into the database: bounded, durable, and never in a call's way.

    event loop ──keep──▶ deque ──▶ sealed ──▶ queue file ──▶ database
                                   a thread with a loop of its own

The thread seals what came, puts it on the disk, and moves what is there on whenever the database
answers (`moving`). What was moved and not yet removed when the process died is moved again, which
changes nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from relay.database.moving import Moving
from relay.database.queue_file import QueueFile
from relay.database.rows import rows_of
from relay.database.session import Database
from relay.errors import RelayError
from relay.keys.ring import KeyRing
from relay.residency.record import CallRecord, RecordingRecord

GATHER_S = 0.2  # records that come within are sealed and written together
AT_ONCE = 100  # put on the disk: what does not fit as a whole may fit in part
MOST_UNWRITTEN = 20_000  # in memory, while the disk does not take them
DISK_RETRY_S = 1.0
LAST_MOVE_S = 2.0  # for what is left when the node stops
BEAT_S = 5.0

Receipt = Callable[[CallRecord], Mapping[str, Any] | None]


class RecordQueue:
    """Implements `relay.call.ports.Records`.

    `keep` and `full` belong to the event loop; neither blocks nor raises. `receipt` is asked, in
    the thread, for that of each call that is final; it is kept beside the record.
    """

    def __init__(
        self,
        file: QueueFile,
        database: Database,
        keys: KeyRing,
        node: str,
        most: int,
        receipt: Receipt = lambda record: None,
    ) -> None:
        """`database` is the thread's alone; when `most` records wait the queue is full."""
        self.counters: Counter[str] = Counter()
        self._file = file
        self._database = database
        self._keys = keys
        self._most = most
        self._receipt = receipt
        self._log = structlog.get_logger()
        self._came: deque[CallRecord] = deque()
        self._newest: dict[str, CallRecord] = {}  # to be sealed, one of each call
        self._sealed: list[bytes] = []  # on the way to the disk
        self._told: set[str] = set()  # what is wrong now, and was told
        self._moving = Moving(file, database, keys, node, self.counters)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._stop = asyncio.Event(), asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    # --- on the event loop

    @property
    def full(self) -> bool:
        """Records of calls that last are still taken, but no other call may begin."""
        return self._unwritten >= MOST_UNWRITTEN or self.waiting >= self._most

    @property
    def waiting(self) -> int:
        """Records that are not in the database yet."""
        return self._moving.waiting + self._unwritten

    def keep(self, record: CallRecord) -> None:
        """In place of an earlier record of the same call."""
        if self._moving.own is not None:
            self._moving.own.add(record.id)
        self._take(record)

    def repaired(self, call_id: str, recording: RecordingRecord) -> None:
        """A recording that an earlier run left open is closed. Call it before `start`."""
        self._moving.repaired[call_id] = recording

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Put what came on the disk, and end; False when that took too long. Blocks."""
        if not self._ready.is_set():
            self._file.close()
            return True
        self._call(self._end)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- in the thread

    @property
    def _unwritten(self) -> int:
        return len(self._came) + len(self._newest) + len(self._sealed)

    def _take(self, record: CallRecord) -> None:
        """Also in the thread: for what it finds in the database."""
        self._came.append(record)
        if len(self._came) == 1:
            self._call(self._wake.set)

    def _call(self, what: Callable[[], None]) -> None:
        """In the thread's loop, soon; nothing when that is over."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what)

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as bug:
            self._log.error("bug", exc_info=bug)
        finally:
            self._file.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        self._wake.set()
        mover = self._loop.create_task(self._moving.run(self._take))
        beat = self._loop.create_task(self._beat())
        try:
            while not self._stop.is_set():
                await self._wake.wait()
                self._wake.clear()
                await _sleep(GATHER_S, self._stop)
                await self._write()
            await self._write()  # what came during the one before
            await self._moving.finish(LAST_MOVE_S)
        finally:
            mover.cancel()
            beat.cancel()
            await asyncio.gather(mover, beat, return_exceptions=True)
            await self._database.close()

    async def _write(self) -> None:
        """Seal what came and put it on the disk, however long that takes to work."""
        while self._came:
            record = self._came[0]
            self._newest[record.id] = record
            self._came.popleft()
        for record in tuple(self._newest.values()):
            try:
                self._sealed.append(self._seal(record))
            except Exception as bug:  # the record of one call must not be the end of all others
                self.counters["lost"] += 1
                self._log.error("bug", exc_info=bug)
            del self._newest[record.id]
            await asyncio.sleep(0)  # lets the node's own loop have its turn in between
        while self._sealed:
            some = self._sealed[:AT_ONCE]
            try:
                self._file.append(some)
            except (OSError, sqlite3.Error) as error:
                self._alarm("records_unwritable", str(error))
                if not await _sleep(DISK_RETRY_S, self._stop):
                    continue
                self.counters["lost"] += len(self._sealed)
                self._log.error("records_lost", count=len(self._sealed), problem=str(error))
                self._sealed.clear()
                return
            self._told.discard("records_unwritable")
            self.counters["kept"] += len(some)
            self._moving.more(len(some))
            del self._sealed[: len(some)]
        if self.full:
            self._alarm("records_full", f"{self.waiting} wait for the database")
        else:
            self._told.discard("records_full")

    def _seal(self, record: CallRecord) -> bytes:
        receipt = None
        if record.final:
            try:
                receipt = self._receipt(record)
            except RelayError as error:
                self._alarm("receipt_failed", str(error))
        rows = rows_of(record, self._keys, receipt)
        if rows.call["sealed"] is None:
            self.counters["unsealed"] += 1
            self._alarm("records_unsealed", "without its keys what is personal is not kept")
        else:
            self._told.discard("records_unsealed")
        return rows.encode()

    def _alarm(self, name: str, problem: str) -> None:
        """An alarm, once until it is over."""
        if name not in self._told:
            self._told.add(name)
            self._log.error(name, problem=problem, waiting=self.waiting)

    async def _beat(self) -> None:
        """The next run ends the calls that a crash leaves open when this was last seen."""
        while True:
            self._file.beat()
            await asyncio.sleep(BEAT_S)


async def _sleep(seconds: float, stop: asyncio.Event) -> bool:
    """True at once when the node stops."""
    try:
        async with asyncio.timeout(seconds):
            return await stop.wait()
    except TimeoutError:
        return False
