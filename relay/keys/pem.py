"""Key pairs in PEM files that are not the region's own: of who answers for it, and of staff."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.errors import KeyMissing
from relay.keys.signing import SigningKey
from relay.residency.signing import key_id_of, public_keys


def read_public(path: str | Path) -> dict[str, Ed25519PublicKey]:
    """The keys of a file, by their ids. Raises KeyMissing."""
    try:
        return public_keys([_octets(path)])
    except ValueError as error:
        raise KeyMissing(f"{path}: {error}") from None


def read_private(path: str | Path) -> SigningKey:
    """Raises KeyMissing."""
    try:
        found = load_pem_private_key(_octets(path), None)
    except TypeError:
        raise KeyMissing(f"{path}: the key is encrypted, and nobody types its password") from None
    except ValueError:
        raise KeyMissing(f"{path}: is not a private key in PEM") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise KeyMissing(f"{path}: is not an Ed25519 key")
    return SigningKey(key_id_of(found.public_key()), found)


def create(private: Path, public: Path) -> str:
    """A new pair in two files that are not there yet; its id. Raises OSError."""
    key = Ed25519PrivateKey.generate()
    write_pair(key, private, public)
    return key_id_of(key.public_key())


def write_pair(
    key: Ed25519PrivateKey | EllipticCurvePrivateKey, private: Path, public: Path
) -> None:
    """Raises OSError; a file that is there stays as it is."""
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    told = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for path, octets, mode in ((private, secret, 0o600), (public, told, 0o644)):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            file.write(octets)


def _octets(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KeyMissing(f"{path}: {error.strerror}") from None
