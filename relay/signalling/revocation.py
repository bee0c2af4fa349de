"""The files of revoked access tokens, read again when they change.

One token id (`jti`) a line; empty lines and those that begin with # say nothing. A file that
cannot be read leaves what was read before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import structlog

EVERY_S = 2.0
MOST_OCTETS = 8 << 20  # some 200,000 ids; tokens live for a day at most


class Revocation:
    """Watches the file of each account."""

    def __init__(
        self, files: Mapping[str, str], revoked: Callable[[str, Collection[str]], None]
    ) -> None:
        """`files` by account; `revoked` is told all ids of one whenever they change."""
        self._files = files
        self._told = revoked
        self._seen: dict[str, object] = {}
        self._log = structlog.get_logger()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Read now, and look again every two seconds."""
        self.look()
        if self._files:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Read what has changed."""
        for account, path in self._files.items():
            stamp = _stamp(path)
            if stamp == self._seen.get(account):
                continue
            self._seen[account] = stamp
            try:
                ids = read(path)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                self._log.warning("revoked_tokens_refused", account=account, problem=why)
                continue
            self._told(account, ids)
            self._log.info("revoked_tokens_loaded", account=account, count=len(ids))


def read(path: str) -> frozenset[str]:
    """The ids of a file. Raises OSError, or ValueError for what is no such file."""
    octets = Path(path).read_bytes()
    if len(octets) > MOST_OCTETS:
        raise ValueError(f"it has more than {MOST_OCTETS} octets")
    try:
        lines = octets.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    return frozenset(line.strip() for line in lines if line.strip() and line.strip()[0] != "#")


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino
