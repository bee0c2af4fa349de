"""The audit log on the disk: lines that are only ever appended, in numbered files.

A node and the commands of its operator write to the same log: each append takes the lock of the
directory, reads what others have added since, and goes on from there. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from relay.disk import sync
from relay.errors import AuditUnavailable
from relay.residency import audit
from relay.residency.audit import NO_ENTRY, OPENED, Draft, digest_of, line_of
from relay.residency.signing import Signer

FILE_OCTETS = 16 << 20
"""From this size on the log continues in another file."""
DIGITS, SUFFIX = 12, ".jsonl"  # of a file's name: the number of its first entry
_SIGNED = b'{"action":"%s"' % audit.CHECKPOINT.encode()


@dataclass(slots=True)
class _Tail:
    """Where the log ends: entry `number`, whose line has `digest`, at octet `size` of `path`.

    `chain` is from the entry that opens the file; `checkpoint` is the last signed entry that is
    known of.
    """

    path: Path
    size: int = 0
    number: int = 0
    digest: str = NO_ENTRY
    chain: str = ""
    checkpoint: dict[str, Any] | None = None


class AuditFiles:
    """One node's log; may be used by several threads. `clock` gives the wall time."""

    def __init__(
        self,
        directory: Path,
        region: str,
        node: str,
        clock: Callable[[], datetime],
        file_octets: int = FILE_OCTETS,
    ) -> None:
        self.directory = directory
        self._region, self._node, self._clock = region, node, clock
        self._file_octets = file_octets
        self._mutex = threading.Lock()
        self._tail: _Tail | None = None

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Write entries, all or none; their numbers, when they are on the disk.

        Raises AuditUnavailable.
        """
        with self._writing() as tail:
            return [entry["n"] for entry in self._write(tail, [draft.entry for draft in drafts])]

    def checkpoint(self, signer: Signer) -> dict[str, Any]:
        """Sign what is there; the checkpoint of before when nothing has been added since.

        Raises AuditUnavailable.
        """
        with self._writing() as tail:
            last = tail.checkpoint
            if last is not None and last["n"] == tail.number:
                return last
            log = {"region": self._region, "node": self._node, "chain": tail.chain}

            def entry(number: int, at: datetime, previous: str) -> dict[str, Any]:
                return audit.checkpoint(number, at, previous, log, signer)

            return self._write(tail, [entry])[0]

    def state(self) -> tuple[int, dict[str, Any] | None]:
        """The number of the last entry, and the last checkpoint. Raises AuditUnavailable."""
        with self._writing() as tail:
            return tail.number, tail.checkpoint

    def lines(self, first: int = 1) -> Iterator[bytes]:
        """The whole lines from entry `first` on; needs no lock. Raises AuditUnavailable."""
        paths = self._paths()
        with _told(self.directory):
            for path, following in zip(paths, [*paths[1:], None], strict=False):
                if following is not None and int(following.stem) <= first:
                    continue
                with path.open("rb") as file:
                    for number, line in enumerate(file, int(path.stem)):
                        if number >= first and line.endswith(b"\n"):
                            yield line[:-1]

    def export(self, signer: Signer, first: int = 1) -> Iterator[bytes]:
        """Lines from entry `first` to a checkpoint that is made now, and their seal: what
        `residency.audit_verify` verifies. Raises AuditUnavailable."""
        made = self.checkpoint(signer)
        last = made["n"]
        if not 1 <= first <= last:
            raise AuditUnavailable(f"there is no entry {first}: the last one is {last}")
        for line in islice(self.lines(first), last - first + 1):
            yield line + b"\n"
        digest = digest_of(line_of(made))
        yield (
            line_of(audit.seal(first, last, digest, self._clock(), made["details"], signer)) + b"\n"
        )

    # --- writing, under the lock

    @contextmanager
    def _writing(self) -> Iterator[_Tail]:
        with self._mutex, _told(self.directory), self._lock():
            yield self._caught_up()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        if not self.directory.exists():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.directory / "lock", flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _caught_up(self) -> _Tail:
        """Read what others have added. A line that its writer did not finish is cut off."""
        paths = self._paths()
        if not paths:
            return self._opened(_Tail(self._path(1)))
        tail = self._tail
        if tail is None or tail.path != paths[-1]:
            known = tail.checkpoint if tail is not None else None
            tail = _Tail(paths[-1], number=int(paths[-1].stem) - 1, checkpoint=known)
        octets = self._read(tail)
        torn = len(octets) - (octets.rfind(b"\n") + 1)
        if torn:
            os.truncate(tail.path, tail.size + len(octets) - torn)
        self._take(tail, octets[: len(octets) - torn])
        if tail.size == 0:  # its writer died before the first line
            tail.path.unlink()
            return self._caught_up()
        self._tail = tail
        if torn:
            self._write(tail, [Draft("audit-repaired", details={"octets": torn}).entry])
        return tail

    def _read(self, tail: _Tail) -> bytes:
        with tail.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < tail.size:
                raise AuditUnavailable(
                    f"{tail.path} was cut from {tail.size} to {size} octets: the log was changed"
                )
            file.seek(tail.size)
            return file.read()

    def _take(self, tail: _Tail, octets: bytes) -> None:
        if not octets:
            return
        lines = octets[:-1].split(b"\n")
        try:
            if tail.size == 0:
                self._take_first(tail, lines[0])
            for line in reversed(lines):
                if line.startswith(_SIGNED):
                    tail.checkpoint = json.loads(line)
                    break
            tail.number = int(json.loads(lines[-1])["n"])
        except (ValueError, KeyError, TypeError, AttributeError) as mistake:
            raise AuditUnavailable(
                f"{tail.path} has a line that is no entry: `relay audit export` and "
                f"`relay audit verify` show which ({mistake})"
            ) from mistake
        tail.digest = digest_of(lines[-1])
        tail.size += len(octets)

    def _take_first(self, tail: _Tail, line: bytes) -> None:
        """The entry that opens a file. Raises ValueError, KeyError, AuditUnavailable."""
        entry = json.loads(line)
        details = entry["details"]
        tail.chain = digest_of(line) if entry["n"] == 1 else details["chain"]
        if details["region"] != self._region:
            raise AuditUnavailable(
                f"{tail.path} is the log of region {details['region']}, not {self._region}"
            )

    def _opened(self, tail: _Tail) -> _Tail:
        """Begin a file after `tail`; the first one of all begins a chain."""
        path = self._path(tail.number + 1)
        following = _Tail(path, 0, tail.number, tail.digest, tail.chain, tail.checkpoint)
        about = {"region": self._region, "node": self._node}
        about |= {"chain": tail.chain} if tail.chain else {"salt": secrets.token_hex(16)}
        self._write(following, [Draft(OPENED, details=about).entry])
        sync(self.directory)
        following.chain = tail.chain or following.digest
        return following

    def _write(
        self, tail: _Tail, makers: Sequence[Callable[[int, datetime, str], dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Append the entries that these make of number, time and digest."""
        if tail.size >= self._file_octets:
            tail = self._opened(tail)
        digest, at = tail.digest, self._clock()
        entries, lines = [], []
        for number, make in enumerate(makers, tail.number + 1):
            entry = make(number, at, digest)
            line = line_of(entry)
            digest = digest_of(line)
            lines.append(line + b"\n")
            entries.append(entry)
        octets = b"".join(lines)
        _append(tail.path, octets, tail.size)
        tail.number, tail.digest, tail.size = (
            tail.number + len(lines),
            digest,
            tail.size + len(octets),
        )
        if entries and entries[-1]["action"] == audit.CHECKPOINT:
            tail.checkpoint = entries[-1]
        self._tail = tail
        return entries

    def _paths(self) -> list[Path]:
        with _told(self.directory):
            return sorted(self.directory.glob("[0-9]" * DIGITS + SUFFIX))

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:0{DIGITS}}{SUFFIX}"


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """What the system says, as what it means here."""
    try:
        yield
    except OSError as error:
        raise AuditUnavailable(
            f"the audit log in {directory} cannot be written: {error.strerror or error}"
        ) from error


def _append(path: Path, octets: bytes, size: int) -> None:
    """Write at the end, which is at `size`, and through to the disk; or leave nothing behind."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        while written < len(octets):  # a nearly full disk takes a part first, then raises
            written += os.write(fd, octets[written:])
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, size)
        raise
    finally:
        os.close(fd)
