"""What a node does by itself with what it keeps: erasures are finished, what is too old expires."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime

import structlog

from relay.access.erasure import Request
from relay.archive import Archive
from relay.errors import DatabaseUnavailable, RelayError
from relay.recording import spool
from relay.residency.audit import RELAY

OPEN_S = 10.0
FINISH_S = 60.0
EXPIRE_S = 3600.0

_log = structlog.get_logger()


class Upkeep:
    """Of one node; several of a region may do it at once."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._opened = False
        self._expire_at = 0.0
        self._failing = ""

    async def open(self) -> None:
        """Bring the database up to date, if it answers; else `run` does. Raises OutsideRegion."""
        try:
            async with asyncio.timeout(OPEN_S):
                await self._archive.database.open()
        except (DatabaseUnavailable, TimeoutError):
            return  # told by what asks it next
        self._opened = True

    async def run(self) -> None:
        """Until it is cancelled. What fails is told once and tried again."""
        while True:
            try:
                await self.once(time.monotonic())
                self._failing = ""
            except RelayError as error:
                if str(error) != self._failing:
                    self._failing = str(error)
                    _log.error("upkeep_failed", problem=self._failing)
            except Exception as bug:  # what is to be erased is tried again, whatever it is
                _log.error("bug", exc_info=bug)
            await asyncio.sleep(FINISH_S)

    async def once(self, now: float) -> None:
        """Raises RelayError; `now` is monotonic."""
        if not self._opened:
            await self._archive.database.open()
            self._opened = True
        erasing = self._archive.erasing
        if now >= self._expire_at and (days := self._archive.retention_days):
            region, made = self._archive.config.region, datetime.now(UTC)
            name = f"retention-{made:%Y%m%d}-{secrets.token_hex(4)}"
            request = Request(name, region.id, region.entity, made, RELAY.name)
            counts = await erasing.expire(days, request, RELAY)
            self._expire_at = now + EXPIRE_S
            if counts.calls:
                _log.info("retention_done", calls=counts.calls, recordings=counts.recordings)
        if pending := await erasing.finish():
            _log.warning("erasures_pending", recordings=len(pending))
        store = self._archive.store
        waiting = await asyncio.to_thread(spool.waiting, store.spool)
        for name in await self._archive.erasures.erased_of(waiting):
            await store.delete(name)  # it was put back, or its erasure saw it in the store only
