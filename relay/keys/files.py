"""Files of keys: nobody else may read them, and they are replaced in one step."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.disk import sync
from relay.errors import KeyMissing

OTHERS = stat.S_IRWXG | stat.S_IRWXO
LOCK = ".lock"

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """What changes when the file is replaced. Raises KeyMissing when it is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise _missing(path, error) from None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def read(path: Path) -> bytes:
    """A file of mode 0600 in a directory of mode 0700, both ours. Raises KeyMissing."""
    try:
        _check_private(path.parent, path.parent.stat(), "700")
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()), "600")
            return file.read()
    except OSError as error:
        raise _missing(path, error) from None


def write(path: Path, octets: bytes) -> None:
    """Put a file in the place of another; it is on the disk when this returns. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Makes the directory (0700) if need be; one change of its keys at a time. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_private(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_mode & OTHERS:
        raise KeyMissing(
            f"{path}: others may read it (mode {stat.S_IMODE(found.st_mode):04o}), so no key in it "
            f"is used: chmod {mode} {path}"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise KeyMissing(f"{path}: is another user's, so no key in it is used")


def _missing(path: Path, error: OSError) -> KeyMissing:
    return KeyMissing(f"{path}: {error.strerror}; `relay keys create` makes what is missing")
