"""The region's signing keys (Ed25519, RFC 8032): one signs, those before it still verify."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.errors import KeyMissing
from relay.keys.state import Key, KeyState
from relay.residency.signing import key_id_of

PURPOSE = "signing"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The `residency.signing.Signer` of one key."""

    key_id: str
    _private: Ed25519PrivateKey

    def sign(self, octets: bytes) -> bytes:
        return self._private.sign(octets)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """`public` has every key that ever signed, in order; the last one signs. The private half of
    an earlier one is not kept: it is retired by the rotation."""

    public: tuple[tuple[str, Ed25519PublicKey], ...]
    signer: SigningKey

    @staticmethod
    def create() -> SigningKeys:
        private = Ed25519PrivateKey.generate()
        name = key_id_of(private.public_key())
        return SigningKeys(((name, private.public_key()),), SigningKey(name, private))

    @staticmethod
    def parse(octets: bytes) -> SigningKeys:
        """Raises ValueError."""
        try:
            document = json.loads(octets)
            seed = base64.b64decode(document["private"], validate=True)
            private = Ed25519PrivateKey.from_private_bytes(seed)
            public = [
                Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
                for text in document["public"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("is no file of signing keys") from error
        named = tuple((key_id_of(key), key) for key in public)
        signer = SigningKey(key_id_of(private.public_key()), private)
        if not named or named[-1][0] != signer.key_id:
            raise ValueError("the private key is not that of its last public key")
        return SigningKeys(named, signer)

    def serialize(self) -> bytes:
        document = {
            "private": base64.b64encode(self.signer._private.private_bytes_raw()).decode(),
            "public": [base64.b64encode(key.public_bytes_raw()).decode() for _, key in self.public],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @property
    def keys(self) -> tuple[Key, ...]:
        last = self.signer.key_id
        return tuple(
            Key(name, PURPOSE, KeyState.PRIMARY if name == last else KeyState.RETIRED)
            for name, _ in self.public
        )

    def rotated(self) -> SigningKeys:
        """A new key signs from now on; what the others signed can still be verified."""
        fresh = SigningKeys.create()
        return replace(fresh, public=(*self.public, *fresh.public))

    def changed(self, name: str, state: KeyState) -> SigningKeys:
        """Raises KeyMissing: a rotation is the only change of signing keys."""
        if name not in dict(self.public):
            raise KeyMissing(f"there is no key {name}")
        if name == self.signer.key_id:
            raise KeyMissing(f"{name} is the primary key: rotate {PURPOSE} first")
        raise KeyMissing(f"{name} is retired since it was rotated: only its public half is kept")


def pem(public: Ed25519PublicKey) -> bytes:
    """As `--key` of the offline verifiers reads it."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
