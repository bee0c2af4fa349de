"""SRTP keys for the load generator: it is given session keys and derives nothing."""

from __future__ import annotations

import os

from relay import _native
from relay.sdp.description import SrtpKey, SrtpKeys

SUITE = "AES_CM_128_HMAC_SHA1_80"


def fresh_key() -> SrtpKey:
    return SrtpKey(SUITE, os.urandom(16), os.urandom(14))


def fresh_keys() -> SrtpKeys:
    """Of one leg: what the generator sends with, and what the relay sends with."""
    return SrtpKeys((fresh_key(),), fresh_key())


def session_text(keys: SrtpKeys | None) -> str:
    """Both as the generator reads them: key, authentication key and salt of SRTP in hex."""
    if keys is None:
        return "- -"
    return " ".join(
        b"".join(_native.srtp_session_keys(key.suite, key.key, key.salt)[0]).hex()
        for key in (keys.receive[0], keys.send)
    )
