"""The directory that recordings are written in: names and permissions.

`<spool>/<YYYY>/<MM>/<DD>/<HHMMSS>-<call id>.rec`, by the start in its own time zone. Files
are 0600, directories 0700. What is closed, its ledger says so, waits there for the store; who
ships or deletes it holds a lock on its ledger, so that a node and a command never do both.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC, ENOTDIR
from os import strerror
from pathlib import Path
from tempfile import TemporaryFile

from relay.call.ports import RecordingSpec
from relay.errors import StoreError
from relay.recording import ledger

MOST_NAMESAKES = 100
AUDIO = ".rec"  # it is encrypted: no player knows what to do with it


def directory_of(store: str) -> Path:
    """The directory that a `recording.store` such as "file:var/recordings" names.

    Raises ValueError with a text for the operator.
    """
    scheme, colon, rest = store.partition(":")
    if not colon or scheme != "file":
        raise ValueError(f'{store!r}: only a directory is served, as "file:var/recordings"')
    if not rest or "\0" in rest:
        raise ValueError(f'{store!r}: names no directory; write it as "file:var/recordings"')
    return Path(rest.removeprefix("//"))


def safe_name(call_id: str) -> str:
    """A call id as a part of a file name; not unique by itself."""
    return re.sub(r"[^A-Za-z0-9._@-]", "_", call_id)[:80].lstrip(".") or "call"


def make_directory(directory: Path) -> None:
    """Create it and what is missing above, mode 0700. Raises OSError."""
    if not directory.is_dir():
        make_directory(directory.parent)
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(ENOTDIR, strerror(ENOTDIR), str(directory)) from None


def check_writable(directory: Path) -> None:
    """Raises StoreError, naming the directory, when no recording could be made in it."""
    try:
        make_directory(directory)
        if directory.stat().st_mode & stat.S_IWOTH:
            raise StoreError(
                f"{directory}: anybody may write to it, and put other recordings in the place of "
                f"ours: chmod o-w {directory}"
            )
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            return  # each recording will say so; calls go on
        raise StoreError(
            f"cannot write recordings to {directory}: {error.strerror}; "
            f"`namei -l {directory.absolute()}` shows whose directories those are"
        ) from error


def candidates(directory: Path, spec: RecordingSpec) -> list[Path]:
    """Names for a recording, in the order in which to try them; makes the day's directory."""
    day = directory / spec.started.strftime("%Y/%m/%d")
    make_directory(day)
    stem = f"{spec.started:%H%M%S}-{safe_name(spec.call_id)}"
    again = (f"{stem}-{n}" for n in range(2, MOST_NAMESAKES))
    return [day / (name + AUDIO) for name in (stem, *again)]


def ledger_of(name: str) -> str:
    """The name of a recording's ledger, which lies beside it."""
    return name.removesuffix(AUDIO) + ledger.SUFFIX


def call_of(name: str) -> str:
    """The call that a recording is of, for the log."""
    return name.rpartition("/")[2].removesuffix(AUDIO).partition("-")[2]


def waiting(directory: Path) -> list[str]:
    """The recordings that are closed and still here, oldest first."""
    ledgers = sorted(directory.glob(f"*/*/*/*{ledger.SUFFIX}"))
    return [str(path.relative_to(directory).with_suffix(AUDIO)) for path in ledgers]


def left(directory: Path) -> Iterator[tuple[str, ledger.Ledger]]:
    """What an earlier run has left, closed or open, as far as a ledger says what it is."""
    open_ones = directory.glob(f"*/*/*/*{ledger.OPEN_SUFFIX}")
    names = {str(path.relative_to(directory))[: -len(ledger.OPEN_SUFFIX)] for path in open_ones}
    for name in [*waiting(directory), *sorted(each + AUDIO for each in names)]:
        with suppress(OSError, ValueError):
            if not is_written(directory / name):
                yield name, ledger.of(directory / name)


@contextmanager
def claimed(directory: Path, name: str) -> Iterator[bool]:
    """Hold a closed recording, that nobody else may ship or delete it meanwhile.

    False: it is not here (any more), or somebody else holds it.
    """
    path = directory / ledger_of(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locked(fd) and path.exists()  # its last holder may have shipped it
    finally:
        os.close(fd)


def is_written(path: Path) -> bool:
    """Whether somebody still writes this recording; else a crash has left it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _locked(fd)
    finally:
        os.close(fd)


def discard(directory: Path, name: str) -> None:
    """Remove a recording that is held; its ledger last, by which it is found again."""
    path = directory / name
    path.unlink(missing_ok=True)
    ledger.open_path(path).unlink(missing_ok=True)
    (directory / ledger_of(name)).unlink(missing_ok=True)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
