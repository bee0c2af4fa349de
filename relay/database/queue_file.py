"""What waits for the database, on this node's disk: it outlives the process, killed or not.

A file of SQLite's, with one row a record in the order in which they came. What is personal in one
is sealed already.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from relay.errors import StoreError

# No WAL: what is removed from a full disk would have to fit on it first.
_PRAGMAS = ("journal_mode=TRUNCATE", "synchronous=FULL", "secure_delete=ON")
ROOM_OCTETS = 1 << 20  # left on the disk: removing takes some, for the journal
PAGES_A_RECORD = 2  # of SQLite's, at most as a rule
# AUTOINCREMENT: a number is never used twice, also when the table was empty in between.
_TABLES = (
    "waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, rows BLOB NOT NULL)",
    "rejected (number INTEGER PRIMARY KEY, rows BLOB NOT NULL, problem TEXT NOT NULL)",
)


class QueueFile:
    """One process' and one thread's at a time. Methods raise sqlite3.Error or OSError when the
    disk fails; nothing has changed then."""

    def __init__(self, directory: Path) -> None:
        """Raises StoreError, naming the directory, when it cannot be used."""
        self.file = directory / "records.db"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"cannot keep call records in {directory}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._alive = datetime.fromtimestamp(os.fstat(self._lock).st_mtime, UTC)
            self._connection = self._open()
        except BlockingIOError:
            os.close(self._lock)
            raise StoreError(
                f"database.queue {directory} is another process': each node has its own"
            ) from None
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise StoreError(f"cannot keep call records in {self.file}: {error}") from error

    def append(self, items: Sequence[bytes]) -> None:
        """On the disk when this returns."""
        disk, wanted = os.statvfs(self.file.parent), PAGES_A_RECORD * len(items)
        is_low = disk.f_bavail * disk.f_frsize < ROOM_OCTETS
        if is_low and self._one("PRAGMA freelist_count") < wanted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO waiting (rows) VALUES (?)", [(i,) for i in items])

    def first(self, most: int) -> list[tuple[int, bytes]]:
        """The oldest, with their numbers."""
        chosen = "SELECT number, rows FROM waiting ORDER BY number LIMIT ?"
        return self._connection.execute(chosen, (most,)).fetchall()

    def remove(self, last: int) -> None:
        """Those up to this number are in the database."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM waiting WHERE number <= ?", (last,))

    def reject(self, number: int, problem: str) -> None:
        """Set one aside that the database does not take: it must not keep back all others."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO rejected SELECT number, rows, ? FROM waiting WHERE number = ?",
                (problem, number),
            )
            connection.execute("DELETE FROM waiting WHERE number = ?", (number,))

    @property
    def alive(self) -> datetime:
        """When the run before this one was last seen."""
        return self._alive

    def beat(self) -> None:
        """This run is alive."""
        os.utime(self._lock)

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM waiting"))

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    def _one(self, query: str) -> int:
        (value,) = self._connection.execute(query).fetchone()
        return int(value)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.file, timeout=5.0, isolation_level=None, check_same_thread=False
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        for table in _TABLES:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        return connection
