"""What browsers and aiortc write into their offers and answers, in the shape of each."""

from __future__ import annotations

from typing import NamedTuple

SHA256 = ":".join(f"{octet:02X}" for octet in range(0x40, 0x60))
OTHER_SHA256 = ":".join(f"{octet:02X}" for octet in range(0x80, 0xA0))
UFRAG, PWD = "aB3+", "oneOfTwentyFourLetters/+"
NEW_UFRAG, NEW_PWD = "zZ9/", "anotherOneOfThisLength/+"


class Browser(NamedTuple):
    """One kind: its lines before the first m=, its formats, and the lines of its audio."""

    session: tuple[str, ...]
    formats: str
    audio: tuple[str, ...]


CODECS = (
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=rtpmap:63 red/48000/2",
    "a=fmtp:63 111/111",
    "a=rtpmap:9 G722/8000",
    "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:8 PCMA/8000",
    "a=rtpmap:13 CN/8000",
    "a=rtpmap:110 telephone-event/48000",
    "a=rtpmap:126 telephone-event/8000",
)
_CHROMIUM = Browser(
    ("a=extmap-allow-mixed", "a=msid-semantic: WMS"),
    "111 63 9 0 8 13 110 126",
    (
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:11 1 udp 2113937151 192.0.2.50 33693 typ host generation 0",
        "a=candidate:12 1 udp 1677729535 203.0.113.9 40001 typ srflx raddr 0.0.0.0 rport 0",
        "a=ice-options:trickle",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=msid:- 5d1c7ad0",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtcp-xr:rcvr-rtt=all",
        *CODECS,
        "a=ssrc:4258744913 cname:pRiVaTe",
        "a=ssrc:4258744913 msid:- 5d1c7ad0",
    ),
)
_FIREFOX = Browser(
    (f"a=fingerprint:sha-256 {SHA256}", "a=ice-options:trickle", "a=msid-semantic:WMS *"),
    "109 9 0 8 101",
    (
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        "a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level",
        "a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1",
        "a=fmtp:101 0-15",
        "a=msid:{5d1c} {7ad0}",
        "a=rtcp-mux",
        "a=rtpmap:109 opus/48000/2",
        "a=rtpmap:9 G722/8000/1",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000/1",
        "a=ssrc:2112434559 cname:{pRiVaTe}",
    ),
)
_SAFARI = Browser(
    ("a=extmap-allow-mixed", "a=msid-semantic: WMS 5d1c"),
    "111 63 9 0 8 13 110 126",
    (
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:7 1 udp 2113937151 1f4712db.local 54400 typ host generation 0",
        "a=ice-options:trickle",
        "a=msid:5d1c 7ad0",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        *CODECS,
        "a=ssrc:7 cname:pRiVaTe",
    ),
)
_AIORTC = Browser(
    ("a=msid-semantic:WMS *",),
    "96 9 0 8",
    (
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=candidate:f9 1 udp 2130706431 192.0.2.50 43644 typ host",
        "a=end-of-candidates",
        "a=msid:5d1c 7ad0",
        "a=rtcp-mux",
        "a=ssrc:1374735291 cname:pRiVaTe",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        f"a=fingerprint:sha-384 {':'.join(['5A'] * 48)}",
        f"a=fingerprint:sha-512 {':'.join(['5B'] * 64)}",
    ),
)
BROWSERS = {"chromium": _CHROMIUM, "firefox": _FIREFOX, "safari": _SAFARI, "aiortc": _AIORTC}

VIDEO = (
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    "c=IN IP4 0.0.0.0",
    "a=mid:1",
    "a=rtpmap:96 VP8/90000",
    "a=rtpmap:97 rtx/90000",
    "a=bundle-only",
)
DATA = ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2", "a=sctp-port:5000")


def describe(
    browser: str = "chromium",
    setup: str = "actpass",
    credentials: tuple[str, str] = (UFRAG, PWD),
    fingerprint: str = SHA256,
    formats: str = "",
    direction: str = "sendrecv",
    more: tuple[str, ...] = (),
    group: str = "0",
    without: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
) -> bytes:
    """An offer, or with `setup` active or passive an answer; audio, and `more` m= sections.

    Lines that begin with one of `without` are left out, sections `before` come first.
    """
    kind = BROWSERS[browser]
    session = [line for line in kind.session if not line.startswith("a=fingerprint")]
    level = session if len(session) < len(kind.session) else None
    lines = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {formats or kind.formats}",
        "c=IN IP4 0.0.0.0",
        *kind.audio,
        "a=mid:0",
        f"a={direction}",
        f"a=setup:{setup}",
        f"a=ice-ufrag:{credentials[0]}",
        f"a=ice-pwd:{credentials[1]}",
    ]
    (lines if level is None else session).append(f"a=fingerprint:sha-256 {fingerprint}")
    start = ["v=0", "o=- 42 2 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {group}"]
    whole = [*start, *session, *before, *lines, *more]
    return "".join(f"{line}\r\n" for line in whole if not line.startswith(without)).encode()


def attributes(body: bytes, name: str) -> list[str]:
    """The values of a description's a=name lines, in order."""
    start = f"a={name}:"
    return [line[len(start) :] for line in body.decode().splitlines() if line.startswith(start)]


def sections(body: bytes) -> list[str]:
    """Its m= lines."""
    return [line for line in body.decode().splitlines() if line.startswith("m=")]
