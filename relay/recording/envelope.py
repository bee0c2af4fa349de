"""Whose recording it is: its data key, wrapped for who may play it.

By the region's key; or, where the peers of a call gave public keys of theirs, by these alone: then
the region cannot play it back.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import KeyMissing, NotAuthentic
from relay.keys.customer import CustomerKey
from relay.keys.ring import KeyRing
from relay.recording.encryption import FORMAT, KEY_OCTETS, SEGMENT_OCTETS


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under the key `key`; the octets in base64."""

    key: str
    wrapped: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is needed beside a key to decrypt a recording; `context` is its associated data,
    `segment` the size of its segments. It stands in the ledger."""

    context: str
    segment: int
    keys: tuple[WrappedKey, ...]
    format: str = FORMAT

    @staticmethod
    def of(document: dict[str, Any] | None) -> Envelope | None:
        """As JSON has it. Raises TypeError, KeyError."""
        if document is None:
            return None
        keys = tuple(WrappedKey(**key) for key in document["keys"])
        return Envelope(**{**document, "keys": keys})

    @property
    def for_customers(self) -> bool:
        """Whether the region itself has no key to it."""
        return not any(_is_regions(each) for each in self.keys)


def seal(
    keys: KeyRing, region: str, recording: str, channels: int, customer_keys: Sequence[str] = ()
) -> tuple[bytes, Envelope]:
    """A fresh data key and its envelope; `customer_keys` are files of public keys.

    Raises KeyMissing: then there is no recording, and no other key is tried.
    """
    check(keys, customer_keys)
    data_key, context = os.urandom(KEY_OCTETS), f"{region}/{recording}"
    if customer_keys:
        customers = [CustomerKey.read(path) for path in customer_keys]
        wrapped = [(each.id, each.wrap(data_key, context)) for each in customers]
    else:
        wrapped = [keys.recordings.wrap(data_key, context)]
    listed = tuple(WrappedKey(key, base64.b64encode(octets).decode()) for key, octets in wrapped)
    return data_key, Envelope(context, SEGMENT_OCTETS * channels, listed)


def check(keys: KeyRing, customer_keys: Sequence[str] = ()) -> None:
    """Raises KeyMissing when `seal` would; also where those of call records are missing: nobody
    could find the recording by its parties then, to erase it."""
    for path in customer_keys:
        CustomerKey.read(path)
    if not customer_keys:
        _ = keys.recordings
    _ = keys.personal, keys.index("", "")


def unseal(keys: KeyRing, envelope: Envelope) -> bytes:
    """The data key. Raises KeyMissing, also for a recording that only its customer may play;
    NotAuthentic."""
    if not envelope.keys:
        raise KeyMissing("its data key is shredded: it was erased")
    if envelope.for_customers:
        named = ", ".join(each.key for each in envelope.keys)
        raise KeyMissing(f"it is encrypted to {named}: only the customer can play it")
    mine = next(each for each in envelope.keys if _is_regions(each))
    return keys.recordings.unwrap(octets_of(mine), envelope.context)


def octets_of(key: WrappedKey) -> bytes:
    """Raises NotAuthentic."""
    try:
        return base64.b64decode(key.wrapped, validate=True)
    except ValueError:
        raise NotAuthentic("its wrapped key is not base64") from None


def _is_regions(key: WrappedKey) -> bool:
    return key.key.startswith("recordings-")
