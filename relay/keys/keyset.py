"""Tink keysets: several keys for one purpose, of which the primary one is used for what is new.

Tink for Python makes keysets and uses them, but has no way to change one: that is done here, on
its protocol buffer. A file is Tink's JSON format, so that Tink's own tools read it.
"""

from __future__ import annotations

import secrets
from typing import Any

import tink
from tink import aead, hybrid, json_proto_keyset_format, prf, proto_keyset_format, secret_key_access
from tink.proto import tink_pb2

from relay.errors import KeyMissing
from relay.keys.state import Key, KeyState

aead.register()
prf.register()
hybrid.register()

TEMPLATES = {
    "recordings": aead.aead_key_templates.AES256_GCM,
    "personal": aead.aead_key_templates.AES256_GCM,
    "index": prf.prf_key_templates.HMAC_SHA256,
    "pseudonyms": prf.prf_key_templates.HKDF_SHA256,
}
"""What the keys of each purpose are."""

_STATES = {
    tink_pb2.ENABLED: KeyState.ENABLED,
    tink_pb2.DISABLED: KeyState.RETIRED,
    tink_pb2.DESTROYED: KeyState.DESTROYED,
}
_STATUS = {state: status for status, state in _STATES.items()}


class Keyset:
    """The keys of one purpose. Immutable: a change gives another one."""

    def __init__(self, purpose: str, proto: Any) -> None:
        self.purpose = purpose
        self._proto = proto

    @staticmethod
    def create(purpose: str) -> Keyset:
        """With one new key, the primary."""
        return Keyset(purpose, _proto(tink.new_keyset_handle(TEMPLATES[purpose])))

    @staticmethod
    def parse(purpose: str, octets: bytes) -> Keyset:
        """Raises ValueError when it is no keyset, or one of other keys than the purpose's."""
        try:
            handle = json_proto_keyset_format.parse(octets.decode(), secret_key_access.TOKEN)
        except (tink.TinkError, UnicodeDecodeError) as error:
            raise ValueError("is no keyset of Tink's JSON format") from error
        keyset = Keyset(purpose, _proto(handle))
        kind = TEMPLATES[purpose].type_url
        if any(key.key_data.type_url != kind for key in keyset._proto.key):
            raise ValueError(f"holds keys for something else than {purpose}")
        return keyset

    def serialize(self) -> bytes:
        text: str = json_proto_keyset_format.serialize(self.handle, secret_key_access.TOKEN)
        return text.encode()

    @property
    def handle(self) -> Any:
        """What Tink uses it by."""
        octets = self._proto.SerializeToString()
        return proto_keyset_format.parse(octets, secret_key_access.TOKEN)

    @property
    def keys(self) -> tuple[Key, ...]:
        primary = self._proto.primary_key_id
        return tuple(
            Key(
                key_name(self.purpose, key.key_id),
                self.purpose,
                KeyState.PRIMARY if key.key_id == primary else _STATES[key.status],
            )
            for key in self._proto.key
        )

    def rotated(self) -> Keyset:
        """A new primary key; what the others have sealed they still open."""
        changed = self._copy()
        fresh = _proto(tink.new_keyset_handle(TEMPLATES[self.purpose])).key[0]
        taken = {key.key_id for key in changed.key}
        while fresh.key_id in taken:
            fresh.key_id = secrets.randbelow(2**31) + 1
        changed.key.append(fresh)
        changed.primary_key_id = fresh.key_id
        return Keyset(self.purpose, changed)

    def changed(self, name: str, state: KeyState) -> Keyset:
        """One key enabled, retired, or destroyed: then its octets are gone. Raises KeyMissing."""
        changed = self._copy()
        for key in changed.key:
            if key_name(self.purpose, key.key_id) != name:
                continue
            if key.key_id == changed.primary_key_id:
                raise KeyMissing(f"{name} is the primary key: rotate {self.purpose} first")
            if key.status == tink_pb2.DESTROYED:
                raise KeyMissing(f"{name} is destroyed, for good")
            key.status = _STATUS[state]
            if state is KeyState.DESTROYED:
                key.ClearField("key_data")
                key.key_data.type_url = TEMPLATES[self.purpose].type_url
            return Keyset(self.purpose, changed)
        raise KeyMissing(f"there is no key {name}")

    def _copy(self) -> Any:
        return tink_pb2.Keyset.FromString(self._proto.SerializeToString())


def key_name(purpose: str, number: int) -> str:
    """How a key is called in lists, receipts and the audit log."""
    return f"{purpose}-{number:08x}"


def _proto(handle: Any) -> Any:
    octets = proto_keyset_format.serialize(handle, secret_key_access.TOKEN)
    return tink_pb2.Keyset.FromString(octets)
