"""Offers and answers across the relay (RFC 3264): what is ours, and what is left alone."""

from __future__ import annotations

import pytest

from relay.errors import MalformedSdp, NotAcceptable
from relay.sdp.crypto import OFF
from relay.sdp.description import LegMedia, MediaAddress
from relay.sdp.negotiation import (
    Origin,
    Stream,
    check_answer,
    check_offer,
    leg_media,
    relay_answer,
    relay_offer,
)
from relay.sdp.sdes import Sdes
from relay.sdp.session import Session, _codecs, _payload_types
from relay.sdp.way import _host

LOCAL = MediaAddress("198.51.100.7", 20000, 20001)
LOCAL6 = MediaAddress("2001:db8::7", 20002, 20003)
ORIGIN = Origin(77, 3)
PHONE = "192.0.2.1"


def sdp(*media: str, host: str = PHONE, session: str = "") -> Session:
    kind = "IP6" if ":" in host else "IP4"
    lines = ["v=0", f"o=alice 1 1 IN {kind} {host}", "s=-", f"c=IN {kind} {host}", "t=0 0"]
    if session:
        lines.append(session)
    return Session.parse("\r\n".join([*lines, *media, ""]).encode())


def offered(session: Session, local: MediaAddress = LOCAL) -> list[str]:
    stream = check_offer(session, Sdes(OFF).choose)
    return relay_offer(stream, local, ORIGIN).body.decode().split("\r\n")


def answered(offer: Session, answer: Session, local: MediaAddress = LOCAL) -> list[str]:
    stream = check_offer(offer, Sdes(OFF).choose)
    taken = check_answer(stream.position, answer)
    Sdes(OFF).take_answer(taken)
    return relay_answer(stream, taken, local, ORIGIN).body.decode().split("\r\n")


AUDIO = (
    "m=audio 4000 RTP/AVP 0 96 101",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 useinbandfec=1",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-16",
    "a=ptime:30",
    "a=x-new:1",
)


def test_an_offer_gets_our_addresses_and_keeps_the_rest() -> None:
    assert offered(sdp(*AUDIO)) == [
        "v=0",
        "o=- 77 3 IN IP4 198.51.100.7",
        "s=-",
        "c=IN IP4 198.51.100.7",
        "t=0 0",
        AUDIO[0].replace("4000", "20000"),
        *AUDIO[1:],
        "a=rtcp:20001",
        "",
    ]


@pytest.mark.parametrize(("host", "local"), [(PHONE, LOCAL6), ("2001:db8::1", LOCAL)])
def test_address_families_are_bridged(host: str, local: MediaAddress) -> None:
    lines = offered(sdp(*AUDIO, host=host), local)
    kind = "IP6" if ":" in local.host else "IP4"
    assert f"c=IN {kind} {local.host}" in lines
    assert f"o=- 77 3 IN {kind} {local.host}" in lines
    assert host not in "\n".join(lines)


def test_the_order_of_session_lines_is_that_of_the_rfc() -> None:
    """c= comes before b= and t= wherever the phone's own was (RFC 8866 section 9)."""
    body = (
        "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\ni=info\r\nb=AS:64\r\nt=0 0\r\na=x\r\n"
        "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n"
    )
    lines = offered(Session.parse(body.encode()))
    assert "".join(line[:1] for line in lines) == "vosicbtama"
    assert lines.index("c=IN IP4 198.51.100.7") == lines.index("b=AS:64") - 1
    assert sum(line.startswith("c=") for line in lines) == 1


def test_nothing_that_leads_past_the_relay_survives() -> None:
    lines = offered(
        sdp(
            "m=audio 4000 RTP/AVP 0",
            "c=IN IP4 192.0.2.9",
            "k=clear:secret",
            "a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host",
            "a=remote-candidates:1 192.0.2.3 4001",
            "a=ice-ufrag:8hhY",
            "a=ice-pwd:asd88fgpdd777uzjYhagZg",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNf",
            "a=fingerprint:sha-256 AA",
            "a=setup:actpass",
            "a=rtcp:4005 IN IP4 192.0.2.1",
            session="a=ice-lite",
        )
    )
    assert "192.0.2." not in "\n".join(lines)
    assert lines[5:] == ["m=audio 20000 RTP/AVP 0", "a=rtcp:20001", ""]


