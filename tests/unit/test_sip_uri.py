"""RFC 3261 section 19.1: URIs."""

from __future__ import annotations

import pytest

from relay.errors import MalformedMessage
from relay.sip.uri import OtherUri, SipUri, parse_uri


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@atlanta.example.com",
        "sip:alice:secretword@atlanta.example.com;transport=tcp",
        "sips:alice@atlanta.example.com?subject=project%20x&priority=urgent",
        "sip:+1-212-555-1212:1234@gateway.example.com;user=phone",
        "sips:1212@gateway.example.com",
        "sip:alice@192.0.2.4:5070",
        "sip:atlanta.example.com;method=REGISTER?to=alice%40atlanta.example.com",
        "sip:alice;day=tuesday@atlanta.example.com",
        "sip:[2001:db8::9:1]:5080;lr",
        "sip:bob@[2001:db8::10]",
    ],
)
def test_examples_of_section_19_1_3_are_written_as_read(text: str) -> None:
    assert str(SipUri.parse(text)) == text


def test_the_parts() -> None:
    uri = SipUri.parse("SIPS:+353155501234:pw@[2001:DB8::1]:5061;Transport=TCP;lr?Subject=x")
    assert (uri.scheme, uri.user, uri.password) == ("sips", "+353155501234", "pw")
    assert (uri.host, uri.port, uri.headers) == ("2001:DB8::1", 5061, "Subject=x")
    assert uri.transport == "tcp"
    assert uri.param("lr") == ""
    assert uri.param("maddr") is None
    assert uri.host_port == "[2001:DB8::1]:5061"


def test_the_user_may_hold_what_ends_a_host() -> None:
    uri = SipUri.parse("sip:user;par=u%40example.net?/&=+$,@example.com;lr")
    assert uri.user == "user;par=u%40example.net?/&=+$,"
    assert uri.params == (("lr", None),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@example.com",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@exa mple.com",
        "sip:a@example.com; lr",
        "sip:a@example.com:99999",
        "sip:a@example.com:port",
        "sip:a@[2001:db8::1",
        "sip:a@example.com;;lr",
        "sip:a@example.com;=x",
        'sip:"a"@example.com',
        "sip:a@example.com\x00",
        "sipsomething",
        "example.com",
        "tel:",
    ],
)
def test_broken_uris_are_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_uri(text)


def test_other_schemes_are_kept() -> None:
    uri = parse_uri("TEL:+353-1-555-01234;phone-context=x")
    assert uri == OtherUri("tel", "+353-1-555-01234;phone-context=x")
    assert str(uri) == "tel:+353-1-555-01234;phone-context=x"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ],
)
def test_equal_uris_of_section_19_1_4(one: str, other: str) -> None:
    assert SipUri.parse(one).matches(SipUri.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:a@b", "sips:a@b"),
    ],
)
def test_different_uris_of_section_19_1_4(one: str, other: str) -> None:
    assert not SipUri.parse(one).matches(SipUri.parse(other))


def test_a_sip_uri_never_equals_another_scheme() -> None:
    assert not SipUri.parse("sip:a@b").matches(OtherUri("tel", "1"))
    assert OtherUri("tel", "1").matches(OtherUri("tel", "1"))
    assert str(SipUri.parse("sip:a@b").replace(port=5070)) == "sip:a@b:5070"
