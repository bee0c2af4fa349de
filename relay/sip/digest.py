"""Digest authentication (RFC 7616, RFC 8760, RFC 3261 section 22): challenges and credentials.

Known: SHA-256, SHA-512-256 and MD5, with qop=auth or, as RFC 2069 had it, with none. Not
known: auth-int, the -sess algorithms and userhash, which no trunk asks for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from typing import Any

from relay.errors import MalformedMessage

# Name on the wire → hash. RFC 8760 section 2.4: the first challenge that is known is taken.
_HASHES: dict[str, Callable[[bytes], Any]] = {
    "SHA-256": hashlib.sha256,
    "SHA-512-256": partial(hashlib.new, "sha512_256"),
    "MD5": partial(hashlib.md5, usedforsecurity=False),
}
_NAMES = {name.lower(): name for name in _HASHES}
MOST_CHALLENGES = 8
MOST_PARAMS = 32

_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
# `[scheme] name=value` up to the next comma; a value is a quoted string or runs to the comma.
_ITEM = re.compile(
    rf"[ \t,]*(?:({_TOKEN})[ \t]+)?({_TOKEN})[ \t]*=[ \t]*"
    r'(?:"((?:[^"\\]++|(?:\\.)++)*+)"|([^\s",]+))[ \t]*(?:,|\Z)',
    re.DOTALL,
)
_WS = " \t,"
_END = re.compile(r"[ \t,]*\Z")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_COUNT = re.compile(r"[0-9A-Fa-f]{8}")


def ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """H(username ":" realm ":" password): all of a password that needs to be kept."""
    return _hash(algorithm, f"{username}:{realm}:{password}")


def response(
    algorithm: str, key: str, nonce: str, method: str, uri: str, qop: str, count: str, cnonce: str
) -> str:
    """The request-digest of RFC 7616 section 3.4.1; `key` is HA1. An empty `qop` is RFC 2069's."""
    ha2 = _hash(algorithm, f"{method}:{uri}")
    if qop:
        return _hash(algorithm, f"{key}:{nonce}:{count}:{cnonce}:{qop}:{ha2}")
    return _hash(algorithm, f"{key}:{nonce}:{ha2}")