def test_mux_is_offered_on_only_when_it_was_offered() -> None:
    assert "a=rtcp-mux" not in offered(sdp(*AUDIO))
    lines = offered(sdp(*AUDIO, "a=rtcp-mux"))
    assert lines.count("a=rtcp-mux") == 1
    assert "a=rtcp:20001" in lines  # where RTCP goes when the answer has no mux


def test_mux_is_answered_to_the_one_who_offered_it() -> None:
    answer = sdp("m=audio 5000 RTP/AVP 0", host="192.0.2.2")
    assert "a=rtcp-mux" in answered(sdp(*AUDIO, "a=rtcp-mux"), answer)
    plain = answered(sdp(*AUDIO), sdp("m=audio 5000 RTP/AVP 0", "a=rtcp-mux"))
    assert "a=rtcp-mux" not in plain
    assert "a=rtcp:20001" in plain


SEVERAL = (
    "m=image 4100 udptl t38",
    "a=T38FaxVersion:0",
    "m=audio 4000 RTP/AVP 8",
    "m=video 4200 RTP/AVP 99",
    "a=rtpmap:99 VP8/90000",
    "m=audio 4300 RTP/AVP 0",
)


def test_other_streams_keep_their_place_with_port_0() -> None:
    lines = offered(sdp(*SEVERAL))
    assert [line for line in lines if line.startswith("m=")] == [
        "m=image 0 udptl t38",
        "m=audio 20000 RTP/AVP 8",
        "m=video 0 RTP/AVP 99",
        "m=audio 0 RTP/AVP 0",
    ]


@pytest.mark.parametrize(
    ("sections", "position"),
    [
        (["m=audio 4000 RTP/SAVP 0", "m=audio 4002 RTP/AVP 0"], 1),  # best-effort SRTP phones
        (["m=image 4000 udptl t38", "m=audio 0 RTP/AVP 0", "m=audio 4002 RTP/AVPF 0"], 2),
        (["m=audio 4000 RTP/AVP x", "m=audio 4002 RTP/AVP 0"], 1),
    ],
)
def test_the_first_usable_audio_is_carried(sections: list[str], position: int) -> None:
    assert check_offer(sdp(*sections), Sdes(OFF).choose).position == position


@pytest.mark.parametrize("extra", [(), ("m=video 0 RTP/AVP 99",), ("m=video 6000 RTP/AVP 99",)])
def test_an_answer_has_the_streams_of_its_offer(extra: tuple[str, ...]) -> None:
    """Also when the callee answered fewer, or wrongly accepted one that was refused."""
    answer = sdp("m=image 0 udptl t38", "m=audio 5000 RTP/AVP 8", *extra)
    assert [line for line in answered(sdp(*SEVERAL), answer) if line.startswith("m=")] == [
        "m=image 0 udptl t38",
        "m=audio 20000 RTP/AVP 8",
        "m=video 0 RTP/AVP 99",
        "m=audio 0 RTP/AVP 0",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        (),
        ("m=audio 0 RTP/AVP 0",),
        ("m=video 5000 RTP/AVP 99",),
        ("m=audio 5000 RTP/SAVP 0",),
        ("m=audio 5000 RTP/AVP x",),
    ],
)
def test_answers_that_do_not_fit(answer: tuple[str, ...]) -> None:
    with pytest.raises(NotAcceptable):
        answered(sdp(*AUDIO), sdp(*answer))


