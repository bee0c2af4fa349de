"""Session descriptions, line by line (RFC 8866): what is not understood is kept as it is.

A `Session` is the lines before the first m=, then one `MediaSection` per m=. Nothing is
normalised: `encode` of an unchanged session gives the same lines back, with CRLF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from relay.errors import MalformedSdp
from relay.sdp.description import Way

MAX_OCTETS = 65536
MAX_SECTIONS = 64
MAX_LINES = 2048  # a browser's with ten videos is half of it
MAX_FORMATS = 256  # there are 128 payload types
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
# Payload types that need no rtpmap (RFC 3551 section 6): name and RTP clock in Hz.
STATIC = {
    0: ("PCMU", 8000),
    3: ("GSM", 8000),
    4: ("G723", 8000),
    8: ("PCMA", 8000),
    9: ("G722", 8000),
    13: ("CN", 8000),
    15: ("G728", 8000),
    18: ("G729", 8000),
}
# Profiles that are carried: plain, SRTP with keys in the description (RFC 4568), and SRTP
# with keys from DTLS (RFC 5764).
PLAIN = ("RTP/AVP", "RTP/AVPF")
KEYED = ("RTP/SAVP", "RTP/SAVPF")
DTLS = ("UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF")
CARRIED = (*PLAIN, *KEYED, *DTLS)
Codecs = Mapping[int, tuple[str, int]]  # payload type → encoding name, clock in Hz
# Encoding names that are called by name; a peer may write anything into its own.
_NAMED = """PCMU PCMA G722 G723 G726-16 G726-24 G726-32 G726-40 G728 G729 G729E GSM GSM-EFR ILBC
    SPEEX OPUS AMR AMR-WB EVS L16 LPC DVI4 QCELP SILK G7221"""
NAMED = frozenset(_NAMED.split())
OTHER_CODEC = "OTHER"
_PAYLOAD_TYPE = re.compile(r"[0-9]{1,3}")
_CLOCK = re.compile(r"[0-9]{1,7}")
_PORT = re.compile(r"[0-9]{1,5}")
# Formats that are carried beside the voice and never are the call's codec.
NOT_VOICE = ("TELEPHONE-EVENT", "CN", "RED")


@dataclass(slots=True)
class MediaSection:
    """One m= line and the lines that belong to it (RFC 8866 section 5.14)."""

    media: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    # Read when first asked for, and kept: lines do not change once a session is parsed.
    _attributes: dict[str, str] | None = field(default=None, repr=False, compare=False)
    way: Way | None = field(default=None, repr=False, compare=False)

    def m_line(self, port: int, protocol: str | None = None) -> str:
        """The m= line with another port, and perhaps another profile."""
        return f"m={self.media} {port} {protocol or self.protocol} {' '.join(self.formats)}"

    def attribute(self, name: str) -> str | None:
        """The value of the first `a=name:value`; "" for a flag, None when absent."""
        if self._attributes is None:
            self._attributes = _attributes(self.lines)
        return self._attributes.get(name)

    def crypto(self) -> list[str]:
        """The values of the a=crypto lines (RFC 4568)."""
        return values(self.lines, "crypto")

    def connection(self) -> str | None:
        """The value of this section's own c= line."""
        return _connection(self.lines)

    def payload_types(self) -> tuple[int, ...]:
        """The formats that are RTP payload types, 0 to 127."""
        known = _payload_types if _short(self.formats) else _payload_types.__wrapped__
        return known(self.formats)

    def codecs(self) -> Codecs:
        """Payload type → (encoding name in upper case, clock in Hz), in order of preference."""
        maps = tuple([line for line in self.lines if line.startswith("a=rtpmap:")])
        known = _codecs if _short(self.formats) and _short(maps) else _codecs.__wrapped__
        return known(self.formats, maps)

    def voice_codec(self) -> str:
        """The preferred voice codec in upper case, or ""."""
        found = next((name for name, _ in self.codecs().values() if name not in NOT_VOICE), "")
        return found if found in NAMED or not found else OTHER_CODEC

    @property
    def is_voice(self) -> bool:
        """Audio over RTP or SRTP that is not refused."""
        return self.media == "audio" and self.port != 0 and self.protocol in CARRIED

    @property
    def feedback(self) -> bool:
        """The profile has early RTCP feedback (RFC 4585)."""
        return self.protocol.endswith("AVPF")

    @property
    def keyed(self) -> bool:
        """The profile says that the media are SRTP with keys in the description."""
        return self.protocol in KEYED

    @property
    def dtls(self) -> bool:
        """The profile says that the media are SRTP with keys from DTLS."""
        return self.protocol in DTLS


