"""Octets of something large: byte ranges (RFC 9110 section 14), sent piece by piece.

When a read is refused on the way the connection is cut: the other end sees that there is less than
was promised.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relay.errors import RelayError, StoreError

PIECE = 1 << 16  # between two of them it is asked whether it may go on
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class Unsatisfiable(ValueError):
    """A range of which there is nothing (RFC 9110 section 15.5.17)."""


def wanted(field: str | None, size: int) -> tuple[int, int] | None:
    """From where, up to and not including where; None for all of it, as for what is no range of
    one part (section 14.2 lets us). Raises Unsatisfiable."""
    match = _RANGE.fullmatch(field.strip()) if field is not None else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    elif last and int(last) < int(first):
        return None
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise Unsatisfiable
    return start, end


class Pieces(Response):
    """What `pieces` gives, of `size` octets in all (None: not known before), `within` whatever is
    to be held meanwhile. `on_refused` hears why it was cut."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        size: int | None,
        headers: dict[str, str],
        on_refused: Callable[[RelayError, str], None],
        within: Callable[[], AbstractContextManager[None]],
        status: int = 200,
    ) -> None:
        super().__init__(None, status, headers)
        del self.headers["content-length"]
        if size is not None:
            self.headers["content-length"] = str(size)
        self._pieces, self._on_refused, self._within = pieces, on_refused, within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        with self._within():
            await send({**head, "headers": self.raw_headers})
            gone = asyncio.ensure_future(_gone(receive))
            try:
                if scope["method"] == "HEAD" or await self._send(send, gone):
                    await send({"type": "http.response.body", "body": b""})
            finally:
                gone.cancel()

    async def _send(self, send: Send, gone: asyncio.Future[None]) -> bool:
        """Whether all of it was."""
        try:
            async for piece in self._pieces:
                if gone.done():
                    return False
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except RelayError as error:
            self._on_refused(error, "")
            return False
        return True


async def _gone(receive: Receive) -> None:
    """Until the other end is."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def spans(
    read: Callable[[int, int], Awaitable[bytes]], start: int, end: int
) -> AsyncIterator[bytes]:
    """The octets from `start` up to `end`, as `read` gives them. Raises StoreError for fewer."""
    for at in range(start, end, PIECE):
        piece = await read(at, min(at + PIECE, end))
        if len(piece) != min(PIECE, end - at):
            raise StoreError("the recording has ended before its size")
        yield piece


async def lines(found: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each with its end, some at once."""
    waiting = b""
    async for line in found:
        waiting += line if line.endswith(b"\n") else line + b"\n"
        if len(waiting) >= PIECE:
            yield waiting
            waiting = b""
    yield waiting
