"""Signed documents: JSON in one form only, and Ed25519 (RFC 8032) over it.

What is signed is the canonical form of a document (sorted keys, no space, UTF-8, no floats that
JSON cannot hold), so that it can be verified from any copy that says the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

Document = Mapping[str, Any]
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class Signer(Protocol):
    """The region's signing key. `key_id` names the public half."""

    @property
    def key_id(self) -> str: ...

    def sign(self, octets: bytes) -> bytes:
        """64 octets (RFC 8032 section 5.1.6)."""


def canonical(document: Document) -> bytes:
    """The octets that are signed and hashed. Raises ValueError for what JSON cannot hold."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def parsed(octets: bytes) -> Any:
    """What a file holds, which may be no document. Raises ValueError; also when something is said
    twice in it, which others would read in another way."""
    try:
        return json.loads(octets, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("says something twice")
    return found


def signed(document: Document, signer: Signer) -> dict[str, Any]:
    """The document with `signature`: the key's id and the signature over everything else."""
    value = base64.b64encode(signer.sign(canonical(document))).decode()
    return {**document, "signature": {"key": signer.key_id, "ed25519": value}}


def is_signed_by(document: Document, keys: Mapping[str, Ed25519PublicKey]) -> bool:
    """Whether `signature` is there, names one of the keys and fits all the rest."""
    try:
        claim = document["signature"]
        key, value = keys[claim["key"]], _octets(claim["ed25519"])
        rest = {name: part for name, part in document.items() if name != "signature"}
        key.verify(value, canonical(rest))
    except (KeyError, TypeError, ValueError, InvalidSignature):
        return False
    return set(claim) == {"key", "ed25519"}


def _octets(text: str) -> bytes:
    """Of base64 in its one form. Raises ValueError, TypeError."""
    octets = base64.b64decode(text, validate=True)
    if base64.b64encode(octets).decode() != text:
        raise ValueError("not the one form of it")
    return octets


def key_id_of(public: Ed25519PublicKey) -> str:
    """The name of a public key, which follows from the key, so that no other one can have it."""
    return f"signing-{hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]}"


def public_keys(pems: Iterable[bytes]) -> dict[str, Ed25519PublicKey]:
    """The keys in these files by id; a file may hold several, one after the other.

    Raises ValueError for a file without a key, or with another one than Ed25519.
    """
    found: dict[str, Ed25519PublicKey] = {}
    for pem in pems:
        blocks = [match[0] for match in _PEM.finditer(pem)]
        if not blocks:
            raise ValueError("no public key in PEM (-----BEGIN PUBLIC KEY-----)")
        for block in blocks:
            try:
                key = load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm):
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("not an Ed25519 public key")
            found[key_id_of(key)] = key
    return found
