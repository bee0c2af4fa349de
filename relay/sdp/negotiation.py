"""Offer/answer across the relay, as pure functions (RFC 3264).

A description is edited, not regenerated: unknown lines, codecs and attributes survive.
Ours are the o= line, addresses, ports, RTCP, and what would let media go past the relay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from relay.errors import NotAcceptable, RemoteProtocolError, WrongAnswer
from relay.sdp.crypto import Crypto
from relay.sdp.description import LegMedia, MediaAddress, SrtpKeys, Way
from relay.sdp.session import DIRECTIONS, DTLS, Codecs, MediaSection, Session, join
from relay.sdp.way import answerable, receives, sends, way

# Lines that name another path for the media, or keys that end at the relay.
DROPPED = (
    "a=candidate",
    "a=remote-candidates",
    "a=end-of-candidates",
    "a=ice-",
    "a=crypto",
    "a=key-mgmt:",
    "a=acap:",
    "a=tcap:",
    "a=pcfg:",
    "a=acfg:",
    "a=fingerprint:",
    "a=setup:",
    "a=rtcp:",
    "a=rtcp-mux",
    "a=rtcp-mux-only",
    "a=rtcp-rsize",
    "a=group:",
    "a=mid:",
    "c=",
    "k=",
    "a=source-filter:",
)

# Most lines are these: they are not searched for what only other lines may hold.
PLAIN = ("a=rtpmap:", "a=fmtp:", "a=ptime:", "a=sendrecv", "t=", "v=")
_ADDRESS = re.compile(r"@|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:")

# What comes before c= among the session's lines (RFC 8866 section 9).
BEFORE_CONNECTION = "vosiuep"


class Origin(NamedTuple):
    """Our o= line on one leg: the version grows with each change (RFC 3264 section 8)."""

    session_id: int
    version: int


class Stream(NamedTuple):
    """The audio of a description that is carried, and which of its sections that is."""

    session: Session
    position: int

    @property
    def section(self) -> MediaSection:
        return self.session.sections[self.position]


class Terms(NamedTuple):
    """How our description says that the media are encrypted, if they are.

    `keyed` makes the profile RTP/SAVP; without it a=crypto is best effort.
    """

    keyed: bool = False
    lines: tuple[Crypto, ...] = ()


PLAIN_TERMS = Terms()


def check_offer(
    session: Session, choose: Callable[[MediaSection], Crypto | None]
) -> tuple[Stream, Crypto | None]:
    """The first audio that can be carried, with the a=crypto line that `choose` took.

    Raises NotAcceptable (488) that says why there is none, or MalformedSdp (400).
    """
    problem: NotAcceptable | None = None
    for index, section in enumerate(session.sections):
        if section.media != "audio" or section.port == 0:
            continue
        try:
            crypto = _offered(session, section, choose)
        except NotAcceptable as error:
            problem = problem or error
        else:
            return Stream(session, index), crypto
    raise problem or NotAcceptable("there is no audio stream over RTP to carry")


def _offered(
    session: Session, section: MediaSection, choose: Callable[[MediaSection], Crypto | None]
) -> Crypto | None:
    if not section.is_voice:
        named = section.protocol if section.protocol in DTLS else "this profile"
        raise NotAcceptable(f"{named} is not carried: RTP/AVP and RTP/SAVP are")
    if not section.payload_types():
        raise NotAcceptable("the audio stream has no payload types")
    crypto = choose(section)
    way(session, section)
    return crypto


def relay_offer(
    stream: Stream, local: MediaAddress, origin: Origin, terms: Terms = PLAIN_TERMS
) -> bytes:
    """One side's offer as the other side gets it. Every m= line stays in its place."""
    session = stream.session
    lines = _session_lines(session, local, origin)
    for index, section in enumerate(session.sections):
        if index == stream.position:
            profile = f"RTP/{'S' if terms.keyed else ''}AVP{'F' if section.feedback else ''}"
            lines += _voice_lines(stream, local, profile, terms.lines)
            # Without mux in the answer RTCP goes to its own port (RFC 5761 section 5.1.1).
            lines.append(f"a=rtcp:{local.rtcp_port}")
            if section.attribute("rtcp-mux") is not None:
                lines.append("a=rtcp-mux")
        else:
            lines.append(section.m_line(0))
    return join(lines)


def check_answer(offer: Stream, session: Session) -> Stream:
    """The stream of an answer. Raises WrongAnswer (502) when it does not fit the offer."""
    if offer.position >= len(session.sections) or session.sections[offer.position].media != "audio":
        raise WrongAnswer("the answer does not fit the offer")
    stream = Stream(session, offer.position)
    section = stream.section
    if not section.is_voice:
        raise WrongAnswer("the answer refuses the audio")
    if not section.payload_types():
        raise WrongAnswer("the answer has no payload types")
    try:
        way(session, section)
    except RemoteProtocolError as error:
        raise WrongAnswer(f"the answer: {error}") from None
    return stream


