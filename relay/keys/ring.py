"""The region's keys: a directory with a file for each purpose, and who uses them.

| file | what it holds | what for |
|---|---|---|
| `recordings.json` | Tink AEAD keyset | wraps the data key of each recording |
| `personal.json` | Tink AEAD keyset | seals personal data: numbers, identities, addresses |
| `index.json` | Tink PRF keyset | finds a sealed number without opening it |
| `pseudonyms.json` | Tink PRF keyset | keys of the pseudonyms in what leaves the region |
| `signing.json` | Ed25519 keys | receipts, audit checkpoints, certificates of erasure |

A file is read again when it changes, so a rotation needs no restart; one that vanishes, or that
others may read, stops what needs it. Nothing falls back on another key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tink import TinkError

from relay.errors import KeyMissing
from relay.keys import files
from relay.keys.keyset import TEMPLATES, Keyset
from relay.keys.sealing import Derivation, Sealing, Wrapping
from relay.keys.signing import PURPOSE as SIGNING
from relay.keys.signing import SigningKey, SigningKeys
from relay.keys.state import Key, KeyState

PURPOSES = (*TEMPLATES, SIGNING)
INDEX_OCTETS = 16
PSEUDONYM_KEY_OCTETS = 32

T = TypeVar("T")


class _Kept(Generic[T]):
    """What was made of a file, until the file is another one."""

    def __init__(self, path: Path, make: Callable[[bytes], T]) -> None:
        self._path = path
        self._make = make
        self._found: tuple[files.Stamp, T] | None = None

    def get(self) -> T:
        """Raises KeyMissing."""
        now = files.stamp(self._path)
        found = self._found
        if found is None or found[0] != now:
            try:
                found = self._found = (now, self._make(files.read(self._path)))
            except ValueError as error:
                raise KeyMissing(f"{self._path}: {error}") from None
            except TinkError:  # its format is right, but a key in it is of no use
                raise KeyMissing(f"{self._path}: holds a key that cannot be used") from None
        return found[1]


class KeyRing:
    """The keys in `directory`. Any thread may use it; everything raises KeyMissing, which names
    the file and the rule, when a key is not there or others may read it."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._recordings = self._kept("recordings", lambda keyset: Wrapping(keyset))
        self._personal = self._kept("personal", lambda keyset: Sealing(keyset))
        self._index = self._kept("index", lambda keyset: Derivation(keyset))
        self._pseudonyms = self._kept("pseudonyms", lambda keyset: Derivation(keyset))
        self._signing = _Kept(self._path(SIGNING), SigningKeys.parse)

    @staticmethod
    def open(directory: Path | str) -> KeyRing:
        """With every key checked."""
        ring = KeyRing(directory)
        ring.check()
        return ring

    @staticmethod
    def create(directory: Path | str) -> tuple[KeyRing, tuple[str, ...]]:
        """Make what is missing; the new keys' ids. What is there stays. Raises OSError."""
        ring = KeyRing(directory)
        with files.locked(ring.directory):
            missing = ring.missing()
            for purpose in missing:
                fresh = SigningKeys.create() if purpose == SIGNING else Keyset.create(purpose)
                files.write(ring._path(purpose), fresh.serialize())
        return ring, tuple(key.id for key in ring.listed(missing))

    def check(self) -> None:
        """Raises KeyMissing for the first file that cannot be used."""
        for kept in (
            *(self._recordings, self._personal, self._index, self._pseudonyms, self._signing),
        ):
            kept.get()

    # -- what they do

    @property
    def recordings(self) -> Wrapping:
        """Wraps and unwraps the data keys of recordings."""
        return self._recordings.get()

    @property
    def personal(self) -> Sealing:
        """Seals personal data before it reaches a disk."""
        return self._personal.get()

    @property
    def signer(self) -> SigningKey:
        """Who signs now: ask for it anew for each document, since a rotation changes it."""
        return self._signing.get().signer

    @property
    def public_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Who ever signed, by key id."""
        return dict(self._signing.get().public)

    def index(self, kind: str, value: str) -> str:
        """Where a value is found that is kept sealed; `kind` ("number") keeps them apart."""
        return self._index.get().derive(INDEX_OCTETS, kind, value).hex()

    def indexes(self, kind: str, value: str) -> tuple[str, ...]:
        """Where to look for it: what was kept before a rotation has an earlier one."""
        return tuple(each.hex() for each in self._index.get().derive_all(INDEX_OCTETS, kind, value))

    def pseudonym_key(self, recipient: str, period: str) -> bytes:
        """32 octets (HKDF-SHA256), known to nobody outside, that are this recipient's and this
        period's only."""
        return self._pseudonyms.get().derive(PSEUDONYM_KEY_OCTETS, recipient, period)

    # -- their life

    def missing(self) -> tuple[str, ...]:
        """The purposes that have no file."""
        return tuple(purpose for purpose in PURPOSES if not self._path(purpose).exists())

    def listed(self, purposes: Iterable[str] = PURPOSES) -> tuple[Key, ...]:
        """All that are there, in the order in which they were made."""
        return tuple(key for purpose in purposes for key in self._read(purpose).keys)

    def rotate(self, purpose: str) -> str:
        """A new primary key; its id. Raises KeyMissing, OSError."""
        with files.locked(self.directory):
            changed = self._read(purpose).rotated()
            files.write(self._path(purpose), changed.serialize())
        return next(key.id for key in changed.keys if key.state is KeyState.PRIMARY)

    def change(self, key: str, state: KeyState) -> None:
        """Retire, destroy or restore a key. Raises KeyMissing, OSError."""
        purpose = key.rpartition("-")[0]
        if purpose not in PURPOSES:
            raise KeyMissing(f"there is no key {key}: `relay keys list` shows those that are")
        if purpose == "index" and state is not KeyState.ENABLED:
            raise KeyMissing(
                f"{key} is never retired: who was indexed by it could not be found any more, "
                "and so not be erased"
            )
        with files.locked(self.directory):
            changed = self._read(purpose).changed(key, state)
            files.write(self._path(purpose), changed.serialize())

    def _path(self, purpose: str) -> Path:
        return self.directory / f"{purpose}.json"

    def _kept(self, purpose: str, make: Callable[[Keyset], T]) -> _Kept[T]:
        return _Kept(self._path(purpose), lambda octets: make(Keyset.parse(purpose, octets)))

    def _read(self, purpose: str) -> Keyset | SigningKeys:
        path = self._path(purpose)
        octets = files.read(path)
        try:
            if purpose == SIGNING:
                return SigningKeys.parse(octets)
            return Keyset.parse(purpose, octets)
        except ValueError as error:
            raise KeyMissing(f"{path}: {error}") from None
