"""The directory of recordings: names, permissions, and the repair after a crash.

`<store>/<YYYY>/<MM>/<DD>/<HHMMSS>-<call id>.wav`, by the start in its own time zone. Files
are 0600, directories 0700.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC, ENOTDIR
from os import strerror
from pathlib import Path
from tempfile import TemporaryFile

from relay.call.ports import RecordingSpec
from relay.errors import StoreError
from relay.recording import ledger, wav

MOST_NAMESAKES = 100


@dataclass(frozen=True, slots=True)
class Repaired:
    """A recording that an earlier run left open; `problem` says what is wrong with it now."""

    call_id: str
    path: Path
    duration_s: float
    problem: str


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
    return [day / f"{stem}.wav", *(day / f"{stem}-{n}.wav" for n in range(2, MOST_NAMESAKES))]


def repair_all(directory: Path) -> list[Repaired]:
    """Complete what an earlier run left open. Call it before the first recording starts.

    Headers get their true sizes, ledgers the problem "interrupted". A file that cannot be
    repaired is left alone and reported; nothing is deleted.
    """
    opened = sorted(directory.glob(f"*/*/*/*{ledger.OPEN_SUFFIX}"))
    return [_repair(path.with_name(path.name.removesuffix(ledger.OPEN_SUFFIX) + ".wav"))
            for path in opened]  # fmt: skip


def _repair(path: Path) -> Repaired:
    call_id = ""
    try:
        found = ledger.read(ledger.open_path(path))
        call_id = found.call_id
        duration_s = wav.repair(path)
        found.close(duration_s, "interrupted")
        ledger.finish(path, found)
    except (OSError, ValueError) as mistake:
        return Repaired(call_id, path, 0.0, f"interrupted, not repaired: {mistake}")
    return Repaired(call_id, path, duration_s, "interrupted")