def relay_answer(
    offer: Stream,
    answer: Stream,
    local: MediaAddress,
    origin: Origin,
    crypto: tuple[Crypto, ...] = (),
) -> bytes:
    """The answer as the offerer gets it: as many m= lines as it offered (section 6)."""
    lines = _session_lines(answer.session, local, origin)
    for index, offered in enumerate(offer.session.sections):
        if index == offer.position:
            wanted = way(offer.session, offered).direction
            lines += _voice_lines(answer, local, offered.protocol, crypto, wanted)
            mux = offered.attribute("rtcp-mux") is not None
            lines.append("a=rtcp-mux" if mux else f"a=rtcp:{local.rtcp_port}")
        else:
            lines.append(offered.m_line(0))
    return join(lines)


def leg_media(
    stream: Stream, other: Stream, symmetric: bool, srtp: SrtpKeys | None = None
) -> LegMedia:
    """What the engine must know of the peer that sent `stream`; `other` is its partner's.

    A peer sends by the numbers that its partner listed (RFC 3264 section 5.1), and those
    cross unchanged. Some phones send by their own: these are let through too, and become
    the partner's where the two differ for one codec.
    """
    section, partner = stream.section, other.section
    own, theirs = section.codecs(), partner.codecs()
    voice = [clock for name, clock in theirs.values() if name != "TELEPHONE-EVENT"]
    clock_hz = voice[0] if voice else 8000
    remote, wanted, _ = way(stream.session, section)
    partner_wants = way(other.session, partner).direction
    return LegMedia(
        remote=remote,
        payload_types=frozenset(partner.payload_types() + section.payload_types()),
        telephone_event=_events(own, theirs, clock_hz),
        clock_hz=clock_hz,
        may_send=sends(wanted) and receives(partner_wants),
        may_receive=receives(wanted),
        symmetric=symmetric,
        payload_map=() if own == theirs else _payload_map(own, theirs),
        srtp=srtp,
    )


def unheld(stream: Stream) -> Stream:
    """The same audio without a hold: what its peer can do, for another partner."""
    session, section = stream.session, stream.section
    sections = list(session.sections)
    copy = MediaSection(
        section.media, section.port, section.protocol, section.formats, _undirected(section.lines)
    )
    copy.way = Way(way(session, section).remote, "sendrecv", "sendrecv")
    sections[stream.position] = copy
    return Stream(Session(_undirected(session.lines), sections), stream.position)


def _undirected(lines: list[str]) -> list[str]:
    return [line for line in lines if line.rstrip()[2:] not in DIRECTIONS]


def _events(own: Codecs, theirs: Codecs, clock_hz: int) -> int | None:
    """The number of RFC 4733 events as they are sent on: the partner's, of the voice's clock."""
    for codecs in (theirs, {n: c for n, c in own.items() if n not in theirs}):
        found = [(c[1] != clock_hz, n) for n, c in codecs.items() if c[0] == "TELEPHONE-EVENT"]
        if found:
            return min(found)[1]
    return None


def _payload_map(own: Codecs, theirs: Codecs) -> tuple[tuple[int, int], ...]:
    """A peer's own numbers that mean nothing to its partner → the partner's for that codec.

    Where the partner has two of a name (AMR in two packings), which one is meant is unknown.
    """
    numbers: dict[tuple[str, int], int | None] = {}
    for number, codec in theirs.items():
        numbers[codec] = None if codec in numbers else number
    return tuple(
        (number, sent)
        for number, codec in own.items()
        if number not in theirs and (sent := numbers.get(codec)) is not None
    )


def _session_lines(session: Session, local: MediaAddress, origin: Origin) -> list[str]:
    kind = _kind(local.host)
    lines: list[str] = []
    placed = False
    for line in session.lines:
        if line.startswith("o="):
            line = f"o=- {origin.session_id} {origin.version} IN {kind} {local.host}"
        elif _is_dropped(line):
            if line.startswith("s="):
                lines.append("s=-")  # there has to be one
            continue
        elif line[0] not in BEFORE_CONNECTION and not placed:
            lines.append(f"c=IN {kind} {local.host}")
            placed = True
        lines.append(line)
    if not placed:
        lines.append(f"c=IN {kind} {local.host}")
    return lines


def _voice_lines(
    stream: Stream,
    local: MediaAddress,
    profile: str,
    crypto: tuple[Crypto, ...],
    offered: str = "sendrecv",
) -> list[str]:
    """Its m= line and what follows; `offered` is the direction that an answer answers."""
    section = stream.section
    lines = [section.m_line(local.port, profile)]
    lines += [line for line in section.lines if not _is_dropped(line)]
    _, direction, written = way(stream.session, section)
    direction = answerable(direction, offered)
    if direction != written:
        # Our address hides the 0.0.0.0: the hold is said in today's words.
        lines = _undirected(lines)
        lines.append(f"a={direction}")
    lines += [line.line() for line in crypto]
    return lines


def _is_dropped(line: str) -> bool:
    """Whatever attribute it is in, a key or an address of one leg never reaches the other."""
    if line.startswith(PLAIN):
        return "inline:" in line.lower()
    return (
        line.startswith(DROPPED)
        or _ADDRESS.search(line) is not None  # a=ssrc with a CNAME, i=, e= …
        or (line.startswith("a=") and "inline:" in line.lower())
    )


def _kind(host: str) -> str:
    return "IP6" if ":" in host else "IP4"