@pytest.mark.parametrize(
    ("media", "text"),
    [
        ((), "no audio"),
        (("m=video 4000 RTP/AVP 99",), "no audio"),
        (("m=audio 0 RTP/AVP 0",), "no audio"),
        (("m=audio 4000 RTP/SAVP 0",), "RTP/SAVP is not carried: srtp is off on this trunk"),
        (("m=audio 4000 UDP/TLS/RTP/SAVPF 0",), "UDP/TLS/RTP/SAVPF is not carried"),
        (("m=audio 4000 RTP/AVP 200",), "no payload types"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP4 pbx.example"), "names a host"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP4 1.2.3.999"), "names a host"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP4 224.2.1.1/127"), "multicast"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP6 ff15::101/3"), "multicast"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP6 ::ffff:224.2.1.1"), "multicast"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP6 fe80::1"), "its own link only"),
        (("m=audio 4000 RTP/AVP 0", "c=IN IP6 2001:db8::1%eth0"), "its own link only"),
    ],
)
def test_offers_that_cannot_be_carried(media: tuple[str, ...], text: str) -> None:
    with pytest.raises(NotAcceptable, match=text) as error:
        check_offer(sdp(*media), Sdes(OFF).choose)
    assert error.value.status_hint == 488


@pytest.mark.parametrize(
    "line", ["", "c=IN IP4\r\n", "c=ATM X 1\r\n", "c=\r\n", "c=IN IP5 1.1.1.1\r\n"]
)
def test_a_connection_line_that_is_missing_or_malformed(line: str) -> None:
    body = f"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{line}t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
    with pytest.raises(MalformedSdp):
        check_offer(Session.parse(body.encode()), Sdes(OFF).choose)


def test_best_effort_srtp_is_carried_in_the_clear_stream() -> None:
    lines = offered(
        sdp("m=audio 4000 RTP/SAVP 0", "a=crypto:1 X inline:y", "m=audio 4002 RTP/AVP 0")
    )
    assert "m=audio 0 RTP/SAVP 0" in lines
    assert "m=audio 20000 RTP/AVP 0" in lines


# --- what the engine is told


def leg(session: Session, other: Session | None = None, symmetric: bool = False) -> LegMedia:
    other = other or sdp("m=audio 5000 RTP/AVP 0", host="192.0.2.2")
    pairs = enumerate(zip(session.sections, other.sections, strict=False))
    index = next(i for i, pair in pairs if all(section.is_voice for section in pair))
    return leg_media(Stream(session, index), Stream(other, index), symmetric)


def test_leg_of_a_plain_phone() -> None:
    assert leg(sdp(*AUDIO), symmetric=True) == LegMedia(
        remote=MediaAddress(PHONE, 4000, 4001),
        payload_types=frozenset({0, 96, 101}),
        telephone_event=101,
        clock_hz=8000,
        symmetric=True,
    )


@pytest.mark.parametrize(
    ("lines", "rtcp_port"),
    [
        ((), 4001),
        (("a=rtcp-mux",), 4000),
        (("a=rtcp:4009",), 4009),
        (("a=rtcp:4009 IN IP4 192.0.2.1",), 4009),
        (("a=rtcp:0",), 4001),
        (("a=rtcp:70000",), 4001),
        (("a=rtcp:\u0664",), 4001),
        (("a=rtcp:x",), 4001),
    ],
)
def test_rtcp_port_of_the_peer(lines: tuple[str, ...], rtcp_port: int) -> None:
    remote = leg(sdp("m=audio 4000 RTP/AVP 0", *lines)).remote
    assert remote == MediaAddress(PHONE, 4000, rtcp_port)


def test_a_stream_that_was_refused_is_not_the_leg_of_a_peer_that_took_it_all_the_same() -> None:
    offer = sdp("m=video 4000 RTP/AVP 99", "m=audio 4002 RTP/AVP 0")
    answer = sdp("m=audio 5000 RTP/AVP 0", "c=IN IP4 192.0.2.66", "m=audio 5002 RTP/AVP 0")
    remote = leg(answer, offer).remote
    assert remote == MediaAddress(PHONE, 5002, 5003)


def test_the_last_port_has_no_next_one_for_rtcp() -> None:
    """Not the same one either: that would say that RTCP is multiplexed, which nobody agreed."""
    remote = leg(sdp("m=audio 65535 RTP/AVP 0")).remote
    assert remote is not None and remote.rtcp_port == 0


