"""Header lists, typed getters, responses and encoding (RFC 3261 sections 7 and 8.2.6)."""

from __future__ import annotations

import tracemalloc

import pytest

from relay.errors import LocalProtocolError, MalformedMessage
from relay.sip.fields import Headers
from relay.sip.headers import Via
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from tests.unit.sip_samples import SDP, request

VIA = "SIP/2.0/UDP pc33.atlanta.example.com;branch=z9hG4bK776asdhds"


def test_names_match_in_any_case_and_compact_form() -> None:
    headers = Headers([("i", "1@a"), ("VIA", "x"), ("X-Own", "y")])
    assert headers.items() == [("Call-ID", "1@a"), ("Via", "x"), ("X-Own", "y")]
    assert headers.get("call-id") == headers.get("I") == "1@a"
    assert headers.get("x-OWN") == "y"
    assert "x-own" in headers
    assert "v" in headers
    assert headers.get("To") is None
    assert headers.get("X-None") is None


def test_lists_are_split_but_challenges_are_not() -> None:
    headers = Headers([("Route", "<sip:a;lr>, <sip:b;lr>"), ("Route", "<sip:c>")])
    headers.add("Authorization", 'Digest username="x", realm="y"')
    headers.add("Date", "Sat, 15 Oct 2005 04:44:56 GMT")
    assert headers.all("route") == ["<sip:a;lr>", "<sip:b;lr>", "<sip:c>"]
    assert headers.all("Authorization") == ['Digest username="x", realm="y"']
    assert headers.all("Date") == ["Sat, 15 Oct 2005 04:44:56 GMT"]
    assert headers.fields("Route") == ["<sip:a;lr>, <sip:b;lr>", "<sip:c>"]


def test_set_replaces_the_first_and_drops_the_rest() -> None:
    headers = Headers([("Via", "1"), ("To", "2"), ("Via", "3"), ("x-a", "4"), ("X-A", "5")])
    copy = headers.copy()
    headers.set("v", "9")
    headers.set("X-a", "8")
    headers.set("Subject", "new")
    assert headers.items() == [("Via", "9"), ("To", "2"), ("X-a", "8"), ("Subject", "new")]
    headers.remove("via")
    headers.remove("via")
    headers.prepend("Via", "0")
    assert headers.items()[0] == ("Via", "0")
    assert len(copy) == 5


def test_typed_values_follow_a_changed_header() -> None:
    message = request(via=VIA)
    assert message.from_.tag == "9fxced76sl"
    assert message.via.branch == "z9hG4bK776asdhds"
    message.headers.set("From", "<sip:x@y>;tag=other")
    assert message.from_.tag == "other"
    assert message.from_ is message.from_


def test_only_the_topmost_via_is_replaced() -> None:
    message = request(via=f"{VIA}, SIP/2.0/TCP below")
    message.headers.add("Via", "SIP/2.0/UDP last")
    message.replace_via(Via("UDP", "new", None))
    assert message.headers.all("Via") == [
        "SIP/2.0/UDP new",
        "SIP/2.0/TCP below",
        "SIP/2.0/UDP last",
    ]
    assert message.via.host == "new"


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_missing_header_is_malformed_when_read(name: str) -> None:
    message = request(via=VIA)
    message.headers.remove(name)
    with pytest.raises(MalformedMessage):
        _ = (message.via, message.from_, message.to, message.call_id, message.cseq)


def test_contact_routes_content_type_and_max_forwards() -> None:
    message = request(via=VIA, extra=(("c", "Application/SDP;charset=x"), ("Route", "<sip:p;lr>")))
    assert str(message.contact) == "<sip:alice@client.atlanta.example.com>"
    assert [str(route) for route in message.routes] == ["<sip:p;lr>"]
    assert message.record_routes == []
    assert message.content_type == "application/sdp"
    assert message.max_forwards == 70
    message.headers.set("Contact", "*")
    assert message.contact is None
    message.headers.remove("Max-Forwards")
    assert message.max_forwards is None
    assert Headers().get("Contact") is None


def test_a_response_copies_what_section_8_2_6_says() -> None:
    extra = (("Record-Route", "<sip:p1;lr>"), ("Timestamp", "54"), ("Subject", "no"))
    message = request(via=f"{VIA}, SIP/2.0/UDP second", extra=extra)
    ok = message.response(200, to_tag="314159")
    assert ok.reason == "OK"
    assert ok.to.tag == "314159"
    assert ok.headers.items() == [
        ("Via", f"{VIA}, SIP/2.0/UDP second"),
        ("From", message.headers.get("From")),
        ("To", "<sip:bob@biloxi.example.com>;tag=314159"),
        ("Call-ID", message.call_id),
        ("CSeq", "1 INVITE"),
        ("Record-Route", "<sip:p1;lr>"),
    ]
    trying = message.response(100)
    assert trying.headers.get("Timestamp") == "54"
    assert trying.to.tag is None
    assert "Record-Route" not in trying.headers
    assert "Record-Route" in message.response(180, to_tag="x").headers
    assert "Record-Route" not in message.response(486, to_tag="x").headers


def test_a_response_keeps_the_to_tag_of_the_request() -> None:
    message = request("BYE", to="<sip:b@c>;tag=theirs", via=VIA)
    assert message.response(200, to_tag="ours").headers.get("To") == "<sip:b@c>;tag=theirs"
    assert request(to='"broken <sip:a@b>', via=VIA).response(400, to_tag="x").status == 400


def test_encode_writes_the_length_of_the_body() -> None:
    message = request(via=VIA, extra=(("Content-Length", "999"),), body=SDP)
    data = message.encode()
    assert data.endswith(b"\r\nContent-Length: %d\r\n\r\n%s" % (len(SDP), SDP))
    assert data.count(b"Content-Length") == 1
    assert parse(data) == message
    assert Response(299, None, Headers()).encode() == b"SIP/2.0 299 \r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nX: y", "a\rX: y"])
def test_a_line_break_never_leaves_its_line(bad: str) -> None:
    for message in (
        Request("INVITE", bad, Headers()),
        Request("INVITE", "sip:a", Headers([("Subject", bad)])),
        Response(500, bad, Headers()),
    ):
        with pytest.raises(LocalProtocolError):
            message.encode()


def test_octets_that_are_no_utf8_survive() -> None:
    data = b"OPTIONS sip:a@b SIP/2.0\r\nSubject: \xff\xfe\xc3\xa9\r\nContent-Length: 0\r\n\r\n"
    assert parse(data).encode() == data


def test_repr_tells_nothing_personal() -> None:
    assert repr(request(via=VIA)) == "<Request 1 INVITE>"


def test_what_is_remembered_of_messages_is_small() -> None:
    """Strangers wrote a new To of 60,000 characters each time: it was kept for 4096 of them."""
    tracemalloc.start()
    try:
        for number in range(100):
            message = parse(request(to=f"<sip:{'x' * 30000}{number}@192.0.2.1>", via=VIA).encode())
            assert message.to.uri is not None
        del message
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
