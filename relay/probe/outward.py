"""A call whose audio is to be sent out of the region, and what the region says to that."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass

from relay.probe.region import host_port
from relay.probe.wav_file import ProbeError
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.parser import parse

OUTSIDE = "203.0.113.9"  # nobody's (RFC 5737)
DEADLINE_S = 10.0
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The final answer; `text` is its Warning's (RFC 3261 section 20.43), or its reason."""

    status: int
    text: str


def ask(relay: Address, host: str, called: str, media: str = OUTSIDE) -> Answer:
    """Invite `called` over UDP from `host`, by an SDP that wants the audio at `media`.

    Raises ProbeError when nothing is answered, OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((host, 0))
        own.settimeout(DEADLINE_S)
        own.connect(relay)
        invite = _invite(host_port(*own.getsockname()), host_port(*relay), called, media)
        own.send(invite.encode())
        final = _final(own)
        own.send(_acknowledged(invite, final).encode())
    _, _, text = (final.headers.get("Warning") or "").partition('"')
    return Answer(final.status, text.strip('"') or final.reason)


def _final(own: socket.socket) -> Response:
    try:
        while True:
            message = parse(own.recv(65535))
            if isinstance(message, Response) and message.status >= 200:
                return message
    except TimeoutError:
        raise ProbeError(f"no answer to a call in {DEADLINE_S:g} s") from None


def _invite(own: str, relay: str, called: str, media: str) -> Request:
    uri = f"sip:{called}@{relay}"
    fields = (
        ("Via", f"SIP/2.0/UDP {own};branch=z9hG4bK{secrets.token_hex(8)};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<sip:outward@{own}>;tag={secrets.token_hex(4)}"),
        ("To", f"<{uri}>"),
        ("Call-ID", secrets.token_hex(8)),
        ("CSeq", "1 INVITE"),
        ("Contact", f"<sip:outward@{own}>"),
        ("Content-Type", "application/sdp"),
    )
    lines = ("v=0", f"o=- 1 1 IN IP4 {media}", "s=-", f"c=IN IP4 {media}", "t=0 0")
    sdp = "\r\n".join((*lines, "m=audio 40000 RTP/AVP 0", ""))
    return Request("INVITE", uri, Headers(fields), sdp.encode())


def _acknowledged(invite: Request, final: Response) -> Request:
    """The ACK of a refusal (RFC 3261 section 17.1.1.3)."""
    fields = [(name, invite.headers.get(name) or "") for name in ("Via", "Max-Forwards", "From")]
    fields += [("To", final.headers.get("To") or ""), ("Call-ID", invite.call_id)]
    return Request("ACK", invite.uri, Headers((*fields, ("CSeq", "1 ACK"))))
