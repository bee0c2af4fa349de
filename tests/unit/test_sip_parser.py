"""Datagrams, streams and validation (RFC 3261 sections 7, 8.2, 18.3; RFC 5626)."""

from __future__ import annotations

import pytest

from relay.errors import MalformedMessage
from relay.sip.message import Request, Response
from relay.sip.parser import KeepAlive, StreamParser, parse, unsupported, validate
from tests.unit.sip_samples import SDP, request

VIA = "SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bK776asdhds"


def _invite() -> bytes:
    return request(via=VIA, body=SDP).encode()


def test_a_datagram() -> None:
    message = parse(b"\r\n\r\n" + _invite() + b"beyond")
    assert isinstance(message, Request)
    assert message.body == SDP
    assert message.method == "INVITE"


def test_a_datagram_without_length_ends_where_it_ends() -> None:
    message = parse(b"SIP/2.0 200 OK\r\nf: <sip:a@b>\r\n\r\nbody")
    assert isinstance(message, Response)
    assert (message.status, message.reason, message.body) == (200, "OK", b"body")
    assert message.headers.items() == [("From", "<sip:a@b>")]


def test_folded_lines_are_joined_by_one_space() -> None:
    message = parse(b"OPTIONS sip:a SIP/2.0\r\nSubject: one \r\n\t two\r\n  three\r\n\r\n")
    assert message.headers.get("s") == "one two three"


def test_lines_of_white_space_alone_fold_too() -> None:
    message = parse(b"OPTIONS sip:a SIP/2.0\r\nSubject:\r\n \r\n\t\r\n one\r\n \r\n two\r\n\r\n")
    assert message.headers.items() == [("Subject", "one two")]


SPACES = b" " * 250000


@pytest.mark.timeout(20)  # a hang guard: unfolding by a quadratic pattern took 70 s
@pytest.mark.parametrize(
    "line",
    [
        b"Subject: a" + SPACES + b"b\r\n c",
        b"Subject: a\r\n" + SPACES + b"b",
        b"Subject: a" + b"\r\n " * 20000,
        b"Via: SIP/2.0/UDP h" + SPACES + b"x",
        b"Via: SIP/2.0/UDP" + SPACES,
        b"Via: " + b"SIP/2.0/UDP h;a=b," * 3000,
        b"To: <sip:" + b"a:" * 30000 + b">",
        b"To: <sip:a@b" + b";a" * 30000 + b"?>",
        b'To: "' + b'\\"' * 30000,
        b"Contact: " + b"<sip:a@b>," * 6000,
        b"Record-Route: " + b"<sip:a@b>," * 6000,
        b"a:\r\n" * 15000 + b"a:",
        b"Content-Length: " + b"0" * 60000,
    ],
)
def test_large_messages_cost_what_they_weigh(line: bytes) -> None:
    base = request(via=VIA).encode().partition(b"\r\n\r\n")[0]
    for data in (base + b"\r\n" + line, b"OPTIONS sip:a@b SIP/2.0\r\n" + line):
        try:
            message = parse(data + b"\r\n\r\n")
        except MalformedMessage:
            continue
        assert isinstance(message, Request)
        validate(message)


@pytest.mark.parametrize("name", ["Via", "Record-Route"])
def test_more_hops_than_a_message_can_make_are_refused(name: str) -> None:
    message = request(via=VIA)
    value = VIA if name == "Via" else "<sip:p;lr>"
    message.headers.set(name, ", ".join([value] * 129))
    assert validate(message) == 400


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"OPTIONS sip:a SIP/2.0\r\n" + b"X: y\r\n" * 513 + b"\r\n",
        b"\r\n\r\n",
        b"\x00" * 40,
        b"\r\n\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\n",
        b"INVITE sip:a SIP/2.0\r\nTo: x",
        b"INVITE SIP/2.0\r\n\r\n",
        b"INVITE sip:a SIP/two\r\n\r\n",
        b"IN(VITE sip:a SIP/2.0\r\n\r\n",
        b" \r\n\r\n",
        b"SIP/2.0 99 x\r\n\r\n",
        b"SIP/2.0 700 x\r\n\r\n",
        b"SIP/2.0 2_0 x\r\n\r\n",
        b"SIP/3.0 200 x\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nTo: a\nVia: smuggled\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nTo: a\rVia: smuggled\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\n1234",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\n12",
        b"OPTIONS sip:a SIP/2.0\r\nno colon\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nTo\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\n: empty\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nbad name: x\r\n\r\n",
    ],
)
def test_broken_datagrams_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse(data)
    assert caught.value.message is None
    assert caught.value.status_hint == 400


