"""Where the octets of a recording go: one small interface, and a file.

A container (`wav.WavFile`) writes to a `Sink`; encryption (`encryption.EncryptedSink`) is a
sink around a sink. Sinks block and raise OSError; only the writer thread calls them.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class Sink(Protocol):
    """Takes a recording's octets in order."""

    def append(self, octets: bytes) -> None:
        """Add to the end."""

    def close(self) -> None:
        """End it: nothing before is changed."""


class FileSink:
    """A new file of mode 0600, written straight through to the operating system.

    What was appended survives the process, not the machine: there is no fsync. Locked, so that
    no repair takes it for a left one. Raises FileExistsError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def append(self, octets: bytes) -> None:
        written = 0
        try:
            while written < len(octets):  # a nearly full disk takes a part first, then raises
                written += os.write(self._fd, octets[written:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)  # all of it or nothing
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise
        self._size += written

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)
