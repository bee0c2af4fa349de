"""Session descriptions, line by line (RFC 8866): what is not understood is kept as it is.

A `Session` is the lines before the first m=, then one `MediaSection` per m=. Nothing is
normalised: `encode` of an unchanged session gives the same lines back, with CRLF.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.errors import MalformedSdp

MAX_OCTETS = 65536
MAX_SECTIONS = 64
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
# Profiles that are carried; keyed ones (RTP/SAVP) are another part of the protocol.
CARRIED = ("RTP/AVP", "RTP/AVPF")
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
    _codecs: dict[int, tuple[str, int]] | None = field(default=None, repr=False, compare=False)
    _attributes: dict[str, str] | None = field(default=None, repr=False, compare=False)

    def m_line(self, port: int) -> str:
        """The m= line with another port."""
        return f"m={self.media} {port} {self.protocol} {' '.join(self.formats)}"

    def attribute(self, name: str) -> str | None:
        """The value of the first `a=name:value`; "" for a flag, None when absent."""
        if self._attributes is None:
            self._attributes = _attributes(self.lines)
        return self._attributes.get(name)

    def connection(self) -> str | None:
        """The value of this section's own c= line."""
        return _connection(self.lines)

    def payload_types(self) -> tuple[int, ...]:
        """The formats that are RTP payload types, 0 to 127."""
        numbers = [int(text) for text in self.formats if _is_number(text, 3)]
        return tuple(number for number in numbers if number < 128)

    def codecs(self) -> dict[int, tuple[str, int]]:
        """Payload type → (encoding name in upper case, clock in Hz), in order of preference."""
        if self._codecs is None:
            self._codecs = self._read_codecs()
        return self._codecs

    def _read_codecs(self) -> dict[int, tuple[str, int]]:
        mapped: dict[int, tuple[str, int]] = {}
        for line in self.lines:
            if line.startswith("a=rtpmap:"):
                number, _, encoding = line[9:].partition(" ")
                name, _, rest = encoding.strip().partition("/")
                clock = rest.partition("/")[0]
                if _is_number(number, 3) and _is_number(clock, 7) and int(clock):
                    mapped[int(number)] = (name.upper(), int(clock))
        known: dict[int, tuple[str, int]] = {}
        for payload_type in self.payload_types():
            codec = mapped.get(payload_type) or STATIC.get(payload_type)
            if codec is not None:
                known[payload_type] = codec
        return known

    @property
    def is_voice(self) -> bool:
        """Audio over plain RTP that is not refused."""
        return self.media == "audio" and self.port != 0 and self.protocol in CARRIED


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
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.removesuffix("\r")
            if not line:
                continue
            if len(line) < 2 or line[1] != "=" or not line[0].isalpha() or _ends_early(line):
                raise MalformedSdp(f"SDP line {number} is not of the form x=value")
            session._take(line, number)
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
            for direction in DIRECTIONS:
                if level.attribute(direction) is not None:
                    return direction
        return "sendrecv"

    def voice(self) -> int | None:
        """The index of the section that is carried: the first usable audio."""
        return next((i for i, section in enumerate(self.sections) if section.is_voice), None)

    def first_codec(self) -> str:
        """The preferred voice codec in upper case, or ""."""
        index = self.voice()
        if index is None:
            return ""
        codecs = self.sections[index].codecs().values()
        return next((name for name, _ in codecs if name not in NOT_VOICE), "")

    def _take(self, line: str, number: int) -> None:
        if line[0] == "m":
            if len(self.sections) >= MAX_SECTIONS:
                raise MalformedSdp("SDP has too many m= lines")
            self.sections.append(_section(line, number))
        elif self.sections:
            self.sections[-1].lines.append(line)
        else:
            self.lines.append(line)


def join(lines: list[str]) -> bytes:
    """Lines as octets on the wire."""
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def _section(line: str, number: int) -> MediaSection:
    fields = line[2:].split()
    if len(fields) < 4:
        raise MalformedSdp(f"SDP line {number}: m= needs media, port, protocol and formats")
    port = fields[1].partition("/")[0]
    if not _is_number(port, 5) or int(port) > 65535:
        raise MalformedSdp(f"SDP line {number}: the port is not 0 to 65535")
    return MediaSection(fields[0], int(port), fields[2], tuple(fields[3:]))


def _ends_early(line: str) -> bool:
    return "\r" in line or "\0" in line  # a lone CR or a NUL (RFC 8866 section 9)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits


def _attributes(lines: list[str]) -> dict[str, str]:
    """Name → value of each first a= line."""
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            found.setdefault(name.rstrip(), value.strip())
    return found


def _connection(lines: list[str]) -> str | None:
    return next((line[2:] for line in lines if line.startswith("c=")), None)
