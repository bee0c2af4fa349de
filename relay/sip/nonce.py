"""Nonces of ours (RFC 7616 sections 3.3 and 5.5): made without state, good for a while.

A nonce holds when it was made and a keyed hash of that and of the address that it was made
for. Only the counts of those that a right password came with are kept, so strangers cannot
fill the table.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from hashlib import blake2s
from hmac import compare_digest

LIFETIME_S = 300.0
MOST_COUNTED = 65_536  # some 10 MB; more calls within a lifetime shorten it
_MADE, _NUMBER, _MAC = 6, 3, 15  # octets: milliseconds, a number of its own, the keyed hash
_LENGTH = 4 * (_MADE + _NUMBER + _MAC) // 3


class Nonces:
    """`secret` keys them: another process, or this one before a restart, made none of ours."""

    def __init__(self, secret: bytes, lifetime_s: float = LIFETIME_S) -> None:
        self._secret = secret
        self._lifetime_ms = int(lifetime_s * 1000)
        self._number = 0
        self._counts: dict[str, int] = {}
        self._forgotten_ms = -1  # counts of nonces made up to then may be forgotten

    def make(self, source: str, now: float) -> str:
        """One for the peer at `source`; no two are alike."""
        self._number = (self._number + 1) & 0xFFFFFF
        body = int(now * 1000).to_bytes(_MADE, "big") + self._number.to_bytes(_NUMBER, "big")
        return urlsafe_b64encode(body + self._mac(body, source)).decode("ascii")

    def holds(self, nonce: str, source: str, now: float) -> bool:
        """Whether it is ours, went to `source`, and is not too old."""
        made_ms = self._made_ms(nonce, source)
        now_ms = int(now * 1000)
        if made_ms is None or not now_ms - self._lifetime_ms <= made_ms <= now_ms:
            return False
        return made_ms > self._forgotten_ms

    def take(self, nonce: str, count: int, source: str, now: float) -> bool:
        """Whether it `holds` and `count` is higher than any before; that is kept.

        To be asked only when the password was right.
        """
        if not self.holds(nonce, source, now) or count <= self._counts.get(nonce, 0):
            return False
        if nonce not in self._counts:
            self._make_room(int(now * 1000))
        self._counts[nonce] = count
        return True

    def __len__(self) -> int:
        """Nonces whose count is kept."""
        return len(self._counts)

    def _make_room(self, now_ms: int) -> None:
        """Drop the counts of the oldest; a nonce whose count is lost is good no more."""
        while self._counts:
            oldest = next(iter(self._counts))
            made_ms = int.from_bytes(urlsafe_b64decode(oldest)[:_MADE], "big")
            if made_ms >= now_ms - self._lifetime_ms and len(self._counts) < MOST_COUNTED:
                return
            del self._counts[oldest]
            self._forgotten_ms = max(self._forgotten_ms, made_ms)

    def _made_ms(self, nonce: str, source: str) -> int | None:
        if len(nonce) != _LENGTH:
            return None
        try:
            octets = urlsafe_b64decode(nonce)
        except (NotBase64, ValueError):
            return None
        body, mac = octets[: _MADE + _NUMBER], octets[_MADE + _NUMBER :]
        # b64decode skips what is no base64: only the one spelling that we wrote is a nonce.
        if not compare_digest(mac, self._mac(body, source)):
            return None
        if urlsafe_b64encode(octets).decode("ascii") != nonce:
            return None
        return int.from_bytes(body[:_MADE], "big")

    def _mac(self, body: bytes, source: str) -> bytes:
        return blake2s(body + source.encode(), key=self._secret, digest_size=_MAC).digest()
