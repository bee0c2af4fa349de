"""Completes what an earlier run left open: after a crash, or a `kill -9` while it recorded."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from relay.errors import NotAuthentic, RelayError
from relay.keys.ring import KeyRing
from relay.recording import ledger, spool, wav
from relay.recording.encryption import HEADER_OCTETS, TAG_OCTETS, Layout, SegmentCipher
from relay.recording.envelope import unseal
from relay.recording.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Repaired:
    """A recording that an earlier run left open; `problem` says what is wrong with it now."""

    call_id: str
    path: Path
    duration_s: float
    problem: str


def repair_all(directory: Path, keys: KeyRing) -> list[Repaired]:
    """Call it before the first recording starts. Nothing is deleted.

    What ends in the middle of a segment ends with the one before, ledgers get the problem
    "interrupted". A recording that cannot be repaired (its key is missing) is left alone and
    reported; one that another process writes is left alone.
    """
    opened = sorted(directory.glob(f"*/*/*/*{ledger.OPEN_SUFFIX}"))
    audio = [p.with_name(p.name.removesuffix(ledger.OPEN_SUFFIX) + spool.AUDIO) for p in opened]
    return [found for path in audio if (found := _repair(path, keys)) is not None]


def _repair(path: Path, keys: KeyRing) -> Repaired | None:
    call_id = ""
    try:
        entry = ledger.read(ledger.open_path(path))
        call_id = entry.call_id
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            octets = _completed(file, entry, keys)
        duration_s = wav.frames(octets, len(entry.channels)) / wav.RATE_HZ
        entry.close(duration_s, "interrupted")
        ledger.finish(path, entry)
    except BlockingIOError:
        return None
    except (OSError, ValueError, RelayError) as mistake:
        return Repaired(call_id, path, 0.0, f"interrupted, not repaired: {mistake}")
    return Repaired(call_id, path, duration_s, "interrupted")


def _completed(file: BufferedRandom, entry: Ledger, keys: KeyRing) -> int:
    """Ends a file with a last segment, unless only a customer could; its octets in clear."""
    envelope = entry.envelope
    if envelope is None:
        raise NotAuthentic("its ledger has no envelope")
    layout = Layout(envelope.segment)
    full, rest = layout.whole(os.fstat(file.fileno()).st_size)
    header = file.read(HEADER_OCTETS)
    octets = layout.plain(full)
    if len(header) == HEADER_OCTETS and not envelope.for_customers:
        cipher = SegmentCipher(unseal(keys, envelope), envelope.context, envelope.segment, header)
        if not _has_end(file, cipher, full, rest):
            # No other last segment was ever whole, so this nonce has one tag only.
            file.truncate(layout.begin(full))
            file.seek(0, os.SEEK_END)
            file.write(cipher.seal(full, b"", last=True))
        elif rest:
            octets += rest - TAG_OCTETS
        entry.sealed = True
    file.flush()
    os.fsync(file.fileno())
    _measure(file, entry)
    return octets


def _has_end(file: BufferedRandom, cipher: SegmentCipher, full: int, rest: int) -> bool:
    """Whether it was closed, and only its ledger was not."""
    last = full if rest else full - 1
    if last < 0:
        return False
    file.seek(cipher.layout.begin(last))
    try:
        cipher.open(last, file.read(), last=True)
    except NotAuthentic:
        return False
    return True


def _measure(file: BufferedRandom, entry: Ledger) -> None:
    file.seek(0)
    entry.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    entry.octets = file.tell()
