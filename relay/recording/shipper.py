"""Takes closed recordings from the spool to their place, and does not give up.

While the place is away one recording at a time is tried, at growing intervals; they wait in the
spool, also over a restart. What is a fault of one recording holds up no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import structlog

from relay.call.ports import Journal
from relay.errors import NotStored, RelayError, StoreAway, StoreConflict, Unclaimed
from relay.recording import spool
from relay.recording.store import Store

AT_ONCE = 4
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
CLAIMED_S = 1.0
CLAIMED_TRIES = 60
"""The record of its call is on its way: so often, so far apart, it is asked for."""
LOOK_AGAIN_S = 600.0
"""How often the spool is looked through for what stayed there."""


class Shipper:
    """`run` until it is cancelled; `add` what was closed. Belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._store = store
        self._journal = journal
        self._log = structlog.get_logger()
        self._first_wait_s = first_wait_s
        self._wait_s = first_wait_s
        self._waiting: dict[str, None] = {}
        self._unclaimed: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._usable = False
        self._idle = asyncio.Event()
        self.problem: str | None = None
        self.counters: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Recordings in this node's spool that are not in their place, as far as known."""
        return len(self._waiting)

    def add(self, name: str) -> None:
        """A recording that was closed now."""
        self._waiting[name] = None
        self._idle.clear()
        self._wake.set()

    async def check(self) -> None:
        """Before the first: an alarm when the place is away. Raises StoreError, OutsideRegion
        when it may never be used."""
        try:
            await self._store.place.check()
        except StoreAway as error:
            self._failed(error)
        else:
            self._usable = True

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        look_at = loop.time()
        while True:
            self._wake.clear()
            if loop.time() >= look_at:
                look_at = loop.time() + LOOK_AGAIN_S
                await self._look()
            await self.ship()
            if not self._waiting:
                self._idle.set()
            if self.problem is not None:
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
                continue
            self._wait_s = self._first_wait_s
            with suppress(TimeoutError):
                soon = loop.time() + CLAIMED_S if self._unclaimed else look_at
                async with asyncio.timeout_at(min(soon, look_at)):
                    await self._wake.wait()

    async def finish(self, limit_s: float) -> None:
        """Wait until all is in its place, or for so long: the rest is shipped at the next start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._waiting and self.problem is None:
                    await self._idle.wait()

    async def ship(self) -> None:
        """Try once what waits, several at a time."""
        if self._waiting and await self._reached():
            names = list(self._waiting)
            await asyncio.gather(*(self._ship_from(names) for _ in range(AT_ONCE)))

    async def _look(self) -> None:
        for name in await asyncio.to_thread(spool.waiting, self._store.spool):
            self._waiting.setdefault(name)

    async def _reached(self) -> bool:
        """Whether the place may be used and can be; asked again after each failure."""
        if not self._usable:
            try:
                await self._store.place.check()
            except RelayError as error:
                self._failed(error)
                return False
            self._usable = True
        return True

    async def _ship_from(self, names: list[str]) -> None:
        while names and self._usable:
            name = names.pop(0)
            try:
                shipped = await self._store.ship(name)
            except (StoreConflict, NotStored) as error:
                self._done(name, str(error))
            except Unclaimed as error:
                self._unclaimed[name] += 1
                if self._unclaimed[name] >= CLAIMED_TRIES:
                    self._done(name, str(error))
            except OSError as error:
                self._done(name, f"it cannot be read in the spool: {error.strerror}")
            except RelayError as error:
                self._waiting[name] = self._waiting.pop(name, None)  # another one is first then
                self._failed(error)
            else:
                self._worked()
                self._done(name, None, told=shipped)

    def _done(self, name: str, problem: str | None, told: bool = True) -> None:
        self._waiting.pop(name, None)
        self._unclaimed.pop(name, None)
        if not told:
            return
        call = spool.call_of(name)
        if problem is None:
            self.counters["recordings_stored"] += 1
            self._journal.event("recording_stored", call, path=self._store.place.url(name))
        else:  # it stays in the spool
            self.counters["recordings_stuck"] += 1
            self._log.error("recording_stuck", call=call, object=name, problem=problem)

    def _failed(self, error: RelayError) -> None:
        self._usable = False
        self.counters["store_failures"] += 1
        if self.problem is None:
            self._log.error("store_away", problem=str(error), waiting=self.waiting)
        self.problem = str(error)

    def _worked(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._log.info("store_back", waiting=self.waiting)