def test_a_broken_request_is_kept_when_it_can_be_answered() -> None:
    for data in (_invite()[:-5], _invite().replace(b"Max-Forwards:", b"Max-Forwards")):
        with pytest.raises(MalformedMessage) as caught:
            parse(data)
        assert isinstance(caught.value.message, Request)
        assert caught.value.message.response(400, to_tag="x").status == 400
    with pytest.raises(MalformedMessage) as caught:
        parse(_invite().replace(b"INVITE", b"ACK")[:-5])
    assert caught.value.message is None  # an ACK has no answer


def test_a_stream_in_pieces_of_every_size() -> None:
    stream = _invite() + b"\r\n\r\n" + request("OPTIONS", via=VIA).encode() + b"\r\n" + _invite()
    for size in (*range(1, 40), len(stream)):
        parser = StreamParser()
        found = []
        for start in range(0, len(stream), size):
            found += parser.feed(stream[start : start + size])
        kinds = [getattr(item, "method", type(item).__name__) for item in found]
        assert kinds == ["INVITE", "KeepAlive", "OPTIONS", "INVITE"]
        assert isinstance(found[0], Request)
        assert found[0].body == SDP
        assert not parser.broken


def test_keep_alive_alone() -> None:
    parser = StreamParser()
    assert parser.feed(b"\r\n") == []
    assert isinstance(parser.feed(b"\r\n")[0], KeepAlive)
    assert len(parser.feed(b"\r\n\r\n\r\n\r\n")) == 2


def test_a_bad_message_in_a_sound_frame_does_not_end_the_stream() -> None:
    bad = request("OPTIONS", via=VIA).encode().replace(b"Max-Forwards:", b"Max-Forwards")
    parser = StreamParser()
    error, good = parser.feed(bad + _invite())
    assert isinstance(error, MalformedMessage)
    assert isinstance(error.message, Request)
    assert isinstance(good, Request)
    assert not parser.broken


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" * 1200,
        b"x" * 9000,
        b"INVITE sip:a SIP/2.0\r\n" + b"X: y\r\n" * 20000,
        b"INVITE sip:a SIP/2.0\r\nl: 999999\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nl: x\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nTo: x\r\n\r\n",
        b"SIP/2.0 1000 x\r\n\r\n",
    ],
)
def test_a_lost_frame_breaks_the_stream_after_what_was_good(data: bytes) -> None:
    parser = StreamParser()
    first, error = parser.feed(_invite() + data)
    assert isinstance(first, Request)
    assert isinstance(error, MalformedMessage)
    assert parser.broken
    with pytest.raises(MalformedMessage):
        parser.feed(b"more")


def test_sound_requests_are_valid() -> None:
    assert validate(request(via=VIA)) is None
    assert validate(request("BYE", via=VIA, to="<sip:b@c>;tag=1")) is None


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("To", "nonsense", 400),
        ("From", "", 400),
        ("Via", "SIP/2.0/UDP", 400),
        ("CSeq", "1 BYE", 400),
        ("CSeq", "x INVITE", 400),
        ("Call-ID", "", 400),
        ("Contact", "<broken", 400),
        ("Contact", ",", 400),
        ("Record-Route", "<broken", 400),
        ("Max-Forwards", "256", 400),
        ("Max-Forwards", "many", 400),
        ("Max-Forwards", "0", 483),
        ("Require", "100rel, other", 420),
    ],
)
def test_bad_headers_are_refused(header: str, value: str, status: int) -> None:
    message = request(via=VIA)
    message.headers.set(header, value)
    assert validate(message) == status


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq", "Max-Forwards"])
def test_a_header_that_may_stand_once_stands_once(name: str) -> None:
    message = request(via=VIA)
    message.headers.add(name, message.headers.get(name) or "")
    assert validate(message) == 400


@pytest.mark.parametrize(
    ("uri", "status"),
    [("tel:+3531", 416), ("sip:a@b?Route=x", 400), ("<sip:a@b>", 400), ("nonsense", 400)],
)
def test_bad_request_uris_are_refused(uri: str, status: int) -> None:
    assert validate(request(via=VIA, uri=uri)) == status


def test_extensions_versions_and_hops() -> None:
    message = request(via=VIA, extra=(("Require", "timer, 100REL"),))
    assert unsupported(message, frozenset({"100rel"})) == ["timer"]
    assert validate(message, frozenset({"100rel", "timer"})) is None
    message.version = "3.0"
    assert validate(message) == 505
    inside = request("INVITE", via=VIA, to="<sip:b@c>;tag=1")
    inside.headers.set("Max-Forwards", "0")
    assert validate(inside) is None  # ours to answer, not to send on
