"""The recordings of a region as their listeners ask for them: by id, in the format they want.

What is known of a recording comes from three places that must agree: the call's record (the
database), the ledger beside the audio (the store), and the associated data that each segment was
sealed with. Who can write to one of them cannot pass another recording off as this one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from relay.errors import NotAuthentic, NotKept, NotStored
from relay.keys.ring import KeyRing
from relay.recording import ledger, spool
from relay.recording.decryption import Decrypted
from relay.recording.envelope import unseal
from relay.recording.formats import Format
from relay.recording.ledger import Ledger
from relay.recording.playback import Playback, Sound, play
from relay.recording.store import Store
from relay.residency.record import CallRecord, RecordingRecord

HASHED = 1 << 20
"""Octets that are read at once to verify a digest."""
MADE_AT_ONCE = 2
"""Recordings that are being made into FLAC or Ogg-Opus, each in memory."""


@dataclass(frozen=True, slots=True)
class Found:
    """A recording in its store: `octets` of ciphertext, and what its ledger says."""

    record: RecordingRecord
    ledger: Ledger
    octets: int


class Catalogue:
    """Implements `relay.access.ports.Recordings`.

    `call_of` gives the record of the call that a recording is of, or None.
    """

    def __init__(
        self,
        call_of: Callable[[str], Awaitable[CallRecord | None]],
        store: Store,
        keys: KeyRing,
        region: str,
    ) -> None:
        self._call_of = call_of
        self._store = store
        self._keys = keys
        self._region = region
        self._making = asyncio.Semaphore(MADE_AT_ONCE)

    async def open(
        self, recording_id: str, form: str = "wav", trim_silence: bool | None = None
    ) -> Playback:
        """`form` is a value of `Format`; `trim_silence` None: as its trunk or account wishes.

        Raises NotKept, KeyMissing (of a recording that is for its customer only, too),
        NotAuthentic, StoreError, TooLong, DatabaseUnavailable.
        """
        found = await self.find(recording_id)
        entry = found.ledger
        sound = Sound.of(await self._clear(found), entry.codec, len(entry.channels))
        trimmed = entry.trim_silence if trim_silence is None else trim_silence
        if Format(form) in (Format.WAV, Format.PCM):
            return await play(sound, Format(form), trimmed)
        async with self._making:
            return await play(sound, Format(form), trimmed)

    async def find(self, recording_id: str) -> Found:
        """Raises NotKept, NotAuthentic, StoreError, DatabaseUnavailable."""
        call = await self._call_of(recording_id)
        record = call.recording if call is not None else None
        if record is None or not record.object:
            raise NotKept(f"there is no recording {recording_id}")
        try:
            octets = await self._store.get(spool.ledger_of(record.object))
            stored = await self._store.stat(record.object)
        except NotStored:
            raise NotKept(f"recording {recording_id} is not kept any more, or not yet") from None
        try:
            entry = ledger.parse(octets)
        except ValueError as error:
            raise NotAuthentic(f"recording {recording_id}: its ledger is {error}") from None
        envelope = entry.envelope
        if envelope is None or envelope.context != f"{self._region}/{record.id}":
            raise NotAuthentic(f"recording {recording_id}: its ledger is another recording's")
        if record.sha256:  # it is closed: then nothing of this changes any more
            if record.sha256 != entry.sha256:
                raise NotAuthentic(f"recording {recording_id}: its ledger names another digest")
            if (record.codec, record.channels) != (entry.codec, len(entry.channels)):
                raise NotAuthentic(f"recording {recording_id}: its ledger names another codec")
            if record.octets != stored.octets:
                raise NotAuthentic(f"recording {recording_id}: some of it is missing, or added")
        return Found(record, entry, stored.octets)

    async def verify(self, recording_id: str) -> Found:
        """Read all of it: the digest of the ciphertext, and, where the region has the key, every
        segment. Raises as `open`."""
        found = await self.find(recording_id)
        digest = hashlib.sha256()
        for start in range(0, found.octets, HASHED):
            end = min(start + HASHED, found.octets)
            digest.update(await self._store.get(found.record.object, start, end))
        if digest.hexdigest() != found.ledger.sha256:
            raise NotAuthentic(f"recording {recording_id}: its octets have another digest")
        if found.ledger.envelope is not None and not found.ledger.envelope.for_customers:
            clear = await self._clear(found)
            for start in range(0, clear.size, HASHED):
                await clear.read(start, start + HASHED)
        return found

    async def _clear(self, found: Found) -> Decrypted:
        envelope = found.ledger.envelope
        assert envelope is not None
        return await Decrypted.open(
            partial(self._store.get, found.record.object),
            found.octets,
            unseal(self._keys, envelope),
            envelope,
            truncated=not found.ledger.sealed,
        )