def test_telephone_event_is_the_number_that_the_partner_listed() -> None:
    """RFC 3264 section 5.1: payload types say what is received."""
    ours = sdp("m=audio 4000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000")
    theirs = sdp("m=audio 5000 RTP/AVP 0 96", "a=rtpmap:96 telephone-event/8000")
    assert leg(ours, theirs).telephone_event == 96
    assert leg(theirs, ours).telephone_event == 101
    taken = sdp("m=audio 5000 RTP/AVP 0 101", "a=rtpmap:101 opus/48000/2")
    assert leg(ours, taken).telephone_event is None


def test_clock_is_that_of_the_preferred_codec() -> None:
    partner = sdp("m=audio 5000 RTP/AVP 101 96", "a=rtpmap:101 telephone-event/8000",
                  "a=rtpmap:96 opus/48000/2")  # fmt: skip
    assert leg(sdp(*AUDIO), partner).clock_hz == 48000


@pytest.mark.parametrize(
    ("mine", "partners", "may_send", "may_receive"),
    [
        ("sendrecv", "sendrecv", True, True),
        ("sendonly", "recvonly", True, False),
        ("recvonly", "sendonly", False, True),
        ("inactive", "inactive", False, False),
        ("sendrecv", "inactive", False, True),
    ],
)
def test_directions(mine: str, partners: str, may_send: bool, may_receive: bool) -> None:
    media = leg(
        sdp("m=audio 4000 RTP/AVP 0", f"a={mine}"), sdp("m=audio 5000 RTP/AVP 0", f"a={partners}")
    )
    assert (media.may_send, media.may_receive) == (may_send, may_receive)


@pytest.mark.parametrize(
    ("session", "direction", "said"),
    [
        ("", (), "sendonly"),
        ("", ("a=sendrecv",), "sendonly"),
        ("", ("a=recvonly",), "inactive"),
        ("a=recvonly", (), "inactive"),
    ],
)
def test_hold_by_address_is_said_as_a_direction(
    session: str, direction: tuple[str, ...], said: str
) -> None:
    """RFC 3264 section 8.4: our address would hide the 0.0.0.0 of an old phone."""
    held = sdp("m=audio 4000 RTP/AVP 0", *direction, host="0.0.0.0", session=session)
    audio = offered(held)
    audio = audio[audio.index("m=audio 20000 RTP/AVP 0") :]
    assert [
        line for line in audio if line[2:] in ("sendrecv", "sendonly", "recvonly", "inactive")
    ] == [f"a={said}"]
    assert leg(held).remote is None
    assert not leg(held).may_receive


def test_nobody_sends_to_a_phone_that_holds_by_address() -> None:
    held = sdp("m=audio 4000 RTP/AVP 0", host="0.0.0.0")
    assert not leg(sdp("m=audio 5000 RTP/AVP 0"), held).may_send


def test_hold_by_direction_is_passed_on() -> None:
    assert "a=sendonly" in offered(sdp("m=audio 4000 RTP/AVP 0", "a=sendonly"))
    answer = sdp("m=audio 5000 RTP/AVP 0", "a=recvonly")
    assert "a=recvonly" in answered(sdp("m=audio 4000 RTP/AVP 0", "a=sendonly"), answer)


@pytest.mark.parametrize("formats", [" ".join(["0"] * 200), "0 " + "x" * 60000])
def test_codec_lists_that_nobody_has_are_not_remembered(formats: str) -> None:
    section = sdp(f"m=audio 4000 RTP/AVP {formats}", "a=rtpmap:0 PCMU/8000").sections[0]
    before = [known.cache_info().currsize for known in (_payload_types, _codecs)]
    assert section.codecs() == {0: ("PCMU", 8000)}
    assert set(section.payload_types()) == {0}
    assert [known.cache_info().currsize for known in (_payload_types, _codecs)] == before


def test_a_very_long_connection_line_is_not_remembered() -> None:
    """What a c= line means is kept for the next call: 4096 lines of 64 KiB would be too much."""
    before = _host.cache_info().currsize
    padded = f"c=IN IP4 {PHONE}{' ' * 60000}"
    with pytest.raises(MalformedSdp, match="c= line"):
        leg(sdp("m=audio 4000 RTP/AVP 0", padded))
    assert _host.cache_info().currsize == before