def _hash(algorithm: str, text: str) -> str:
    return str(_HASHES[algorithm](text.encode("utf-8", "surrogateescape")).hexdigest())


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. An algorithm that is not known keeps the name that it came with."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @staticmethod
    def parse(value: str) -> list[Challenge]:
        """Every Digest challenge of a field, other schemes left out. Raises MalformedMessage."""
        found = [
            Challenge(
                _needed(params, "realm"),
                _needed(params, "nonce"),
                _algorithm(params),
                tuple(word.strip().lower() for word in params.get("qop", "").split(",") if word),
                params.get("opaque"),
                params.get("stale", "").lower() == "true",
            )
            for scheme, params in _schemes(value)
            if scheme == "digest"
        ]
        if len(found) > MOST_CHALLENGES:
            raise MalformedMessage("too many challenges")
        return found

    @property
    def known(self) -> bool:
        """Whether it can be answered."""
        return self.algorithm in _HASHES and (not self.qop or "auth" in self.qop)

    def answer(
        self, username: str, key: str, method: str, uri: str, count: int, cnonce: str
    ) -> Credentials:
        """What answers it; `key` is the HA1 for its algorithm and realm, `count` begins at 1."""
        qop = "auth" if self.qop else ""
        nc = f"{count:08x}"
        return Credentials(
            username,
            self.realm,
            self.nonce,
            uri,
            response(self.algorithm, key, self.nonce, method, uri, qop, nc, cnonce),
            self.algorithm,
            qop,
            nc if qop else "",
            cnonce if qop else "",
            self.opaque,
        )

    def __str__(self) -> str:
        parts = [f"Digest realm={_quoted(self.realm)}", f"nonce={_quoted(self.nonce)}"]
        if self.opaque is not None:
            parts.append(f"opaque={_quoted(self.opaque)}")
        if self.stale:
            parts.append("stale=true")
        parts.append(f"algorithm={self.algorithm}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One answer to a challenge. `count` is the nc of eight digits; "" without qop."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    count: str = ""
    cnonce: str = ""
    opaque: str | None = None

    @staticmethod
    def parse(value: str) -> Credentials | None:
        """None for another scheme than Digest. Raises MalformedMessage."""
        schemes = _schemes(value)
        if not schemes or schemes[0][0] != "digest":
            return None
        params = schemes[0][1]
        qop = params.get("qop", "").lower()
        if qop and ("cnonce" not in params or _COUNT.fullmatch(params.get("nc", "")) is None):
            raise MalformedMessage("digest credentials with qop and without nc or cnonce")
        return Credentials(
            _needed(params, "username"),
            _needed(params, "realm"),
            _needed(params, "nonce"),
            _needed(params, "uri"),
            _needed(params, "response"),
            _algorithm(params),
            qop,
            params["nc"] if qop else "",
            params["cnonce"] if qop else "",
            params.get("opaque"),
        )

    def proves(self, key: str, method: str) -> bool:
        """Whether who made them knows `key`, the HA1 for their algorithm; in constant time."""
        wanted = response(
            self.algorithm,
            key,
            self.nonce,
            method,
            self.uri,
            self.qop,
            self.count,
            self.cnonce,
        )
        given = self.response.lower().encode("utf-8", "surrogateescape")
        return compare_digest(wanted.encode("ascii"), given)

    def __str__(self) -> str:
        parts = [
            f"Digest username={_quoted(self.username)}",
            f"realm={_quoted(self.realm)}",
            f"nonce={_quoted(self.nonce)}",
            f"uri={_quoted(self.uri)}",
            f'response="{self.response}"',
            f"algorithm={self.algorithm}",
        ]
        if self.qop:
            parts += [f"cnonce={_quoted(self.cnonce)}", f"qop={self.qop}", f"nc={self.count}"]
        if self.opaque is not None:
            parts.append(f"opaque={_quoted(self.opaque)}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return "<Credentials>"  # a user's name and what a password could be guessed from


def best(challenges: Iterable[Challenge]) -> list[Challenge]:
    """For each realm the topmost challenge that is known (RFC 8760 section 2.4)."""
    found: dict[str, Challenge] = {}
    for challenge in challenges:
        if challenge.known:
            found.setdefault(challenge.realm, challenge)
    return list(found.values())


def of_realm(values: Sequence[str], realm: str) -> Credentials | None:
    """The credentials for one realm among a request's fields. Raises MalformedMessage."""
    for value in values:
        found = Credentials.parse(value)
        if found is not None and found.realm == realm:
            return found
    return None


def _schemes(value: str) -> list[tuple[str, dict[str, str]]]:
    """(scheme in lower case, parameters) of each challenge in a field."""
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while _END.match(value, position) is None:
        item = _ITEM.match(value, position)
        if item is None or (item[1] is None and not found):
            if not value.lstrip(_WS)[:7].lower().startswith("digest"):
                break  # another scheme's own syntax
            raise MalformedMessage("digest parameters that cannot be read")
        scheme, name, quoted, token = item.groups()
        if scheme is not None:
            found.append((scheme.lower(), {}))
        params = found[-1][1]
        name = name.lower()
        if name in params or len(params) >= MOST_PARAMS:
            raise MalformedMessage("digest parameter given twice")
        params[name] = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = item.end()
    return found


def _needed(params: dict[str, str], name: str) -> str:
    value = params.get(name)
    if value is None:
        raise MalformedMessage(f"digest without {name}")
    return value


def _algorithm(params: dict[str, str]) -> str:
    """The canonical name; MD5 when none is given (RFC 7616 section 3.3)."""
    name = params.get("algorithm", "MD5")
    return _NAMES.get(name.lower(), name)


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
