"""SRTP keys for the load generator: it is given session keys and derives nothing."""

from __future__ import annotations

import os

from relay import _native
from relay.sdp.description import SUITES, SrtpKey, SrtpKeys

SUITE = "AES_CM_128_HMAC_SHA1_80"
GCM = "AEAD_AES_128_GCM"


def fresh_key(suite: str = SUITE) -> SrtpKey:
    shape = SUITES[suite]
    return SrtpKey(suite, os.urandom(shape.key_octets), os.urandom(shape.salt_octets))


def fresh_keys(suite: str = SUITE) -> SrtpKeys:
    """Of one leg: what the generator sends with, and what the relay sends with."""
    return SrtpKeys((fresh_key(suite),), fresh_key(suite))


def session_text(keys: SrtpKeys | None) -> str:
    """Both as the generator reads them: key, authentication key and salt of SRTP in hex."""
    if keys is None:
        return "- -"
    return " ".join(map(_session, (keys.receive[0], keys.send)))


def _session(key: SrtpKey) -> str:
    session, authentication, salt = _native.srtp_session_keys(key.suite, key.key, key.salt)[0]
    return (session + (b"" if key.suite == GCM else authentication) + salt).hex()
