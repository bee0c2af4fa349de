"""Recordings in a directory: files of mode 0600 in directories of mode 0700.

From a spool on the same file system a recording comes by a link, which costs nothing; from
another one it is copied under a name of its own, then linked. A link overwrites nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EXDEV
from pathlib import Path
from typing import Literal

from relay.disk import sync
from relay.errors import NotStored, StoreAway, StoreConflict, StoreError
from relay.recording.spool import check_writable, make_directory

COPIED = ".copied-"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its size in octets, where it is, and since when."""

    name: str
    octets: int
    where: Literal["spool", "store"]
    modified: datetime

    @staticmethod
    def of(name: str, path: Path, where: Literal["spool", "store"]) -> Stored:
        """A file. Raises OSError."""
        status = path.stat()
        return Stored(name, status.st_size, where, datetime.fromtimestamp(status.st_mtime, UTC))


class Directory:
    """A `relay.recording.store.Place` on a local or mounted file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def url(self, name: str) -> str:
        return str(self._root / name)

    async def check(self) -> None:
        await asyncio.to_thread(check_writable, self._root)

    async def probe(self) -> list[str]:
        await self.check()
        try:
            await asyncio.to_thread(self._probe)
        except OSError as error:
            raise _failure("an object", error) from error
        return []

    async def put(self, name: str, source: Path) -> None:
        await asyncio.to_thread(self._put, name, source)

    async def get(self, name: str, start: int, end: int | None) -> bytes:
        try:
            return await asyncio.to_thread(read_range, self._root / name, start, end)
        except OSError as error:
            raise _failure(name, error) from error

    async def stat(self, name: str) -> Stored:
        try:
            return await asyncio.to_thread(Stored.of, name, self._root / name, "store")
        except OSError as error:
            raise _failure(name, error) from error

    async def delete(self, name: str) -> bool:
        try:
            await asyncio.to_thread(os.unlink, self._root / name)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failure(name, error) from error
        return True

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        for path in await asyncio.to_thread(self._files, prefix):
            with suppress(FileNotFoundError):  # deleted meanwhile
                yield Stored.of(str(path.relative_to(self._root)), path, "store")

    async def close(self) -> None:
        """Nothing is open."""

    def _files(self, prefix: str) -> Sequence[Path]:
        below = self._root / prefix.rpartition("/")[0]
        paths = (Path(folder) / name for folder, _, names in os.walk(below) for name in names)
        return sorted(
            path
            for path in paths
            if str(path.relative_to(self._root)).startswith(prefix)
            and not path.name.startswith(COPIED)
        )

    def _probe(self) -> None:
        with tempfile.NamedTemporaryFile(prefix=COPIED, dir=self._root) as file:
            linked = Path(f"{file.name}-linked")
            _link(Path(file.name), linked)
            linked.unlink()

    def _put(self, name: str, source: Path) -> None:
        target = self._root / name
        try:
            make_directory(target.parent)
            sync(source)
            try:
                _link(source, target)
            except OSError as error:
                if error.errno != EXDEV:
                    raise
                _copy(source, target)
            sync(target.parent)
        except FileExistsError:
            if not _same(source, target):
                raise StoreConflict(f"another object is called {name}") from None
            if _one_file(source, target):
                raise StoreError("the spool and the store are one directory") from None
        except OSError as error:
            raise _failure(name, error) from error


def read_range(path: Path, start: int, end: int | None) -> bytes:
    """The octets from `start` up to `end`, fewer at the end of the file. Raises OSError."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read() if end is None else file.read(max(end - start, 0))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(source: Path, target: Path) -> None:
    os.link(source, target, follow_symlinks=False)


def _copy(source: Path, target: Path) -> None:
    fd, made = tempfile.mkstemp(prefix=COPIED, dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
        _link(Path(made), target)
    finally:
        os.unlink(made)


def _same(one: Path, other: Path) -> bool:
    return os.path.samefile(one, other) or digest_of(one) == digest_of(other)


def _one_file(one: Path, other: Path) -> bool:
    """Rather than two links: who removed one of them would remove the recording."""
    return os.path.samefile(one.parent, other.parent)


def _failure(name: str, error: OSError) -> StoreAway | NotStored:
    if isinstance(error, FileNotFoundError):
        return NotStored(f"{name} is not in the store")
    return StoreAway(f"the store's directory: {error.strerror}")