@dataclass(slots=True)
class Session:
    """A description: session lines (the first is `v=0`) and media sections."""

    lines: list[str]
    sections: list[MediaSection]
    _attributes: dict[str, str] | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def parse(body: bytes) -> Session:
        """Raises MalformedSdp with the line number. LF alone is accepted as a line end."""
        if len(body) > MAX_OCTETS:
            raise MalformedSdp("the session description is too large")
        text = body.decode("utf-8", "surrogateescape")
        session = Session([], [])
        lines = session.lines
        if text.count("\n") > MAX_LINES:
            raise MalformedSdp("SDP has too many lines")
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.removesuffix("\r")
            if not line:
                continue
            # A lone CR or a NUL ends a line for some other reader (RFC 8866 section 9).
            if line[1:2] != "=" or not line[0].isalpha() or "\r" in line or "\0" in line:
                raise MalformedSdp(f"SDP line {number} is not of the form x=value")
            if line[0] != "m":
                lines.append(line)
                continue
            if len(session.sections) >= MAX_SECTIONS:
                raise MalformedSdp("SDP has too many m= lines")
            section = _section(line, number)
            session.sections.append(section)
            lines = section.lines
        if not session.lines or session.lines[0] != "v=0":
            raise MalformedSdp("SDP does not begin with v=0")
        if not any(line.startswith("o=") for line in session.lines):
            raise MalformedSdp("SDP has no o= line")
        return session

    def encode(self) -> bytes:
        """The description with CRLF line ends."""
        lines = list(self.lines)
        for section in self.sections:
            lines += [section.m_line(section.port), *section.lines]
        return join(lines)

    def attribute(self, name: str) -> str | None:
        """A session-level attribute."""
        if self._attributes is None:
            self._attributes = _attributes(self.lines)
        return self._attributes.get(name)

    def connection(self, section: MediaSection) -> str | None:
        """The c= value that holds for a section: its own, else the session's."""
        return section.connection() or _connection(self.lines)

    def direction(self, section: MediaSection) -> str:
        """One of DIRECTIONS; sendrecv unless said otherwise (RFC 8866 section 6.7)."""
        for level in (section, self):
            if level._attributes is None:
                level._attributes = _attributes(level.lines)
            for direction in DIRECTIONS:
                if direction in level._attributes:
                    return direction
        return "sendrecv"


class Stream(NamedTuple):
    """The audio of a description that is carried, and which of its sections that is."""

    session: Session
    position: int

    @property
    def section(self) -> MediaSection:
        return self.session.sections[self.position]

    def attribute(self, name: str) -> str | None:
        """Its own, else the session's."""
        own = self.section.attribute(name)
        return own if own is not None else self.session.attribute(name)

    def values(self, name: str) -> list[str]:
        """Of an attribute that may come several times: its own, else the session's."""
        return values(self.section.lines, name) or values(self.session.lines, name)


def values(lines: Sequence[str], name: str) -> list[str]:
    """The values of all lines `a=name:value`."""
    start = f"a={name}:"
    return [line[len(start) :].strip() for line in lines if line.startswith(start)]


def join(lines: list[str]) -> bytes:
    """Lines as octets on the wire."""
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def _section(line: str, number: int) -> MediaSection:
    fields = line[2:].split()
    if len(fields) < 4:
        raise MalformedSdp(f"SDP line {number}: m= needs media, port, protocol and formats")
    if len(fields) > 3 + MAX_FORMATS:
        raise MalformedSdp(f"SDP line {number}: m= has too many formats")
    port = fields[1].partition("/")[0]
    if _PORT.fullmatch(port) is None or int(port) > 65535:
        raise MalformedSdp(f"SDP line {number}: the port is not 0 to 65535")
    return MediaSection(fields[0], int(port), fields[2], tuple(fields[3:]))


def _short(texts: tuple[str, ...]) -> bool:
    """Worth to be remembered: nobody's codecs fill a datagram, unless to fill our memory."""
    return len(texts) <= 64 and sum(map(len, texts)) <= 4096


# The codec lists of a trunk's calls are few: what they mean is kept.
@lru_cache(maxsize=256)
def _payload_types(formats: tuple[str, ...]) -> tuple[int, ...]:
    numbers = [int(text) for text in formats if _PAYLOAD_TYPE.fullmatch(text)]
    return tuple(number for number in numbers if number < 128)


@lru_cache(maxsize=256)
def _codecs(formats: tuple[str, ...], maps: tuple[str, ...]) -> Codecs:
    """`maps` are the a=rtpmap lines (RFC 8866 section 6.6)."""
    mapped: dict[int, tuple[str, int]] = {}
    for line in maps:
        number, _, encoding = line[9:].partition(" ")
        name, _, rest = encoding.strip().partition("/")
        clock = rest.partition("/")[0]
        if _PAYLOAD_TYPE.fullmatch(number) and _CLOCK.fullmatch(clock) and int(clock):
            mapped[int(number)] = (name.upper(), int(clock))
    known: dict[int, tuple[str, int]] = {}
    for payload_type in _payload_types.__wrapped__(formats):
        codec = mapped.get(payload_type) or STATIC.get(payload_type)
        if codec is not None:
            known[payload_type] = codec
    return known


def _attributes(lines: list[str]) -> dict[str, str]:
    """Name → value of each first a= line."""
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found.setdefault(name.rstrip(), value.strip())
    return found


def _connection(lines: list[str]) -> str | None:
    for line in lines:
        if line.startswith("c="):
            return line[2:]
    return None
