"""Offer/answer across the relay, as pure functions (RFC 3264).

A description is edited, not regenerated: unknown lines, codecs and attributes survive.
Ours are the o= line, addresses, ports, RTCP, and what would let media go past the relay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from relay.errors import NotAcceptable, RemoteProtocolError, WrongAnswer
from relay.sdp.coding import edited
from relay.sdp.description import (
    Coding,
    IceDtls,
    LegMedia,
    MediaAddress,
    Secrets,
    SrtpKeys,
    Way,
)
from relay.sdp.keying import Terms
from relay.sdp.session import DIRECTIONS, Codecs, MediaSection, Session, Stream, join, values
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
# What a browser says of its own sending and receiving, and we do neither do nor promise.
BROWSERS = (
    "a=ssrc",
    "a=msid",
    "a=extmap",
    "a=rtcp-fb:",
    "a=rtcp-xr:",
    "a=rid:",
    "a=simulcast:",
    "a=bundle-only",
    "a=tls-id:",
    "a=identity:",
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


PLAIN_TERMS = Terms()
Choose = Callable[[Stream], None]


class Offer(NamedTuple):
    """A description for one leg, and which of its m= lines is the audio that is carried."""

    body: bytes
    position: int


def check_offer(session: Session, choose: Choose) -> Stream:
    """The first audio that can be carried and that `choose` (of a Keying) takes.

    Raises NotAcceptable (488) that says why there is none, or MalformedSdp (400).
    """
    problem: NotAcceptable | None = None
    for index, section in enumerate(session.sections):
        if section.media != "audio" or section.port == 0:
            continue
        try:
            return _offered(Stream(session, index), choose)
        except NotAcceptable as error:
            problem = problem or error
    raise problem or NotAcceptable("there is no audio stream over RTP to carry")


def _offered(stream: Stream, choose: Choose) -> Stream:
    section = stream.section
    if not section.is_voice:
        raise NotAcceptable("this profile is not carried: RTP/AVP and RTP/SAVP are")
    if not section.payload_types():
        raise NotAcceptable("the audio stream has no payload types")
    choose(stream)
    way(stream.session, section)
    return stream


def relay_offer(
    stream: Stream,
    local: MediaAddress,
    origin: Origin,
    terms: Terms = PLAIN_TERMS,
    before: Offer | None = None,
) -> Offer:
    """One side's offer as the other side gets it.

    Every m= line stays in its place: those that this leg has had (`before`), else the
    offerer's. A voice client is first offered the audio alone.
    """
    session, section = stream.session, stream.section
    feedback = "F" if terms.dtls or (section.feedback and not section.dtls) else ""
    audio = _voice_lines(stream, local, terms.profile + feedback, terms)
    if not terms.dtls:
        # Without mux in the answer RTCP goes to its own port (RFC 5761 section 5.1.1).
        audio.append(f"a=rtcp:{local.rtcp_port}")
        if section.attribute("rtcp-mux") is not None and not section.dtls:
            audio.append("a=rtcp-mux")
    if before is not None:
        others, position = Session.parse(before.body).sections, before.position
    elif terms.dtls:
        others, position = [section], 0
    else:
        others, position = session.sections, stream.position
    lines = _session_lines(stream, local, origin, terms)
    for index, other in enumerate(others):
        lines += audio if index == position else _refused(other, terms)
    return Offer(join(lines), position)


def check_answer(position: int, session: Session) -> Stream:
    """The stream of an answer; its place is that of the audio in our offer.

    Raises WrongAnswer (502) when it does not fit the offer.
    """
    if position >= len(session.sections) or session.sections[position].media != "audio":
        raise WrongAnswer("the answer does not fit the offer")
    stream = Stream(session, position)
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
    terms: Terms = PLAIN_TERMS,
) -> Offer:
    """The answer as the offerer gets it: as many m= lines as it offered (section 6)."""
    lines = _session_lines(answer, local, origin, terms)
    for index, offered in enumerate(offer.session.sections):
        if index == offer.position:
            wanted = way(offer.session, offered).direction
            lines += _voice_lines(answer, local, offered.protocol, terms, wanted)
            if not terms.dtls:
                mux = offered.attribute("rtcp-mux") is not None
                lines.append("a=rtcp-mux" if mux else f"a=rtcp:{local.rtcp_port}")
        else:
            lines += _refused(offered, terms)
    return Offer(join(lines), offer.position)


def leg_media(
    stream: Stream,
    other: Stream,
    symmetric: bool,
    secrets: Secrets = None,
    coding: Coding | None = None,
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
    leg = LegMedia(
        remote=remote,
        payload_types=frozenset(partner.payload_types() + section.payload_types()),
        telephone_event=_events(own, theirs, clock_hz),
        clock_hz=clock_hz,
        may_send=sends(wanted) and receives(partner_wants),
        may_receive=receives(wanted),
        symmetric=symmetric,
        payload_map=() if own == theirs else _payload_map(own, theirs),
        srtp=secrets if isinstance(secrets, SrtpKeys) else None,
        webrtc=secrets if isinstance(secrets, IceDtls) else None,
    )
    return leg if coding is None else transcoded(leg, coding)


def transcoded(leg: LegMedia, coding: Coding) -> LegMedia:
    """A leg whose numbers are its own: nothing of its partner's crosses."""
    numbers = (coding.payload_type, coding.telephone_event, coding.comfort_noise)
    return leg._replace(
        payload_types=frozenset(number for number in numbers if number is not None),
        telephone_event=coding.telephone_event,
        clock_hz=coding.clock_hz,
        payload_map=(),
        coding=coding,
    )


