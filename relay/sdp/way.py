"""Where a peer wants its media and which way they go (RFC 3264 sections 5, 6.1 and 8.4)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from relay.errors import MalformedSdp, NotAcceptable
from relay.sdp.description import MediaAddress, Way
from relay.sdp.session import MediaSection, Session

LONGEST = 128  # characters of a c= line
_DIRECTION = {  # (sends, receives)
    (True, True): "sendrecv",
    (True, False): "sendonly",
    (False, True): "recvonly",
    (False, False): "inactive",
}


def sends(direction: str) -> bool:
    return direction in ("sendrecv", "sendonly")


def receives(direction: str) -> bool:
    return direction in ("sendrecv", "recvonly")


def answerable(direction: str, offered: str) -> str:
    """The nearest direction that may answer the offered one (RFC 3264 section 6.1).

    Phones that answer a hold with sendrecv are many.
    """
    if offered == "sendrecv":
        return direction
    return _DIRECTION[
        sends(direction) and receives(offered), receives(direction) and sends(offered)
    ]


def way(session: Session, section: MediaSection) -> Way:
    """Where this peer wants its media, and which way they go (RFC 3264 section 8.4).

    Worked out once: both legs ask for it, on each pass of an offer/answer.
    """
    if section.way is not None:
        return section.way
    if section.dtls:  # ICE finds the way: c= is a formality, and 0.0.0.0 no hold (RFC 8839)
        written = session.direction(section)
        section.way = Way(None, written, written)
        return section.way
    connection = session.connection(section)
    if connection is None:
        raise MalformedSdp("SDP has no c= line for its audio")
    if len(connection) > LONGEST:  # it would be remembered
        raise MalformedSdp("the c= line is not of the form IN IP4 address")
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
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_link_local or address.scope_id is not None:
            raise NotAcceptable("the c= line is an address that is good on its own link only")
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        return None
    if address.is_multicast:
        raise NotAcceptable("the c= line is a multicast address")
    return str(address)


def _rtcp_port(section: MediaSection) -> int:
    """RFC 5761 (the same port) or RFC 3605 (a=rtcp), else the next one; 0 when there is none."""
    if section.attribute("rtcp-mux") is not None:
        return section.port
    named = (section.attribute("rtcp") or "").partition(" ")[0]
    if named.isascii() and named.isdigit() and 0 < int(named[:6]) < 65536:
        return int(named[:6])
    return (section.port + 1) % 65536
