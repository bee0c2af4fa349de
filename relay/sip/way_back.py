"""Where the responses to a request go (RFC 3261 sections 18.2.1 and 18.2.2, RFC 3581)."""

from __future__ import annotations

from relay.sip.headers import Via
from relay.sip.message import Request
from relay.sip.outputs import Hop
from relay.sip.uri import DEFAULT_PORTS


def mark_via(request: Request, via: Via, source: Hop) -> Hop:
    """Note in the top Via where the request came from; the hop of its responses.

    maddr is not followed: it would let anyone aim our answers at a third party. Raises
    MalformedMessage.
    """
    asked = via.rport is not None
    if asked:
        request.replace_via(via.with_params(rport=str(source.port), received=source.host))
    elif via.host != source.host:
        request.replace_via(via.with_params(received=source.host))
    if source.reliable or asked:
        return source
    return Hop(source.transport, source.host, via.port or 5060, source.link)


def without_connection(hop: Hop, via: Via) -> Hop:
    """The connection of a request is gone: where its sender listens."""
    port = via.port or DEFAULT_PORTS.get(hop.transport, 5060)
    name = (hop.name or via.host.lower()) if hop.transport == "tls" else ""
    return Hop(hop.transport, hop.host, port, name=name)
