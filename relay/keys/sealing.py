"""What the region's keys do: seal and open, wrap data keys, derive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tink
from tink import aead, prf

from relay.errors import KeyMissing, NotAuthentic
from relay.keys.keyset import Keyset, key_name
from relay.keys.state import KeyState

PREFIX_OCTETS = 5  # Tink's output prefix: one octet of version, four of the key's number


class Sealing:
    """AES-256-GCM by one purpose's keys (Tink AEAD). `context` is authenticated, not kept: what
    was sealed for one record opens for no other."""

    def __init__(self, keyset: Keyset) -> None:
        self._keyset = keyset
        self._aead = keyset.handle.primitive(aead.Aead)

    def seal(self, plain: bytes, context: str) -> bytes:
        sealed: bytes = self._aead.encrypt(plain, context.encode())
        return sealed

    def open(self, sealed: bytes, context: str) -> bytes:
        """Raises KeyMissing when its key is not there, NotAuthentic when it was changed."""
        try:
            plain: bytes = self._aead.decrypt(sealed, context.encode())
        except tink.TinkError:
            raise self._why_not(sealed) from None
        return plain

    def key_id(self, sealed: bytes) -> str:
        """Which key sealed it."""
        return key_name(self._keyset.purpose, int.from_bytes(sealed[1:PREFIX_OCTETS], "big"))

    def _why_not(self, sealed: bytes) -> KeyMissing | NotAuthentic:
        name = self.key_id(sealed)
        states = {key.id: key.state for key in self._keyset.keys}
        if len(sealed) < PREFIX_OCTETS or sealed[0] != 1:
            return NotAuthentic("was not sealed by a key of the region")
        if name not in states:
            return KeyMissing(f"key {name}, which it is sealed under, is not among the region's")
        if states[name] in (KeyState.RETIRED, KeyState.DESTROYED):
            return KeyMissing(f"key {name}, which it is sealed under, is {states[name].value}")
        return NotAuthentic(f"what {name} sealed was changed, or belongs to something else")


class Wrapping(Sealing):
    """The same for the data keys of recordings."""

    def wrap(self, data_key: bytes, context: str) -> tuple[str, bytes]:
        """The id of the wrapping key, and the wrapped key."""
        wrapped = self.seal(data_key, context)
        return self.key_id(wrapped), wrapped

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """Raises KeyMissing, NotAuthentic."""
        return self.open(wrapped, context)


class Derivation:
    """Values and keys that can be computed again, but not back (Tink PRF)."""

    def __init__(self, keyset: Keyset) -> None:
        functions = keyset.handle.primitive(prf.PrfSet)
        self._primary: Callable[[bytes, int], bytes] = functions.primary().compute
        self._all = [each.compute for each in functions.all().values()]

    def derive(self, octets: int, *parts: str) -> bytes:
        """By the primary key."""
        return self._primary(_joined(parts), octets)

    def derive_all(self, octets: int, *parts: str) -> tuple[bytes, ...]:
        """By each key that is enabled: one of them is what `derive` gave before a rotation."""
        data: Any = _joined(parts)
        return tuple(compute(data, octets) for compute in self._all)


def _joined(parts: tuple[str, ...]) -> bytes:
    return json.dumps(parts).encode()  # ("a", "bc") is not ("ab", "c")
