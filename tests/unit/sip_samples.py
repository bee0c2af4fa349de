"""Messages that the SIP tests share."""

from __future__ import annotations

from pathlib import Path

from relay.sip.fields import Headers
from relay.sip.message import Request

TORTURE = Path(__file__).parent.parent / "vectors" / "rfc4475"

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0\r\n"
)


def request(
    method: str = "INVITE",
    *,
    to: str = "<sip:bob@biloxi.example.com>",
    from_: str = '"Alice" <sip:alice@atlanta.example.com>;tag=9fxced76sl',
    call_id: str = "3848276298220188511@atlanta.example.com",
    cseq: int = 1,
    uri: str = "sip:bob@biloxi.example.com",
    via: str | None = None,
    extra: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
) -> Request:
    """A well-formed request; without `via` it has none, as the transaction layer wants it."""
    fields = [("Via", via)] if via is not None else []
    fields += [
        ("Max-Forwards", "70"),
        ("From", from_),
        ("To", to),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
        ("Contact", "<sip:alice@client.atlanta.example.com>"),
        *extra,
    ]
    return Request(method, uri, Headers(fields), body)
