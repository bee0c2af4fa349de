"""Recordings as who may hear them gets them: found, decrypted and made what was asked for.

Whether they may is decided before (`access/reading`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from relay.access import ports
from relay.errors import NotAuthentic, NotKept, NotStored
from relay.keys.ring import KeyRing
from relay.recording import ledger, spool
from relay.recording.decryption import Decrypted
from relay.recording.envelope import unseal
from relay.recording.formats import Format
from relay.recording.playback import Playback, Sound, play
from relay.recording.store import Store
from relay.residency.record import CallRecord

GONE = "there is no such recording, or it is not kept any more"


class Calls(Protocol):
    async def of_recording(self, recording_id: str) -> CallRecord | None: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """`access.ports.Playback` of a playback."""

    playback: Playback

    @property
    def size(self) -> int:
        return self.playback.size

    @property
    def media_type(self) -> str:
        return self.playback.form.media_type

    async def read(self, start: int, end: int) -> bytes:
        return await self.playback.read(start, end)


class Recordings:
    """All of one region's, by the ids that call records know them by. `trimmed` are the trunks
    and accounts that want silence left out."""

    def __init__(
        self, calls: Calls, store: Store, keys: KeyRing, trimmed: Collection[str] = ()
    ) -> None:
        self._calls, self._store, self._keys = calls, store, keys
        self._trimmed = trimmed

    async def open(
        self, recording_id: str, form: ports.Format = "wav", trim_silence: bool | None = None
    ) -> Heard:
        """Raises NotKept; KeyMissing where the region has no key to it; NotAuthentic for one that
        was changed; StoreAway, TooLong."""
        call = await self._calls.of_recording(recording_id)
        if call is None or call.recording is None:
            raise NotKept(GONE)
        try:
            sound = await self.sound(call.recording.object)
        except NotStored:
            raise NotKept(GONE) from None
        if trim_silence is None:
            trim_silence = any(leg.peer in self._trimmed for leg in call.legs)
        return Heard(await play(sound, Format(form), trim_silence))

    async def sound(self, name: str) -> Sound:
        """Of a recording by its name in the store. Raises NotStored, and as `open` does."""
        octets = await self._store.get(spool.ledger_of(name))
        try:
            known = ledger.parse(octets)
        except ValueError:
            raise NotAuthentic(f"the ledger of {name} is none of this relay") from None
        if known.envelope is None:
            raise NotAuthentic(f"{name} is not encrypted: the relay wrote no such recording")
        data_key = unseal(self._keys, known.envelope)
        stored = (await self._store.stat(name)).octets

        async def fetch(start: int, end: int) -> bytes:
            return await self._store.get(name, start, end)

        plain = await Decrypted.open(fetch, stored, data_key, known.envelope, not known.sealed)
        return Sound.of(plain, known.codec, len(known.channels))
