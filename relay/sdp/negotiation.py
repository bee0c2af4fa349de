"""Offer/answer across the relay, as pure functions (RFC 3264).

A description is edited, not regenerated: unknown lines, codecs and attributes survive.
Ours are the o= line, addresses, ports, RTCP, and what would let media go past the relay.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

from relay.errors import MalformedSdp, NotAcceptable
from relay.sdp.description import LegMedia, MediaAddress, Way
from relay.sdp.session import DIRECTIONS, KEYED, MediaSection, Session, join

# Lines that name another path for the media, or keys that end at the relay.
DROPPED = (
    "a=candidate",
    "a=remote-candidates",
    "a=end-of-candidates",
    "a=ice-",
    "a=crypto:",
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
)

# What comes before c= among the session's lines (RFC 8866 section 9).
BEFORE_CONNECTION = "vosiuep"


class Origin(NamedTuple):
    """Our o= line on one leg: the version grows with each change (RFC 3264 section 8)."""

    session_id: int
    version: int


def check_offer(session: Session) -> None:
    """Raises NotAcceptable (488) when there is no audio that can be carried."""
    index = session.voice()
    if index is None:
        others = [s.protocol for s in session.sections if s.media == "audio" and s.port]
        if others:
            named = others[0] if others[0] in KEYED else "this profile"  # texts reach the log
            raise NotAcceptable(f"{named} is not carried: RTP/AVP is")
        raise NotAcceptable("there is no audio stream over RTP to carry")
    section = session.sections[index]
    if not section.payload_types():
        raise NotAcceptable("the audio stream has no payload types")
    _way(session, section)


def relay_offer(session: Session, local: MediaAddress, origin: Origin) -> bytes:
    """One side's offer as the other side gets it. Every m= line stays in its place."""
    carried = session.voice()
    lines = _session_lines(session, local, origin)
    for index, section in enumerate(session.sections):
        if index == carried:
            lines += _voice_lines(session, section, local)
            # Without mux in the answer RTCP goes to its own port (RFC 5761 section 5.1.1).
            lines.append(f"a=rtcp:{local.rtcp_port}")
            if section.attribute("rtcp-mux") is not None:
                lines.append("a=rtcp-mux")
        else:
            lines.append(section.m_line(0))
    return join(lines)


def relay_answer(offer: Session, answer: Session, local: MediaAddress, origin: Origin) -> bytes:
    """The answer as the offerer gets it: as many m= lines as it offered (section 6).

    Raises NotAcceptable when the answer refuses the audio or does not fit the offer.
    """
    carried = offer.voice()
    assert carried is not None, "check_offer comes first"
    if carried >= len(answer.sections) or answer.sections[carried].media != "audio":
        raise NotAcceptable("the answer does not fit the offer")
    section = answer.sections[carried]
    if not section.is_voice:
        raise NotAcceptable("the answer refuses the audio")
    if not section.payload_types():
        raise NotAcceptable("the answer has no payload types")
    _way(answer, section)
    lines = _session_lines(answer, local, origin)
    for index, offered in enumerate(offer.sections):
        if index == carried:
            lines += _voice_lines(answer, section, local)
            mux = offered.attribute("rtcp-mux") is not None
            lines.append("a=rtcp-mux" if mux else f"a=rtcp:{local.rtcp_port}")
        else:
            lines.append(offered.m_line(0))
    return join(lines)


def leg_media(session: Session, other: Session, symmetric: bool) -> LegMedia:
    """What the engine must know of the peer that sent `session`; `other` is its partner's.

    A peer may send what its partner listed, since the numbers cross unchanged; what it
    listed itself is let through too, because some phones send by their own numbers.
    """
    section, partner = _carried(session, other)
    theirs = partner.codecs()
    codecs = {**theirs, **section.codecs(), **theirs}  # the partner's win
    events = [number for number, (name, _) in codecs.items() if name == "TELEPHONE-EVENT"]
    clocks = [clock for name, clock in theirs.values() if name != "TELEPHONE-EVENT"]
    remote, wanted, _ = _way(session, section)
    partner_wants = _way(other, partner).direction
    return LegMedia(
        remote=remote,
        payload_types=frozenset(partner.payload_types() + section.payload_types()),
        telephone_event=events[0] if events else None,
        clock_hz=clocks[0] if clocks else 8000,
        may_send=wanted in ("sendrecv", "sendonly") and partner_wants in ("sendrecv", "recvonly"),
        may_receive=wanted in ("sendrecv", "recvonly"),
        symmetric=symmetric,
    )


