"""Call records as a region's database has them now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from relay.archive import Archive
from relay.config import load
from relay.database.call_records import Query
from relay.database.session import opened
from relay.residency.record import CallRecord
from tests.interop.region import DEADLINE_S


def kept(config: Path) -> list[CallRecord]:
    """What is in the database of this configuration, newest first."""

    async def main() -> list[CallRecord]:
        archive = Archive(load(config))
        async with opened(archive.database):
            return await archive.call_records.find(Query())

    return asyncio.run(main())


def until(config: Path, holds: Callable[[list[CallRecord]], bool]) -> list[CallRecord]:
    """The same, once it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds(found := kept(config)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)  # polls the database
    return found
