"""Where the octets of a recording go: one small interface, and a file.

A container (`wav.WavFile`) writes to a `Sink`; encryption is to be a sink around a sink,
an object store a sink of its own. Sinks block and raise OSError; only the writer thread
calls them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Sink(Protocol):
    """Takes a recording's octets in order."""

    def append(self, octets: bytes) -> None:
        """Add to the end; when it returns, the death of this process loses nothing of it."""

    def close(self, head: bytes) -> None:
        """End it. `head` is what the first octets should read now that the length is known;
        a sink that cannot go back leaves the first ones, which are valid too."""


class FileSink:
    """A new file of mode 0600, written straight through to the operating system.

    Survives the process, not the machine: there is no fsync. Raises FileExistsError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, octets: bytes) -> None:
        written = os.write(self._fd, octets)
        while written < len(octets):  # a nearly full disk takes a part first, then raises
            written += os.write(self._fd, octets[written:])

    def close(self, head: bytes) -> None:
        fd, self._fd = self._fd, -1
        try:
            if head:
                os.pwrite(fd, head, 0)
        finally:
            os.close(fd)
