"""What a signed token says (RFC 7515, RFC 7519), read by the rules of RFC 8725.

Voice clients and staff have tokens of the same make: what is in common is here, and each mistake
has one reason and one text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from relay.errors import TokenRefused

STAFF_TYPE = "staff+jwt"  # RFC 8725 section 3.11: neither kind of token is taken for the other
MOST_OCTETS = 4096  # of a token, which has to fit into a SIP message
MOST_ID = 128  # characters of a jti
LONGEST_S = 86400.0  # a token lives for a day at most: milliseconds are no seconds
LEEWAY_S = 30.0  # what another server's clock may be ahead of ours

Claims = dict[str, Any]
# The algorithm and the key by which header and claims are to be verified.
KeyOf = Callable[[Claims, Claims], tuple[str, bytes | EllipticCurvePublicKey]]
_JWS = PyJWS(["HS256", "ES256"])


def verified(token: str, key_of: KeyOf) -> Claims:
    """The claims, once the signature is known to be that of the key that they should have.

    The algorithm is the key's and never the token's own choice (RFC 8725 section 3.1). Raises
    TokenRefused, as `key_of` does for a token that no key is known for.
    """
    if len(token) > MOST_OCTETS or not token.isascii():
        raise malformed(f"an access token is ASCII of up to {MOST_OCTETS} octets")
    try:
        parts = _JWS.decode_complete(token, options={"verify_signature": False})
        header, claims = parts["header"], json.loads(parts["payload"])
    except (PyJWTError, ValueError, RecursionError):
        raise malformed("this is no access token (a signed JWT)") from None
    if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: we know none
        raise malformed("an access token has no critical header parameters")
    if not isinstance(claims, dict):
        raise malformed("the claims of an access token are a JSON object")
    algorithm, key = key_of(header, claims)
    if header.get("alg") != algorithm:
        raise unknown_key()
    try:
        _JWS.decode_complete(token, key, [algorithm])
    except PyJWTError:
        raise TokenRefused(
            "tampered", "the signature of this access token is not by its key"
        ) from None
    return claims


def check_region(claims: Claims, region: str) -> None:
    """Raises TokenRefused for a token of another region, which is never served here."""
    audience = claims.get("aud", region)
    if text(claims, "region") != region or audience not in (region, [region]):
        raise TokenRefused("other_region", f"this access token is not for region {region}")


def token_id(claims: Claims) -> str:
    """Its `jti`, by which it is revoked."""
    found = text(claims, "jti")
    if len(found) > MOST_ID or not found.isprintable():
        raise malformed(f"jti is up to {MOST_ID} printable characters")
    return found


def seconds_left(claims: Claims, wall: float) -> float:
    """For how long it is valid from now on; `wall` is in seconds since 1970."""
    for name in ("nbf", "iat"):
        if name in claims and _time(claims, name) > wall + LEEWAY_S:
            raise TokenRefused("not_yet_valid", "this access token is not valid yet")
    left = _time(claims, "exp") - wall
    if left <= 0:
        raise expired()
    if left > LONGEST_S + LEEWAY_S:
        raise malformed("exp is in seconds since 1970, and no more than a day ahead")
    return left


def text(claims: Claims, name: str) -> str:
    """A claim that must be there."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} is missing, or no text")
    return value


def flag(claims: Claims, name: str) -> bool:
    """What a token does not say it does not allow."""
    value = claims.get(name, False)
    if not isinstance(value, bool):
        raise malformed(f"{name} is true or false")
    return value


def _time(claims: Claims, name: str) -> float:
    """A NumericDate (RFC 7519 section 2); a bool is a number only to Python."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        raise malformed(f"{name} is missing, or no number of seconds since 1970")
    return float(value)


def malformed(text: str) -> TokenRefused:
    return TokenRefused("malformed", text)


def expired() -> TokenRefused:
    return TokenRefused("expired", "this access token has expired")


def unknown_key() -> TokenRefused:
    return TokenRefused("unknown_key", "nobody here signs with the key of this token")