def _carried(session: Session, other: Session) -> tuple[MediaSection, MediaSection]:
    """The stream that both sides use. A peer may have accepted others that were refused."""
    for section, partner in zip(session.sections, other.sections, strict=False):
        if section.is_voice and partner.is_voice:
            return section, partner
    raise AssertionError("check_offer and relay_answer come first")


def _session_lines(session: Session, local: MediaAddress, origin: Origin) -> list[str]:
    kind = _kind(local.host)
    lines: list[str] = []
    placed = False
    for line in session.lines:
        if line.startswith("o="):
            line = f"o=- {origin.session_id} {origin.version} IN {kind} {local.host}"
        elif line.startswith(DROPPED):
            continue
        elif line[0] not in BEFORE_CONNECTION and not placed:
            lines.append(f"c=IN {kind} {local.host}")
            placed = True
        lines.append(line)
    if not placed:
        lines.append(f"c=IN {kind} {local.host}")
    return lines


def _voice_lines(session: Session, section: MediaSection, local: MediaAddress) -> list[str]:
    lines = [section.m_line(local.port)]
    lines += [line for line in section.lines if not line.startswith(DROPPED)]
    _, direction, written = _way(session, section)
    if direction != written:
        # Our address hides the 0.0.0.0: the hold is said in today's words.
        lines = [line for line in lines if line.rstrip()[2:] not in DIRECTIONS]
        lines.append(f"a={direction}")
    return lines


def _way(session: Session, section: MediaSection) -> Way:
    """Where this peer wants its media, and which way they go (RFC 3264 section 8.4).

    Worked out once: both legs ask for it, on each pass of an offer/answer.
    """
    if section.way is not None:
        return section.way
    connection = session.connection(section)
    if connection is None:
        raise MalformedSdp("SDP has no c= line for its audio")
    host = _host(connection)
    written = session.direction(section)
    if host is None:
        direction = "sendonly" if written in ("sendrecv", "sendonly") else "inactive"
        section.way = Way(None, direction, written)
    else:
        remote = MediaAddress(host, section.port, _rtcp_port(section))
        section.way = Way(remote, written, written)
    return section.way


@lru_cache(maxsize=4096)  # a trunk's calls repeat its few addresses
def _host(connection: str) -> str | None:
    """The address of a c= line; None for the unspecified one."""
    fields = connection.split()
    if len(fields) != 3 or fields[0] != "IN" or fields[1] not in ("IP4", "IP6"):
        raise MalformedSdp("the c= line is not of the form IN IP4 address")
    try:
        # Brackets do not belong here, but load generators write them.
        address = ipaddress.ip_address(fields[2].partition("/")[0].strip("[]"))
    except ValueError:
        raise NotAcceptable("the c= line names a host: an IP address is needed") from None
    if address.is_unspecified:
        return None
    if address.is_multicast:
        raise NotAcceptable("the c= line is a multicast address")
    return str(address)


def _rtcp_port(section: MediaSection) -> int:
    """RFC 5761 (the same port) or RFC 3605 (a=rtcp), else the next one."""
    if section.attribute("rtcp-mux") is not None:
        return section.port
    named = (section.attribute("rtcp") or "").partition(" ")[0]
    if named.isascii() and named.isdigit() and 0 < int(named[:6]) < 65536:
        return int(named[:6])
    return min(section.port + 1, 65535)


def _kind(host: str) -> str:
    return "IP6" if ":" in host else "IP4"
