"""The session descriptions of a voice client: one audio line over DTLS-SRTP (RFC 8829).

Written whole for ourselves, read from the other side. Beside the voice codecs each clock
has its telephone-event (RFC 4733), which aiortc itself does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from aioice import Candidate

from relay.errors import MalformedSdp, NotAcceptable
from relay.sdp.session import DTLS, MediaSection, Session, join

OFFERED_TYPES = {"OPUS": 111, "PCMU": 0, "PCMA": 8}
KEYS = "TELEPHONE-EVENT"
KEY_TYPES = {8000: 101, 48000: 110}


class Codec(Enum):
    """The voice codecs; the value is the encoding name in upper case."""

    OPUS = "OPUS"
    PCMU = "PCMU"
    PCMA = "PCMA"

    @property
    def clock_hz(self) -> int:
        return 48000 if self is Codec.OPUS else 8000

    @property
    def rtpmap(self) -> str:
        return "opus/48000/2" if self is Codec.OPUS else f"{self.value}/8000"


@dataclass(frozen=True, slots=True)
class Ice:
    """One side's ICE credentials and candidates (RFC 8839)."""

    username: str
    password: str
    lite: bool = False
    candidates: tuple[Candidate, ...] = ()

    def same_as(self, other: Ice | None) -> bool:
        """Whether the credentials are the same: others mean an ICE restart."""
        mine = (self.username, self.password)
        return other is not None and mine == (other.username, other.password)


@dataclass(frozen=True, slots=True)
class Description:
    """What one side says: codecs by payload type in order of preference, ICE, DTLS, direction.

    `keys` are the payload types of telephone events by their clock in Hz; `setup` is active,
    passive or actpass (RFC 8842).
    """

    codecs: dict[int, Codec]
    keys: dict[int, int]
    ice: Ice
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    direction: str = "sendrecv"
    mid: str = "0"
    bundled: bool = True

    @property
    def codec(self) -> Codec:
        """The preferred one."""
        return next(iter(self.codecs.values()))

    def payload_type(self, codec: Codec) -> int:
        return next(number for number, name in self.codecs.items() if name is codec)


def offered(codecs: tuple[Codec, ...]) -> tuple[dict[int, Codec], dict[int, int]]:
    """Payload types of an offer of ours: of the codecs, and of keys by clock."""
    voices = {OFFERED_TYPES[codec.value]: codec for codec in codecs}
    return voices, {codec.clock_hz: KEY_TYPES[codec.clock_hz] for codec in codecs}


def answered(offer: Description, codecs: tuple[Codec, ...]) -> dict[int, Codec]:
    """What an answer keeps of the offered codecs. Raises NotAcceptable."""
    kept = {number: codec for number, codec in offer.codecs.items() if codec in codecs}
    if not kept:
        raise NotAcceptable("no common codec")
    return kept


# --- reading ------------------------------------------------------------------------------


def read(body: bytes) -> Description:
    """The other side's description. Raises MalformedSdp, NotAcceptable."""
    session = Session.parse(body)
    section = _audio(session)

    def attribute(name: str) -> str:
        return section.attribute(name) or session.attribute(name) or ""

    if not attribute("ice-ufrag") or not attribute("ice-pwd"):
        raise NotAcceptable("the description has no ICE credentials")
    fingerprints = _fingerprints(section) or _fingerprints(session)
    if not fingerprints:
        raise NotAcceptable("the description has no DTLS fingerprint")
    if section.attribute("rtcp-mux") is None:
        raise NotAcceptable("the description has no rtcp-mux")
    codecs = section.codecs()
    names = {codec.value: codec for codec in Codec}
    return Description(
        {n: names[name] for n, (name, clock) in codecs.items() if _is_ours(name, clock)},
        {clock: n for n, (name, clock) in list(codecs.items())[::-1] if name == KEYS},
        Ice(
            attribute("ice-ufrag"),
            attribute("ice-pwd"),
            section.attribute("ice-lite") is not None or session.attribute("ice-lite") is not None,
            _candidates(section),
        ),
        fingerprints,
        attribute("setup") or "actpass",
        session.direction(section),
        section.attribute("mid") or "0",
        (session.attribute("group") or "").startswith("BUNDLE"),
    )


