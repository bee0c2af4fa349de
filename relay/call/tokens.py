"""Access tokens (RFC 7519, RFC 8725): what proves a voice client, and why one is refused.

Two clocks. The wall clock is asked once, when a token is seen for the first time: from then on
it has a deadline in monotonic time, which no step of the wall clock moves in either direction,
and which showing the same token again does not move either.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from relay.call.clients import Client
from relay.config import IDENTITY, NUMBER
from relay.errors import TokenRefused
from relay.residency.claims import (
    MOST_OCTETS,
    STAFF_TYPE,
    Claims,
    check_region,
    expired,
    flag,
    malformed,
    seconds_left,
    text,
    token_id,
    unknown_key,
    verified,
)

if TYPE_CHECKING:
    from relay.config import Account, VerifyingKey

MOST_SEEN = 16384


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
        self._keys = {
            (account.name, key.id): (key.algorithm, keys[account.name, key.id])
            for account in self._accounts.values()
            for key in account.keys
            if (account.name, key.id) in keys
        }
        self._wall_clock = wall_clock
        self._revoked: dict[str, frozenset[str]] = {}
        # By the hash of the whole token; only of those whose signature was right.
        self._seen: OrderedDict[bytes, Client] = OrderedDict()

    def admit(self, token: str, now: float) -> Client:
        """Whose token it is and what it allows. Raises TokenRefused."""
        if len(token) > MOST_OCTETS or not token.isascii():
            raise malformed(f"an access token is ASCII of up to {MOST_OCTETS} octets")
        digest = blake2b(token.encode("ascii"), digest_size=16).digest()
        client = self._seen.get(digest)
        if client is None:
            client = self._client(token, now)
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

    # --- the signature, then the claims, which the account has signed

    def _key(self, header: Claims, claims: Claims) -> tuple[str, VerifyingKey]:
        """That of the account which the claims name."""
        name = (text(claims, "iss"), text(header, "kid"))
        if header.get("typ") == STAFF_TYPE:
            raise malformed("this is a token of staff, who make no calls by it")
        if name not in self._keys:
            raise unknown_key()
        return self._keys[name]

    def _client(self, token: str, now: float) -> Client:
        claims = verified(token, self._key)
        check_region(claims, self._region)
        account, identity = self._accounts[claims["iss"]], text(claims, "sub")
        if IDENTITY.fullmatch(identity) is None:
            raise malformed("sub is an identity: letters, digits, dot, dash and underscore")
        id_ = token_id(claims)
        number = claims.get("number")
        if number is not None and not (isinstance(number, str) and NUMBER.fullmatch(number)):
            raise malformed("number is an E.164 number with a leading +")
        out, called = flag(claims, "out"), flag(claims, "in")
        left_s = seconds_left(claims, self._wall_clock().timestamp())
        return Client(account, identity, out, called, number, id_, now + left_s)
