"""What a client reads of its own access token; only the relay checks the signature."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.client.errors import BadToken

TokenSource = Callable[[], Awaitable[str]]
"""Gives a fresh token; asked at the start and again before each one expires."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Who the token is for. `expires_at` is in seconds since the epoch."""

    account: str
    identity: str
    region: str
    expires_at: float


def claims(token: str) -> Claims:
    """Read a JWT (RFC 7519) without checking it. Raises BadToken, which never shows it."""
    parts = token.split(".")
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        found = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
        return Claims(
            str(found["iss"]),
            str(found["sub"]),
            str(found.get("region", "")),
            float(found["exp"]),
        )
    except KeyError as error:
        raise BadToken(f"the token has no claim {error}") from None
    except (IndexError, TypeError, ValueError, AttributeError, binascii.Error):
        raise BadToken("the token is not a JWT (three parts with dots between them)") from None
