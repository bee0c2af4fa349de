"""IPv4 and IPv6 on one leg: how an address is spelled, and which family the voice has."""

from __future__ import annotations

import pytest

from relay.call.calls import _is_at
from relay.call.ports import MediaAddress, Side
from relay.call.setup import _speaks_ipv6
from relay.errors import NotAcceptable
from relay.media.engine import Engine
from relay.sip.transaction import Hop


@pytest.mark.parametrize(
    ("host", "source", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:DB8:0:0::1", "2001:db8::1", True),
        ("2001:db8::2", "2001:db8::1", False),
        ("a::b::c", "2001:db8::1", False),
        ("pbx.example", "192.0.2.1", False),
    ],
)
def test_a_contact_is_at_an_address_however_it_is_spelled(
    host: str, source: str, same: bool
) -> None:
    assert _is_at(host, source) is same


@pytest.mark.parametrize(
    ("offer", "source", "ipv6"),
    [
        (b"v=0\r\nc=IN IP4 192.0.2.1\r\n", "2001:db8::1", False),
        (b"v=0\r\nc=IN IP6 2001:db8::1\r\n", "192.0.2.1", True),
        (b"v=0\r\nc=IN IP6 2001:db8::1\r\nm=x\r\nc=IN IP4 192.0.2.1\r\n", "2001:db8::1", False),
        (b"", "2001:db8::1", True),
        (b"", "192.0.2.1", False),
    ],
)
def test_the_voice_of_a_dual_stack_phone_is_what_its_offer_says(
    offer: bytes, source: str, ipv6: bool
) -> None:
    assert _speaks_ipv6(offer, Hop("udp", source, 5060)) is ipv6


def test_each_family_is_told_the_address_that_is_advertised_to_it() -> None:
    engine = Engine(
        "127.0.0.1",
        "203.0.113.10",
        (20000, 20015),
        1,
        60.0,
        address_ipv6="::1",
        advertise_ipv6="2001:db8::10",
    )
    engine.start()
    try:
        call = engine.open("call", True, False)
        assert call.local(Side.CALLER).host == "2001:db8::10"
        assert call.local(Side.CALLEE).host == "203.0.113.10"
        call.close()
    finally:
        engine.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_media_addresses_that_cannot_be_sent_to(address: str) -> None:
    """A call's own ports among them: two legs with each other's would send in a circle."""
    engine = Engine(address, "203.0.113.10", (20100, 20115), 1, 60.0)
    engine.start()
    try:
        call, other = engine.open("call", False, False), engine.open("other", False, False)
        for side in Side:
            for ours in (call.local(side), other.local(side)):
                for host in ("127.0.0.1", "203.0.113.10"):
                    for taken in (
                        MediaAddress(host, ours.port, 9),
                        MediaAddress(host, ours.rtcp_port, 9),
                        MediaAddress(host, 9, ours.port),
                    ):
                        with pytest.raises(NotAcceptable, match="own ports"):
                            call.check(side, taken)
        call.check(Side.CALLER, MediaAddress("192.0.2.1", other.local(Side.CALLER).port, 9))
        call.check(Side.CALLER, MediaAddress("127.0.0.1", 20200, 20201))
        with pytest.raises(NotAcceptable, match="IP version"):
            call.check(Side.CALLER, MediaAddress("2001:db8::1", 4000, 4001))
        free = other.local(Side.CALLER)
        other.close()
        call.check(Side.CALLER, MediaAddress("127.0.0.1", free.port, free.rtcp_port))
    finally:
        engine.close()
