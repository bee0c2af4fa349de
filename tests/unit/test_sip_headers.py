"""Names, lists and typed values (RFC 3261 sections 7.3, 20 and 25)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.errors import MalformedMessage
from relay.sip.headers import CSeq, NameAddr, Via, split_list
from relay.sip.names import COMPACT, canonical
from relay.sip.uri import OtherUri, SipUri


def test_every_compact_form_names_its_header() -> None:
    for short, name in COMPACT.items():
        assert canonical(short) == canonical(short.upper()) == name
    assert canonical("CALL-id") == "Call-ID"
    assert canonical("X-Own-Thing") == "X-Own-Thing"


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        ('"Smith, J" <sip:a@b>, <sip:c,d@e>', ['"Smith, J" <sip:a@b>', "<sip:c,d@e>"]),
        ('"quote \\", still" <sip:a@b>,<sip:c@d>', ['"quote \\", still" <sip:a@b>', "<sip:c@d>"]),
        (",a,,", ["a"]),
        (",", []),
    ],
)
def test_lists_split_outside_quotes_and_brackets(value: str, items: list[str]) -> None:
    assert split_list(value) == items


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag", "written"),
    [
        ("<sip:a@b>;tag=1", "", "sip:a@b", "1", "<sip:a@b>;tag=1"),
        ("sip:a@b;tag=1", "", "sip:a@b", "1", "<sip:a@b>;tag=1"),
        ("sip:a@b", "", "sip:a@b", None, "<sip:a@b>"),
        ('"A B" <sip:a@b;lr>', "A B", "sip:a@b;lr", None, '"A B" <sip:a@b;lr>'),
        ("A  B<sip:a@b>", "A  B", "sip:a@b", None, '"A  B" <sip:a@b>'),
        ("Bell, A <sip:a@b> ; tag = 43", "Bell, A", "sip:a@b", "43", '"Bell, A" <sip:a@b>;tag=43'),
        ('"a\\"b\\\\" <sip:a@b>', 'a"b\\', "sip:a@b", None, '"a\\"b\\\\" <sip:a@b>'),
        ("< sip:a@b >;TAG=x", "", "sip:a@b", "x", "<sip:a@b>;TAG=x"),
        ("tel:+3531;tag=2", "", "tel:+3531", "2", "<tel:+3531>;tag=2"),
        ('sip:a@b;x="<;>";tag=3', "", "sip:a@b", "3", '<sip:a@b>;x="<;>";tag=3'),
        ("<sip:a@b>;tag=", "", "sip:a@b", None, "<sip:a@b>;tag="),
        ("<sip:a@b>;;", "", "sip:a@b", None, "<sip:a@b>"),
    ],
)
def test_name_addr(text: str, display: str, uri: str, tag: str | None, written: str) -> None:
    value = NameAddr.parse(text)
    assert (value.display, str(value.uri), value.tag, str(value)) == (display, uri, tag, written)
    assert NameAddr.parse(written) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<sip:a@b",
        '"A <sip:a@b>',
        '"A" sip:a@b',
        'A" <sip:a@b>',
        "<sip:a@b> tag=1",
        "<sip:a@b>;=1",
        '<sip:a@b>;x="1',
        "sip:a@b?Route=x",
        "sip:a@b,c",
        "a@b",
        "<>",
    ],
)
def test_broken_name_addr_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        NameAddr.parse(text)


def test_control_characters_of_a_display_name_are_escaped_again() -> None:
    text = '"NUL:\\\x00 DEL:\\\x7f" <sip:a@b>'
    assert str(NameAddr.parse(text)) == text


def test_a_tag_is_set_replaced_and_removed_on_a_copy() -> None:
    value = NameAddr.parse("<sip:a@b>;x=1;tag=old")
    assert str(value.with_tag("new")) == "<sip:a@b>;x=1;tag=new"
    assert str(value.with_tag(None)) == "<sip:a@b>;x=1"
    assert value.tag == "old"
    assert value.param("x") == "1"
    assert isinstance(value.uri, SipUri)
    assert isinstance(NameAddr.parse("<urn:x>").uri, OtherUri)


def test_via_with_all_its_white_space() -> None:
    via = Via.parse("SIP  /   2.0 /UDP    [2001:DB8::1] : 5070 ;  branch  =   z9hG4bK9 ; rport")
    assert (via.transport, via.host, via.port) == ("UDP", "2001:DB8::1", 5070)
    assert (via.branch, via.rport, via.received) == ("z9hG4bK9", 0, None)
    assert str(via) == "SIP/2.0/UDP [2001:DB8::1]:5070;branch=z9hG4bK9;rport"


def test_via_notes_where_a_request_came_from() -> None:
    via = Via.parse("SIP/2.0/udp host;RPORT;branch=z9hG4bKx")
    marked = via.with_params(rport="5099", received="192.0.2.9")
    assert (marked.rport, marked.received) == (5099, "192.0.2.9")
    assert str(marked) == "SIP/2.0/UDP host;RPORT=5099;branch=z9hG4bKx;received=192.0.2.9"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0 host",
        "SIP/2.0/UDP host:70000",
        "SIP/2.0/UDP host;=x",
        "SIP/2.0/UDP ho st",
        "SIP/2.0/UDP host branch=1",
    ],
)
def test_broken_via_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        Via.parse(text)


def test_cseq_bounds() -> None:
    assert CSeq.parse("0009  INVITE") == CSeq(9, "INVITE")
    assert str(CSeq.parse("2147483647 ACK")) == "2147483647 ACK"
    for text in ("2147483648 ACK", "-1 ACK", "1", "ACK", "", "1_0 ACK", "٣ ACK", "9" * 9999 + " A"):
        with pytest.raises(MalformedMessage):
            CSeq.parse(text)


@pytest.mark.parametrize("read", [Via.parse, NameAddr.parse])
def test_a_value_has_so_many_parameters(read: Callable[[str], Via | NameAddr]) -> None:
    """Whoever sent a message of nothing but semicolons had it read for three milliseconds."""
    head = "SIP/2.0/WSS x.invalid" if read == Via.parse else "<sip:a@b>"
    assert len(read(f"{head}{';a=b' * 64}").params) == 64
    for many in (";a=b" * 65, ";" * 65):
        with pytest.raises(MalformedMessage, match="more than 64"):
            read(head + many)
