"""The database: SQLite in a file by default, PostgreSQL for a region of several nodes.

Whatever keeps it from answering is DatabaseUnavailable; what else is raised is a bug.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from relay.config import Database as Settings
from relay.errors import DatabaseUnavailable
from relay.residency.boundary import Boundary

BUSY_S = 10.0  # that a writer of SQLite waits for another one
# secure_delete: what was redacted is overwritten, not only let go.
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    f"busy_timeout={int(BUSY_S * 1000)}",
)
# PostgreSQL's classes of failures that are of a value, which it will never take; with any other
# (read-only, full, a table or a right that is missing) it may take the same later.
_OF_VALUES = ("22", "23")
# Without such a class, by name: SQLAlchemy's other failures are classes below these. A plain
# DatabaseError is SQLite's word for a file that is damaged, or none of its own.
_AWAY = ("OperationalError", "InterfaceError", "DatabaseError")


class Database:
    """One region's, on one event loop. Nothing is connected before it is asked for."""

    def __init__(self, settings: Settings, boundary: Boundary) -> None:
        self.settings = settings
        self._engine = self._made(boundary)
        self._writing = self._engine.execution_options(writes=True)

    @property
    def is_embedded(self) -> bool:
        """Whether it is a file of this node."""
        return self.settings.file is not None

    async def open(self) -> None:
        """Bring its tables up to date; safe at the same time as other nodes.

        Raises DatabaseUnavailable, OutsideRegion.
        """
        from relay.database import migration  # Alembic takes a third of a second to import

        async with self.writing() as connection:
            if not self.is_embedded:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({migration.LOCK})"))
            await connection.run_sync(migration.upgrade)

    async def missing(self) -> list[str]:
        """The steps that its tables lack, oldest first. Raises as `open` does."""
        from relay.database import migration

        if self._is_to_be_made():
            return migration.steps()
        async with self.reading() as connection:
            return await connection.run_sync(migration.missing)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes nothing. Raises DatabaseUnavailable, OutsideRegion."""
        with _told():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, all of which is kept or nothing. Raises as `reading` does."""
        with _told():
            async with self._writing.begin() as connection:
                yield connection

    async def scrub(self) -> None:
        """After an erasure: nothing older than the newest state stays in SQLite's own log."""
        if self.is_embedded:
            with _told():
                async with self._engine.connect() as connection:
                    raw = await connection.get_raw_connection()
                    assert raw.driver_connection is not None
                    await raw.driver_connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        await self._engine.dispose()

    def _is_to_be_made(self) -> bool:
        return self.settings.file is not None and not Path(self.settings.file).exists()

    def _made(self, boundary: Boundary) -> AsyncEngine:
        if self.settings.file is None:
            from relay.database.postgres import Connector

            return create_async_engine(
                "postgresql+asyncpg://",
                async_creator=Connector(self.settings, boundary).connect,
                pool_size=4,
                max_overflow=4,
                pool_timeout=BUSY_S,
                pool_pre_ping=True,
            )
        file = Path(self.settings.file)
        engine = create_async_engine(f"sqlite+aiosqlite:///{file.absolute()}")
        event.listen(engine.sync_engine, "do_connect", lambda *_: _make_file(file))
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Database]:
    """For a command: up to date, and closed again."""
    try:
        await database.open()
        yield database
    finally:
        await database.close()


@contextmanager
def _told() -> Iterator[None]:
    """Failures of the database's in the relay's words; the text holds no statement."""
    try:
        yield
    except (OSError, PoolTimeout, TimeoutError) as error:
        raise DatabaseUnavailable(f"the database does not answer: {error}") from error
    except DBAPIError as error:
        if is_away(error):
            raise DatabaseUnavailable(f"the database does not answer: {error.orig}") from error
        raise


def is_away(error: DBAPIError) -> bool:
    """Whether it is the database that failed, and not what it was given."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] not in _OF_VALUES
    if isinstance(getattr(error.orig, "__cause__", None), ValueError):  # asyncpg: it does not fit
        return False
    return error.connection_invalidated or type(error).__name__ in _AWAY


def _make_file(file: Path) -> None:
    """For nobody else's eyes; SQLite gives its log the same mode.

    One that is there is not opened: to close it would drop all locks that this process has on it,
    and then another process takes itself for the last one, and takes SQLite's log away.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _set_up_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None  # `begin` is ours, below
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: later it would fail instead of waiting for it."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
