"""The a=crypto lines of SDES (RFC 4568): keys that travel in the session description.

A line that cannot be used is skipped while another one can. No text here ever holds a key,
nor what stood in the place of one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from os import urandom
from typing import Literal, NamedTuple

from relay.errors import NotAcceptable
from relay.sdp.description import SUITES, SrtpKey

MAX_LINES = 32  # of one stream that are looked at
MAX_KEYS = 8  # of one line: the engine looks for the one that a packet names among them all
_TAG = re.compile(r"[0-9]{1,9}")
_SUITE = re.compile(r"[A-Z0-9]{1,16}(_[A-Z0-9]{1,16}){1,6}")
_LIFETIME = re.compile(r"2\^[0-9]{1,2}|[0-9]{1,15}")
_MKI = re.compile(r"([0-9]{1,38}):([0-9]{1,3})")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{1,128}={0,2}")
_MOST_MKI_OCTETS = 128  # RFC 4568 section 6.1
# Session parameters that change nothing here: the window that the peer would like, and the
# order of a FEC that is not carried (sections 6.3.5 and 6.3.6).
_HARMLESS = ("WSH=", "FEC_ORDER=")


class Srtp(NamedTuple):
    """What a peer wants of its media: whether they are encrypted, and the suites in order.

    With "dtls" the keys come from DTLS over ICE (RFC 5763) and never stand in a description.
    """

    mode: Literal["off", "optional", "required", "dtls"] = "off"
    suites: tuple[str, ...] = ()


OFF = Srtp()


class Crypto(NamedTuple):
    """One a=crypto line that can be used. Several keys are told apart by their MKI."""

    tag: int
    suite: str
    keys: tuple[SrtpKey, ...]

    def line(self) -> str:
        """As it is written, with the padding that some decoders need."""
        key = self.keys[0]
        text = b64encode(key.key + key.salt).decode()
        return f"a=crypto:{self.tag} {self.suite} inline:{text}"


def parse_crypto(value: str) -> Crypto:
    """The value of an a=crypto attribute. Raises NotAcceptable that says what is wrong."""
    fields = value.split()
    if len(fields) < 3:
        raise NotAcceptable("a=crypto needs a tag, a suite and a key")
    if _TAG.fullmatch(fields[0]) is None:
        raise NotAcceptable("the tag of a=crypto is not a number")
    name = fields[1].upper()
    if (suite := SUITES.get(name)) is None:
        named = name if _SUITE.fullmatch(name) else "its suite"
        raise NotAcceptable(f"a=crypto: {named} is not supported")
    for parameter in fields[3:]:
        _check_parameter(parameter)
    texts = fields[2].split(";", MAX_KEYS)
    if len(texts) > MAX_KEYS:
        raise NotAcceptable(f"a=crypto has more than {MAX_KEYS} keys")
    keys = tuple(_key(text, suite.name) for text in texts)
    if len(keys) > 1 and not _apart(keys):
        raise NotAcceptable(
            "a=crypto: several keys must differ, and have an MKI each, all of one length"
        )
    return Crypto(int(fields[0]), suite.name, keys)


def usable(values: Sequence[str], suites: Iterable[str]) -> list[Crypto]:
    """The lines that can be used, the wanted suite first.

    Raises NotAcceptable with what is wrong with the last line when none can be.
    """
    found: dict[int, Crypto] = {}
    problem = NotAcceptable("there is no a=crypto line")
    order = {name: position for position, name in enumerate(suites)}
    for value in values[:MAX_LINES]:
        try:
            crypto = parse_crypto(value)
            if crypto.suite not in order:
                raise NotAcceptable(f"a=crypto: {crypto.suite} is not allowed on this trunk")
            if crypto.tag in found:
                raise NotAcceptable("two a=crypto lines have one tag")
            found[crypto.tag] = crypto
        except NotAcceptable as error:
            problem = error
    if not found:
        raise problem
    return sorted(found.values(), key=lambda crypto: order[crypto.suite])


def new_key(suite: str, random: Callable[[int], bytes] = urandom) -> SrtpKey:
    """A key of ours, which nobody can guess."""
    sizes = SUITES[suite]
    return SrtpKey(suite, random(sizes.key_octets), random(sizes.salt_octets))


def _check_parameter(text: str) -> None:
    """RFC 4568 section 6.3: one that is not understood makes the line unusable."""
    name = text.upper()
    if name.startswith(("UNENCRYPTED_", "UNAUTHENTICATED_")):
        raise NotAcceptable("a=crypto: media without encryption or authentication are not carried")
    if name.startswith("KDR="):
        if name != "KDR=0":
            raise NotAcceptable("a=crypto: a key derivation rate other than 0 is not supported")
    elif not name.startswith(("-", *_HARMLESS)):
        raise NotAcceptable("a=crypto has a session parameter that is not supported")


def _key(text: str, name: str) -> SrtpKey:
    """`inline:` key and salt, then perhaps `|lifetime` and `|MKI:length` (section 6.1)."""
    method, _, info = text.partition(":")
    if method.lower() != "inline":
        raise NotAcceptable("a=crypto: the key is not of the form inline:")
    encoded, *rest = info.split("|")
    if rest and _LIFETIME.fullmatch(rest[0]):
        del rest[0]  # more packets than any call has
    mki = _mki(rest.pop(0)) if rest else b""
    if rest:
        raise NotAcceptable("a=crypto: the key has more than a lifetime and an MKI")
    suite = SUITES[name]
    octets = _octets(encoded)
    wanted = suite.key_octets + suite.salt_octets
    if len(octets) != wanted:
        raise NotAcceptable(
            f"a=crypto: the key and salt of {name} are {wanted} octets, not {len(octets)}"
        )
    return SrtpKey(name, octets[: suite.key_octets], octets[suite.key_octets :], mki)


def _octets(encoded: str) -> bytes:
    """Base64 with its padding or without it: peers disagree where the length needs one."""
    stem = encoded.rstrip("=")
    if _BASE64.fullmatch(encoded) is None or len(stem) % 4 == 1:
        raise NotAcceptable("a=crypto: the key is not base64")
    return b64decode(stem + "=" * (-len(stem) % 4))


def _mki(text: str) -> bytes:
    found = _MKI.fullmatch(text)
    length = int(found[2]) if found else 0
    if found is None or not 0 < length <= _MOST_MKI_OCTETS or int(found[1]) >= 256**length:
        raise NotAcceptable("a=crypto: the MKI is not of the form value:length")
    return int(found[1]).to_bytes(length, "big")


def _apart(keys: Sequence[SrtpKey]) -> bool:
    """The MKI is not authenticated: under one key with two of them a packet would be good twice."""
    if len({(key.key, key.salt) for key in keys}) < len(keys):
        return False
    mkis = {key.mki for key in keys}
    return len(mkis) == len(keys) and len({len(mki) for mki in mkis}) == 1 and b"" not in mkis
