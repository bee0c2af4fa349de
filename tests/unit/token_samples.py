"""Access tokens for tests, good ones and bad ones, made without the code under test."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "0123456789abcdef0123456789abcdef"
PRIVATE = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
PUBLIC = PRIVATE.public_key()
PUBLIC_PEM = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
WALL = 1_795_660_200.0  # 2026-11-26 02:30 UTC


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def part(value: object) -> str:
    return b64(json.dumps(value).encode())


def claims(**changes: Any) -> dict[str, Any]:
    """Of a good token; a value None leaves its claim out."""
    said: dict[str, Any] = {
        "iss": "app",
        "sub": "alice",
        "region": "ie1",
        "exp": WALL + 3600,
        "iat": WALL,
        "jti": "t1",
        "out": True,
        "in": True,
    }
    said |= {name.rstrip("_"): value for name, value in changes.items()}
    return {name: value for name, value in said.items() if value is not None}


def hs256(head: dict[str, Any], body: object, key: bytes = SECRET.encode()) -> str:
    """Signed with HMAC, whatever the header says."""
    text = f"{part(head)}.{part(body)}"
    return f"{text}.{b64(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def token(**changes: Any) -> str:
    """A good token of HS256 with changed claims."""
    return hs256({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims(**changes))
