"""The recordings of a region, wherever they are: on their way in the spool, or in their place.

A recording is two objects, its audio and its ledger beside it. It is written in the spool, shipped
when it is closed, and known by one name all the time. Its place is a directory or a bucket.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from relay.config import Recording
from relay.errors import NotStored, StillRecorded, StoreAway, Unclaimed
from relay.recording import ledger, spool
from relay.recording.directory import Directory, Stored, read_range
from relay.residency.boundary import Boundary

HELD_S = 0.05
_NAME = re.compile(r"(?!.*//)(?:[A-Za-z0-9_@][A-Za-z0-9._@-]*/?)+(?<!/)")


class Place(Protocol):
    """Where closed recordings are kept. Each raises StoreAway when it cannot be reached."""

    def url(self, name: str) -> str:
        """Where an object is, for people."""

    async def check(self) -> None:
        """Whether it may be used and can be. Raises StoreError, StoreAway, OutsideRegion."""

    async def probe(self) -> list[str]:
        """Put, read and delete a small object; what the place lacks. Raises as `check`."""

    async def put(self, name: str, source: Path) -> None:
        """Add an object, whole and durable when this returns. One that is there already is never
        overwritten: raises StoreConflict when it is another one."""

    async def get(self, name: str, start: int, end: int | None) -> bytes:
        """The octets from `start` up to `end`. Raises NotStored."""

    async def stat(self, name: str) -> Stored:
        """Raises NotStored."""

    async def delete(self, name: str) -> bool:
        """Remove an object, and what of it was left half put; whether there was any."""

    def list(self, prefix: str) -> AsyncIterator[Stored]:
        """The objects whose names begin so, in order of their names."""

    async def close(self) -> None:
        """Let go of its connections."""


class Store:
    """Recordings by their names (`RecordingRecord.object`), such as 2026/11/26/061500-9f3c….rec.

    `erased` says whether a recording must not be shipped any more, since it is erased; `claimed`
    whether the record of its call (its id, and "-2" and so on) names it.
    """

    def __init__(
        self,
        place: Place,
        directory: Path,
        erased: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self.place = place
        self.spool = directory
        self.erased = erased
        self.claimed: Callable[[str, str], Awaitable[bool]] | None = None

    async def stat(self, name: str) -> Stored:
        """Raises NotStored, StoreAway."""
        found = await asyncio.to_thread(_in_spool, self.spool, checked(name))
        return found or await self.place.stat(name)

    async def get(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The stored octets from `start` up to `end`. Raises NotStored, StoreAway."""
        try:
            return await asyncio.to_thread(read_range, self.spool / checked(name), start, end)
        except FileNotFoundError:
            return await self.place.get(name, start, end)

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        """Closed recordings (their audio) whose names begin so: the spool's, then the place's.
        Raises StoreAway."""
        seen = set()
        for name in await asyncio.to_thread(spool.waiting, self.spool):
            found = name.startswith(prefix) and _in_spool(self.spool, name)
            if found:
                seen.add(name)
                yield found
        async for stored in self.place.list(prefix):
            if stored.name.endswith(spool.AUDIO) and stored.name not in seen:
                yield stored

    async def delete(self, name: str) -> bool:
        """Remove a recording, ledger first, wherever it is; whether there was any of it.

        Raises StillRecorded, StoreAway: then it may be there still.
        """
        try:
            found = await self._delete_spooled(checked(name))
        except OSError as error:
            raise StoreAway(f"{name} in the spool: {error.strerror}") from None
        for each in (spool.ledger_of(name), name):
            found |= await self.place.delete(each)
        return found

    async def ship(self, name: str) -> bool:
        """Take a closed recording from the spool to its place; False when it is not here (any
        more), somebody else does it, or it is erased.

        Raises StoreAway, StoreConflict, Unclaimed, or NotStored for a ledger without audio; it
        stays then.
        """
        with spool.claimed(self.spool, checked(name)) as mine:
            if not mine:
                return False
            gone = await self._erased(name)
            if not gone:
                if self.claimed is not None and not await self.claimed(spool.call_of(name), name):
                    raise Unclaimed("no call's record names it")
                await self._put(name)
                gone = await self._erased(name)  # in the meantime
                if gone:
                    for each in (spool.ledger_of(name), name):
                        await self.place.delete(each)
            await asyncio.to_thread(spool.discard, self.spool, name)
            return not gone

    async def close(self) -> None:
        await self.place.close()

    async def _put(self, name: str) -> None:
        """Audio first: who finds the ledger finds both."""
        if (self.spool / name).exists():
            await self.place.put(name, self.spool / name)
        else:
            await self.place.stat(name)  # shipped, and then we died
        await self.place.put(spool.ledger_of(name), self.spool / spool.ledger_of(name))

    async def _erased(self, name: str) -> bool:
        return self.erased is not None and await self.erased(name)

    async def _delete_spooled(self, name: str) -> bool:
        path = self.spool / name
        if ledger.open_path(path).exists():
            if spool.is_written(path):
                raise StillRecorded(f"{name} is still being recorded")
            await asyncio.to_thread(spool.discard, self.spool, name)
            return True
        while (self.spool / spool.ledger_of(name)).exists():
            with spool.claimed(self.spool, name) as mine:
                if mine:
                    await asyncio.to_thread(spool.discard, self.spool, name)
                    return True
            await asyncio.sleep(HELD_S)  # it is being shipped: then it is deleted there
        return False


def open_store(recording: Recording, boundary: Boundary) -> Store:
    """As configured. Nothing is touched yet."""
    directory = Path(recording.spool)
    if recording.s3 is None:
        return Store(Directory(spool.directory_of(recording.store)), directory)
    # Imported here: a region without a bucket starts without its client.
    from relay.recording.bucket import Bucket

    return Store(Bucket(recording.store, recording.s3, boundary), directory)


def checked(name: str) -> str:
    """A name that leads to nowhere else. Raises NotStored: no other is in the store."""
    if len(name) > 512 or not _NAME.fullmatch(name):
        raise NotStored("there is no object of that name in the store")
    return name


def _in_spool(directory: Path, name: str) -> Stored | None:
    try:
        return Stored.of(name, directory / name, "spool")
    except FileNotFoundError:
        return None
