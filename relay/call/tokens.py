"""Access tokens (RFC 7519, RFC 8725): what proves a voice client, and why one is refused.

Two clocks. The wall clock is asked once, when a token is seen for the first time: from then on
it has a deadline in monotonic time, which no step of the wall clock moves in either direction,
and which showing the same token again does not move either.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from relay.call.clients import Client
from relay.config import IDENTITY, NUMBER
from relay.errors import TokenRefused

if TYPE_CHECKING:
    from relay.config import Account, VerifyingKey

MOST_OCTETS = 4096  # of a token, which has to fit into a SIP message
MOST_ID = 128  # characters of a jti
LONGEST_S = 86400.0  # a token lives for a day at most: milliseconds are no seconds
LEEWAY_S = 30.0  # what another server's clock may be ahead of ours
MOST_SEEN = 16384

Claims = dict[str, Any]


class Tokens:
    """The keys of all accounts, the tokens that are revoked, and those seen lately."""

    def __init__(
        self,
        region: str,
        accounts: Iterable[Account],
        keys: Mapping[tuple[str, str], VerifyingKey],
        wall_clock: Callable[[], datetime],
    ) -> None:
        """`keys` are what `TokenKey.read` gave, by (account, key id)."""
        self._region = region
        self._accounts = {account.name: account for account in accounts}
        self._algorithms = {
            (account.name, key.id): key.algorithm
            for account in self._accounts.values()
            for key in account.keys
        }
        self._keys = keys
        self._wall_clock = wall_clock
        self._revoked: dict[str, frozenset[str]] = {}
        self._jws = PyJWS(["HS256", "ES256"])
        # By the hash of the whole token; only of those whose signature was right.
        self._seen: OrderedDict[bytes, Client] = OrderedDict()

    def admit(self, token: str, now: float) -> Client:
        """Whose token it is and what it allows. Raises TokenRefused."""
        if len(token) > MOST_OCTETS or not token.isascii():
            raise malformed(f"an access token is ASCII of up to {MOST_OCTETS} octets")
        digest = blake2b(token.encode("ascii"), digest_size=16).digest()
        client = self._seen.get(digest)
        if client is None:
            client = self._client(self._verified(token), now)
            if len(self._seen) >= MOST_SEEN:
                self._seen.popitem(last=False)
            self._seen[digest] = client
        else:
            self._seen.move_to_end(digest)
        if self.is_revoked(client):
            raise TokenRefused("revoked", "this access token has been revoked")
        if now >= client.until:
            raise expired()
        return client

    def revoke(self, account: str, ids: Collection[str]) -> None:
        """Tokens of `account` with these ids (jti), and no others, are not taken any more."""
        self._revoked[account] = frozenset(ids)

    def is_revoked(self, client: Client) -> bool:
        return client.token_id in self._revoked.get(client.account.name, ())

    # --- the signature

    def _verified(self, token: str) -> Claims:
        """The claims, once the signature is known to be that of the account that they name."""
        try:
            parts = self._jws.decode_complete(token, options={"verify_signature": False})
            header, claims = parts["header"], json.loads(parts["payload"])
        except (PyJWTError, ValueError, RecursionError):
            raise malformed("this is no access token (a signed JWT)") from None
        if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: we know none
            raise malformed("an access token has no critical header parameters")
        if not isinstance(claims, dict):
            raise malformed("the claims of an access token are a JSON object")
        name = (_text(claims, "iss"), _text(header, "kid"))
        # The algorithm is the key's and never the token's own choice (RFC 8725 section 3.1).
        algorithm = self._algorithms.get(name)
        if algorithm is None or header.get("alg") != algorithm:
            raise TokenRefused("unknown_key", "no account here signs with the key of this token")
        try:
            self._jws.decode_complete(token, self._keys[name], [algorithm])
        except PyJWTError:
            raise TokenRefused(
                "tampered", "the signature of this access token is not its account's"
            ) from None
        return claims

    # --- the claims, which the account has signed

    def _client(self, claims: Claims, now: float) -> Client:
        audience = claims.get("aud", self._region)
        if _text(claims, "region") != self._region or audience not in (
            self._region,
            [self._region],
        ):
            raise TokenRefused(
                "other_region", f"this access token is not for region {self._region}"
            )
        account = self._accounts[claims["iss"]]
        identity, token_id = _text(claims, "sub"), _text(claims, "jti")
        if IDENTITY.fullmatch(identity) is None:
            raise malformed("sub is an identity: letters, digits, dot, dash and underscore")
        if len(token_id) > MOST_ID or not token_id.isprintable():
            raise malformed(f"jti is up to {MOST_ID} printable characters")
        number = claims.get("number")
        if number is not None and not (isinstance(number, str) and NUMBER.fullmatch(number)):
            raise malformed("number is an E.164 number with a leading +")
        return Client(
            account,
            identity,
            _flag(claims, "out"),
            _flag(claims, "in"),
            number,
            token_id,
            now + self._left_s(claims),
        )

    def _left_s(self, claims: Claims) -> float:
        """For how long it is valid from now on, by the wall clock."""
        wall = self._wall_clock().timestamp()
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > wall + LEEWAY_S:
                raise TokenRefused("not_yet_valid", "this access token is not valid yet")
        left = _time(claims, "exp") - wall
        if left <= 0:
            raise expired()
        if left > LONGEST_S + LEEWAY_S:
            raise malformed("exp is in seconds since 1970, and no more than a day ahead")
        return left


def malformed(text: str) -> TokenRefused:
    return TokenRefused("malformed", text)


def expired() -> TokenRefused:
    return TokenRefused("expired", "this access token has expired")


def _text(claims: Claims, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise malformed(f"{name} is missing, or no text")
    return value


def _time(claims: Claims, name: str) -> float:
    """A NumericDate (RFC 7519 section 2); a bool is a number only to Python."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        raise malformed(f"{name} is missing, or no number of seconds since 1970")
    return float(value)


def _flag(claims: Claims, name: str) -> bool:
    """What a token does not say it does not allow."""
    value = claims.get(name, False)
    if not isinstance(value, bool):
        raise malformed(f"{name} is true or false")
    return value
