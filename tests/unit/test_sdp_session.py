"""Session descriptions are read leniently and kept line by line (RFC 8866)."""

from __future__ import annotations

import pytest

from relay.errors import MalformedSdp
from relay.sdp.session import MAX_FORMATS, MAX_LINES, MAX_OCTETS, MAX_SECTIONS, Session

# RFC 8866 section 5, with media as section 5.14 shows it.
EXAMPLE = """v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.jdoe.example.com/home.html
e=Jane Doe <jane@jdoe.example.com>
p=+1 617 555-6011
c=IN IP4 198.51.100.1
b=X-YZ:128
t=0 0
a=recvonly
a=x-unknown:kept as it is
y=a type of line that no RFC names
m=audio 49170/2 RTP/AVP 0 96 101
b=AS:64
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:101 telephone-event/8000
a=ptime:20
m=video 51372 RTP/AVP 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
"""
START = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def parse(text: str) -> Session:
    return Session.parse(text.encode())


def test_every_line_is_kept_in_its_place() -> None:
    session = parse(EXAMPLE)
    kept = EXAMPLE.replace("49170/2", "49170").replace("\n", "\r\n").encode()
    assert session.encode() == kept
    assert Session.parse(kept).encode() == kept


def test_typed_access() -> None:
    session = parse(EXAMPLE)
    audio, video = session.sections
    assert (audio.media, audio.port, audio.protocol) == ("audio", 49170, "RTP/AVP")
    assert audio.payload_types() == (0, 96, 101)
    assert audio.codecs() == {
        0: ("PCMU", 8000),
        96: ("OPUS", 48000),
        101: ("TELEPHONE-EVENT", 8000),
    }
    assert audio.attribute("ptime") == "20"
    assert audio.attribute("nothing") is None
    assert session.attribute("x-unknown") == "kept as it is"
    assert session.connection(audio) == "IN IP4 198.51.100.1"
    assert session.connection(video) == "IN IP6 2001:db8::2"
    assert session.sections[0].is_voice
    assert session.sections[0].voice_codec() == "PCMU"


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_line_ends(end: str, last: str) -> None:
    text = EXAMPLE.replace("\n", end)
    assert parse(text if last else text.removesuffix(end)).encode() == parse(EXAMPLE).encode()


def test_octets_that_are_no_utf8_survive() -> None:
    name = b"s=\xff\xfeJos\xe9"
    body = START.encode().replace(b"s=-", name)
    assert name + b"\r\n" in Session.parse(body).encode()


@pytest.mark.parametrize(
    ("session_level", "media_level", "direction"),
    [
        ("", "", "sendrecv"),
        ("a=sendonly\r\n", "", "sendonly"),
        ("a=sendonly\r\n", "a=inactive\r\n", "inactive"),
        ("", "a=recvonly \r\n", "recvonly"),
        ("", "a=sendonlyish\r\n", "sendrecv"),
    ],
)
def test_direction(session_level: str, media_level: str, direction: str) -> None:
    session = parse(START + session_level + "m=audio 4000 RTP/AVP 0\r\n" + media_level)
    assert session.direction(session.sections[0]) == direction


@pytest.mark.parametrize(
    ("line", "codecs"),
    [
        ("a=rtpmap:0 PCMA/8000", {0: ("PCMA", 8000)}),  # a mapping wins over the static one
        ("a=rtpmap:0 PCMU/0", {0: ("PCMU", 8000)}),
        ("a=rtpmap:0 PCMU/99999999999999999999", {0: ("PCMU", 8000)}),
        ("a=rtpmap:999 X/8000", {0: ("PCMU", 8000)}),
        ("a=rtpmap:\u0660 X/8000", {0: ("PCMU", 8000)}),
        ("a=rtpmap:", {0: ("PCMU", 8000)}),
        ("a=rtpmap:0", {0: ("PCMU", 8000)}),
    ],
)
def test_absurd_rtpmaps_are_not_believed(line: str, codecs: dict[int, tuple[str, int]]) -> None:
    session = parse(START + "m=audio 4000 RTP/AVP 0\r\n" + line + "\r\n")
    assert session.sections[0].codecs() == codecs
    assert line.encode() in session.encode()


def test_formats_that_are_no_payload_types() -> None:
    session = parse(START + "m=audio 4000 RTP/AVP 0 128 -1 webrtc-datachannel 1234 8\r\n")
    assert session.sections[0].payload_types() == (0, 8)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n\r\n",
        b"hello",
        b"v=0",
        b"v=1\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
        b"o=- 1 1 IN IP4 192.0.2.1\r\nv=0\r\n",
        START.encode() + b"m\r\n",
        START.encode() + b"=x\r\n",
        START.encode() + b" a=x\r\n",
        START.encode() + b"a=one\ra=two\r\n",
        START.encode().replace(b"\r\n", b"\r"),
        START.encode() + b"a=nul\x00\r\n",
        START.encode() + b"m=audio\r\n",
        START.encode() + b"m=audio 4000 RTP/AVP\r\n",
        START.encode() + b"m=audio -1 RTP/AVP 0\r\n",
        START.encode() + b"m=audio 65536 RTP/AVP 0\r\n",
        START.encode() + b"m=audio 99999999999999999999 RTP/AVP 0\r\n",
        START.encode() + "m=audio ٤٠٠٠ RTP/AVP 0\r\n".encode(),
        START.encode() + b"m=audio x RTP/AVP 0\r\n",
        START.encode() + b"m=audio 4000 RTP/AVP 0\r\n" * (MAX_SECTIONS + 1),
        START.encode() + b"a=x\r\n" * MAX_LINES,
        START.encode() + b"m=audio 4000 RTP/AVP" + b" 0" * (MAX_FORMATS + 1) + b"\r\n",
        START.encode() + b"a=" + b"x" * MAX_OCTETS + b"\r\n",
    ],
)
def test_what_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedSdp) as error:
        Session.parse(body)
    assert error.value.status_hint == 400