def _audio(session: Session) -> MediaSection:
    for section in session.sections:
        if section.media == "audio" and section.port != 0 and section.protocol in DTLS:
            return section
    raise NotAcceptable("the description has no audio over DTLS-SRTP")


def _is_ours(name: str, clock: int) -> bool:
    return any(codec.value == name and codec.clock_hz == clock for codec in Codec)


def _fingerprints(part: Session | MediaSection) -> tuple[tuple[str, str], ...]:
    """(hash, digest) of each a=fingerprint (RFC 8122)."""
    found = []
    for line in part.lines:
        if line.startswith("a=fingerprint:"):
            algorithm, _, digest = line[14:].strip().partition(" ")
            found.append((algorithm.lower(), digest.strip()))
    return tuple(found)


def _candidates(section: MediaSection) -> tuple[Candidate, ...]:
    """The usable candidates; what is not understood is passed over (RFC 8839 section 5.1)."""
    found = []
    for line in section.lines:
        if line.startswith("a=candidate:"):
            try:
                candidate = Candidate.from_sdp(line[12:])
            except ValueError:
                continue
            if candidate.transport.lower() == "udp" and candidate.component == 1:
                found.append(candidate)
    return tuple(found)


# --- writing ------------------------------------------------------------------------------


def write(
    ours: Description,
    ssrc: int,
    origin: tuple[int, int],
    offer: bytes | None = None,
) -> bytes:
    """Our description. `origin` is session id and version; `offer` is what it answers, if any:
    each of its further m= lines is refused (RFC 3264 section 6)."""
    port = ours.ice.candidates[0].port if ours.ice.candidates else 9
    host = ours.ice.candidates[0].host if ours.ice.candidates else "0.0.0.0"
    family = "IP6" if ":" in host else "IP4"
    lines = [
        "v=0",
        f"o=- {origin[0]} {origin[1]} IN {family} {host}",
        "s=-",
        "t=0 0",
        *([f"a=group:BUNDLE {ours.mid}"] if ours.bundled else []),
        "a=msid-semantic: WMS *",
    ]
    audio = [
        f"m=audio {port} UDP/TLS/RTP/SAVPF "
        + " ".join(str(number) for number in (*ours.codecs, *ours.keys.values())),
        f"c=IN {family} {host}",
        "a=rtcp-mux",
        f"a=mid:{ours.mid}",
        f"a={ours.direction}",
        f"a=ice-ufrag:{ours.ice.username}",
        f"a=ice-pwd:{ours.ice.password}",
        *(f"a=candidate:{candidate.to_sdp()}" for candidate in ours.ice.candidates),
        "a=end-of-candidates",
        *(f"a=fingerprint:{algorithm} {digest}" for algorithm, digest in ours.fingerprints),
        f"a=setup:{ours.setup}",
        *_formats(ours),
        "a=ptime:20",
        f"a=ssrc:{ssrc} cname:relay-client",
    ]
    return join(lines + _placed(audio, offer))


def _formats(ours: Description) -> list[str]:
    lines = []
    for number, codec in ours.codecs.items():
        lines.append(f"a=rtpmap:{number} {codec.rtpmap}")
        if codec is Codec.OPUS:
            lines.append(f"a=fmtp:{number} minptime=10;useinbandfec=1")
    for clock, number in ours.keys.items():
        lines += [f"a=rtpmap:{number} telephone-event/{clock}", f"a=fmtp:{number} 0-15"]
    return lines


def _placed(audio: list[str], offer: bytes | None) -> list[str]:
    """Our audio in the place that it has in the offer, port 0 in all others."""
    if offer is None:
        return audio
    session = Session.parse(offer)
    chosen = _audio(session)
    lines: list[str] = []
    for section in session.sections:
        lines += audio if section is chosen else [section.m_line(0)]
    return lines


__all__ = [
    "Codec",
    "Description",
    "Ice",
    "MalformedSdp",
    "answered",
    "offered",
    "read",
    "write",
]
