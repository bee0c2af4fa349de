"""The files of revoked access tokens, read again when they change.

A file that cannot be read any more leaves what was read before; at the start it is a mistake of
the configuration, like all else that cannot be read then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping

import structlog

from relay.config import read_revoked

EVERY_S = 2.0


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
                ids = read_revoked(path)
            except ValueError as error:
                self._log.warning("revoked_tokens_refused", account=account, problem=str(error))
                continue
            self._told(account, ids)
            self._log.info("revoked_tokens_loaded", account=account, count=len(ids))


def _stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino
