"""The manifest of a region: where its data may be, in one document that can be signed.

It is made from the configuration (`config/manifest`). Its digest is the version of the policy that
each call record and receipt names. Whoever answers for the region signs it; with the public half
of that key in the configuration, a manifest that says anything else does not start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.errors import ManifestRefused
from relay.residency.signing import Document, canonical, is_signed_by, parsed

FORMAT = "relay-manifest-1"
SIGN = "check it with `relay region show`, then `relay region sign`"
MOST_TOLD = 8  # fields that differ; who changed more has to look anyway


def digest(manifest: Document) -> str:
    """The version of the policy: SHA-256 over all but the signature."""
    return hashlib.sha256(canonical(_unsigned(manifest))).hexdigest()


def parse(octets: bytes) -> dict[str, Any]:
    """A manifest file. Raises ManifestRefused."""
    try:
        document = parsed(octets)
    except ValueError as mistake:
        raise ManifestRefused(f"cannot be read: {mistake}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ManifestRefused(f"is no manifest: its format is not {FORMAT}")
    return document


def verify(document: Document, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """The id of the key that signed it. Raises ManifestRefused."""
    if "signature" not in document:
        raise ManifestRefused(f"is not signed: {SIGN}")
    if not is_signed_by(document, keys):
        told = document["signature"]
        key = told.get("key") if isinstance(told, dict) else None
        if key not in tuple(keys):  # it may be anything
            raise ManifestRefused(f"is signed by {key}, not by {', '.join(keys)}")
        raise ManifestRefused("was changed after it was signed: the signature does not fit")
    return str(document["signature"]["key"])


def check(document: Document, manifest: Document) -> None:
    """Whether a signed document says what the configuration says. Raises ManifestRefused, which
    names the fields that do not."""
    changed = list(differences(_unsigned(document), manifest))
    if changed:
        more = f"; and {len(changed) - MOST_TOLD} more" if len(changed) > MOST_TOLD else ""
        told = "; ".join(changed[:MOST_TOLD])
        raise ManifestRefused(f"the configuration is not what was signed: {told}{more}. {SIGN}")


def differences(signed: Any, configured: Any, where: str = "") -> Iterator[str]:
    """Each field that is not the same, by its path, with both values."""
    if isinstance(signed, Mapping) and isinstance(configured, Mapping):
        for name in sorted({*signed, *configured}):
            path = f"{where}.{name}" if where else name
            yield from differences(signed.get(name), configured.get(name), path)
    elif signed != configured or type(signed) is not type(configured):
        yield f"{where} was {_shown(signed)} and is {_shown(configured)}"


def _shown(value: Any) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


def _unsigned(document: Document) -> dict[str, Any]:
    return {name: part for name, part in document.items() if name != "signature"}