def unheld(stream: Stream) -> Stream:
    """The same audio without a hold: what its peer can do, for another partner."""
    section = stream.section
    remote = way(stream.session, section).remote
    freed = edited(stream, section.formats, _undirected(section.lines))
    freed.section.way = Way(remote, "sendrecv", "sendrecv")
    return freed._replace(session=Session(_undirected(freed.session.lines), freed.session.sections))


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


def _session_lines(stream: Stream, local: MediaAddress, origin: Origin, terms: Terms) -> list[str]:
    kind = _kind(local.host)
    lines: list[str] = []
    placed = False
    for line in _kept(stream.session.lines, stream.section.dtls or terms.dtls):
        if line.startswith("o="):
            line = f"o=- {origin.session_id} {origin.version} IN {kind} {local.host}"
        elif line[0] not in BEFORE_CONNECTION and not placed:
            lines.append(f"c=IN {kind} {local.host}")
            placed = True
        lines.append(line)
    if not placed:
        lines.append(f"c=IN {kind} {local.host}")
    lines += terms.session_lines
    return lines


def _voice_lines(
    stream: Stream,
    local: MediaAddress,
    profile: str,
    terms: Terms,
    offered: str = "sendrecv",
) -> list[str]:
    """Its m= line and what follows; `offered` is the direction that an answer answers."""
    section = stream.section
    lines = [section.m_line(local.port, profile)]
    lines += _kept(section.lines, section.dtls or terms.dtls)
    _, direction, written = way(stream.session, section)
    direction = answerable(direction, offered)
    if direction != written or terms.dtls:
        # Our address hides the 0.0.0.0: the hold is said in today's words, and some voice
        # clients want each direction said.
        lines = _undirected(lines)
        lines.append(f"a={direction}")
    if terms.dtls:
        lines += _missing_maps(section)
    lines += terms.lines
    return lines


def _missing_maps(section: MediaSection) -> list[str]:
    """A browser wants each of its codecs named (RFC 8829 section 5.2.1)."""
    mapped = [value.partition(" ")[0] for value in values(section.lines, "rtpmap")]
    return [
        f"a=rtpmap:{number} {name}/{clock_hz}"
        for number, (name, clock_hz) in section.codecs().items()
        if str(number) not in mapped
    ]


def _refused(section: MediaSection, terms: Terms) -> list[str]:
    """An m= line that is not carried; outside of any BUNDLE group, but known by its name."""
    mid = section.attribute("mid") if terms.dtls else None
    return [section.m_line(0), *((f"a=mid:{mid}",) if mid else ())]


def _kept(lines: list[str], browser: bool) -> Iterator[str]:
    """Without what ends at the relay; there has to be an s= line all the same."""
    for line in lines:
        if not (browser and line.startswith(BROWSERS)):
            if line.startswith("o=") or not _is_dropped(line):
                yield line
            elif line.startswith("s="):
                yield "s=-"


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
