"""Reading what was encrypted: any octets of it, or all; by who has its data key."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from relay.errors import NotAuthentic
from relay.keys.ring import KeyRing
from relay.recording import ledger, wav
from relay.recording.encryption import HEADER_OCTETS, TAG_OCTETS, SegmentCipher
from relay.recording.envelope import Envelope, unseal
from relay.recording.ledger import Ledger

Fetch = Callable[[int, int], Awaitable[bytes]]
"""The stored octets from one up to, not including, another."""


class Decrypted:
    """The octets of a recording in clear (`playback.Octets`). `whole` is False when the end is
    missing, as after a crash: then it reads up to the last full segment."""

    def __init__(
        self, fetch: Fetch, cipher: SegmentCipher, full: int, rest: int, whole: bool
    ) -> None:
        layout = cipher.layout
        self._fetch = fetch
        self._cipher = cipher
        self.whole = whole
        self._last = full if rest else full - 1
        self.size = layout.plain(full) + (rest - TAG_OCTETS if rest else 0) if full or rest else 0
        self._end = layout.begin(full) + rest

    @staticmethod
    async def open(
        fetch: Fetch, stored: int, data_key: bytes, envelope: Envelope, truncated: bool = False
    ) -> Decrypted:
        """Of a file of `stored` octets. Raises NotAuthentic; for a missing end too, unless it is
        known to be `truncated`."""
        header = await fetch(0, HEADER_OCTETS)
        cipher = SegmentCipher(data_key, envelope.context, envelope.segment, header)
        full, rest = cipher.layout.whole(stored)
        last = full if rest else full - 1
        if last >= 0:
            begin = cipher.layout.begin(last)
            try:
                cipher.open(last, await fetch(begin, stored), last=True)
                return Decrypted(fetch, cipher, full, rest, whole=True)
            except NotAuthentic:
                if not truncated:
                    raise
        elif not truncated:
            raise NotAuthentic("its end is missing")
        return Decrypted(fetch, cipher, full, 0, whole=False)

    async def read(self, start: int, end: int) -> bytes:
        """From `start` up to, not including, `end`. Raises NotAuthentic, what `fetch` raises."""
        end = min(end, self.size)
        if start >= end:
            return b""
        layout = self._cipher.layout
        first, last = layout.holding(start), min(layout.holding(end - 1), self._last)
        begin = layout.begin(first)
        sealed = await self._fetch(begin, min(layout.begin(last + 1), self._end))
        plain = []
        for number in range(first, last + 1):
            part = sealed[layout.begin(number) - begin : layout.begin(number + 1) - begin]
            final = self.whole and number == self._last
            plain.append(self._cipher.open(number, part, final))
        at = layout.plain(first)
        return b"".join(plain)[start - at : end - at]


def segments(
    path: Path, data_key: bytes, envelope: Envelope, truncated: bool = False
) -> Iterator[bytes]:
    """A file in clear, a segment at a time. Raises NotAuthentic, OSError.

    With `truncated` it ends at the last full segment when the end is missing.
    """
    with path.open("rb") as file:
        stored = os.fstat(file.fileno()).st_size
        header = file.read(HEADER_OCTETS)
        cipher = SegmentCipher(data_key, envelope.context, envelope.segment, header)
        full, rest = cipher.layout.whole(stored)
        last = full if rest else full - 1
        for number in range(last):
            yield cipher.open(number, file.read(cipher.layout.begin(number + 1) - file.tell()))
        if last < 0:
            if not truncated:
                raise NotAuthentic("its end is missing")
            return
        sealed = file.read()
        try:
            plain = cipher.open(last, sealed, last=True)
        except NotAuthentic:
            if not truncated:
                raise
            plain = b"" if rest else cipher.open(last, sealed)
        yield plain


def write_wav(clear: BinaryIO, path: Path, data_key: bytes, entry: Ledger) -> None:
    """A recording, decrypted as it is written, as a WAV file of true sizes.

    Raises KeyMissing, NotAuthentic, OSError: then what was written is of no use.
    """
    assert entry.envelope is not None
    octets = sum(
        clear.write(plain)
        for plain in segments(path, data_key, entry.envelope, truncated=not entry.sealed)
    )
    channels = len(entry.channels)
    frames = wav.frames(octets, channels)
    end = wav.HEADER_OCTETS + frames * channels
    clear.seek(end)
    clear.write(b"\0" * (end % 2))  # RIFF chunks are even
    clear.truncate()
    clear.seek(0)
    clear.write(wav.header(entry.codec, channels, frames))


def wav_of(path: Path, keys: KeyRing) -> bytes:
    """A stored recording, its ledger beside it, as the WAV file that it is, its sizes true.

    In memory: for tests and tools. Raises KeyMissing, NotAuthentic, ValueError, OSError.
    """
    entry = ledger.of(path)
    if entry.envelope is None:
        raise NotAuthentic(f"{path}: its ledger has no envelope")
    data_key = unseal(keys, entry.envelope)
    found = segments(path, data_key, entry.envelope, truncated=not entry.sealed)
    return wav.completed(b"".join(found))
