"""RFC 3263 with a dictionary for DNS: which hops a URI means, in which order."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from relay.sip.locate import MOST_HOPS, Naptr, Query, Record, Srv, by_weight, locate
from relay.sip.outputs import Hop
from relay.sip.uri import SipUri

ALL = ("udp", "tcp", "tls")
BOTH = ("A", "AAAA")


class Zone(dict[tuple[str, str], tuple[Record, ...]]):
    """Answers, and what was asked."""

    def find(
        self, uri: str, carried: tuple[str, ...] = ALL, families: tuple[str, ...] = BOTH
    ) -> list[Hop]:
        self.asked: list[Query] = []
        steps = locate(SipUri.parse(uri), carried, families, lambda: 0.0)
        try:
            queries = next(steps)
            while True:
                self.asked += queries
                queries = steps.send([self.get(query, ()) for query in queries])
        except StopIteration as end:
            return list(end.value)


def a(number: int) -> str:
    return f"192.0.2.{number}"


ZONE = Zone(
    {
        ("example.com", "NAPTR"): (
            Naptr(20, 1, "s", "SIP+D2U", "_sip._udp.example.com."),
            Naptr(10, 2, "S", "sip+d2t", "_sip._tcp.example.com."),
            Naptr(10, 1, "s", "SIPS+D2T", "_sips._tcp.example.com."),
            Naptr(1, 1, "u", "E2U+sip", "!^.*$!sip:x@y!"),
        ),
        ("_sip._udp.example.com.", "SRV"): (Srv(1, 1, 5062, "u.example.com."),),
        ("_sip._tcp.example.com.", "SRV"): (Srv(1, 1, 5063, "t.example.com."),),
        ("_sips._tcp.example.com.", "SRV"): (Srv(1, 1, 5064, "s.example.com."),),
        ("_sip._udp.example.com", "SRV"): (Srv(1, 1, 5062, "u.example.com."),),
        ("_sips._tcp.example.com", "SRV"): (Srv(1, 1, 5064, "s.example.com."),),
        ("u.example.com.", "A"): (a(1),),
        ("t.example.com.", "A"): (a(2),),
        ("s.example.com.", "A"): (a(3),),
        ("s.example.com.", "AAAA"): ("2001:db8::3",),
        ("example.com", "A"): (a(9),),
        ("plain.example", "A"): (a(4), a(5)),
        ("plain.example", "AAAA"): ("2001:db8::4",),
    }
)


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:192.0.2.7", Hop("udp", "192.0.2.7", 5060)),
        ("sip:192.0.2.7:5070;transport=tcp", Hop("tcp", "192.0.2.7", 5070)),
        ("sip:[2001:db8::1]", Hop("udp", "2001:db8::1", 5060)),
        ("sips:192.0.2.7", Hop("tls", "192.0.2.7", 5061, name="192.0.2.7")),
        ("sip:192.0.2.7;transport=tls", Hop("tls", "192.0.2.7", 5061, name="192.0.2.7")),
    ],
)
def test_an_address_needs_no_dns(uri: str, hop: Hop) -> None:
    assert ZONE.find(uri) == [hop]
    assert ZONE.asked == []


def test_naptr_then_srv_then_addresses_in_the_order_that_the_domain_wants() -> None:
    """Section 4.1; a SIPS service may serve a sip: URI, and proves the URI's own domain."""

    assert ZONE.find("sip:example.com") == [
        Hop("tls", a(3), 5064, name="example.com"),
        Hop("tls", "2001:db8::3", 5064, name="example.com"),
        Hop("tcp", a(2), 5063),
        Hop("udp", a(1), 5062),
    ]


def test_what_is_not_carried_is_passed_over() -> None:
    assert ZONE.find("sip:example.com", ("udp", "tcp"), ("A",)) == [
        Hop("tcp", a(2), 5063),
        Hop("udp", a(1), 5062),
    ]
    assert ZONE.find("sip:example.com", ("udp",)) == [Hop("udp", a(1), 5062)]
    assert ZONE.find("sips:example.com", ("udp", "tcp")) == []
    assert ZONE.find("sip:192.0.2.7;transport=ws") == []


def test_sips_is_tls_whatever_else_the_domain_offers() -> None:
    hops = ZONE.find("sips:example.com")
    assert {hop.transport for hop in hops} == {"tls"}
    assert {hop.name for hop in hops} == {"example.com"}


def test_an_explicit_transport_asks_its_srv_and_no_naptr() -> None:
    assert ZONE.find("sip:example.com;transport=udp") == [Hop("udp", a(1), 5062)]
    assert all(query.kind != "NAPTR" for query in ZONE.asked)
    assert ZONE.find("sip:example.com;transport=tls")[0].port == 5064


def test_an_explicit_port_asks_addresses_alone() -> None:
    """Section 4.2: UDP unless the URI says otherwise."""
    assert ZONE.find("sip:plain.example:5099") == [
        Hop("udp", a(4), 5099),
        Hop("udp", a(5), 5099),
        Hop("udp", "2001:db8::4", 5099),
    ]
    assert {query.kind for query in ZONE.asked} == {"A", "AAAA"}


def test_without_srv_the_addresses_at_the_default_port() -> None:
    assert ZONE.find("sip:plain.example", families=("A",)) == [
        Hop("udp", a(4), 5060),
        Hop("udp", a(5), 5060),
    ]
    assert ZONE.find("sips:plain.example", families=("A",))[0] == Hop(
        "tls", a(4), 5061, name="plain.example"
    )
    assert ZONE.find("sip:nobody.example") == []


def test_without_naptr_srv_of_every_transport_in_our_order() -> None:
    zone = Zone(ZONE)
    del zone["example.com", "NAPTR"]
    zone["_sip._tcp.example.com", "SRV"] = (Srv(1, 1, 5063, "t.example.com."),)
    hops = zone.find("sip:example.com")
    assert [hop.transport for hop in hops] == ["udp", "tcp"]  # TLS only when it is asked for


def test_srv_priorities_and_the_target_that_says_no() -> None:
    zone = Zone(
        {
            ("_sip._udp.x.example", "SRV"): (
                Srv(20, 1, 5060, "c.example."),
                Srv(10, 0, 5060, "b.example."),
                Srv(10, 5, 5060, "a.example."),
            ),
            ("a.example.", "A"): (a(1),),
            ("b.example.", "A"): (a(2),),
            ("c.example.", "A"): (a(3),),
            ("_sip._udp.no.example", "SRV"): (Srv(0, 0, 0, "."),),
        }
    )
    assert [hop.host for hop in zone.find("sip:x.example;transport=udp")] == [a(1), a(2), a(3)]
    assert zone.find("sip:no.example;transport=udp") == []


def test_a_flood_of_records_is_bounded() -> None:
    zone = Zone(
        {("_sip._udp.x.example", "SRV"): tuple(Srv(1, 1, 5060, f"{i}.") for i in range(99))}
    )
    zone.update({(f"{i}.", "A"): tuple(a(n) for n in range(99)) for i in range(99)})
    assert len(zone.find("sip:x.example;transport=udp")) == MOST_HOPS
    assert len(zone.asked) < 20


def test_weights_divide_the_first_places() -> None:
    random = Random(3)
    firsts = Counter(
        by_weight([(30, "a"), (10, "b"), (0, "c")], random.random)[0] for _ in range(4000)
    )
    assert 2850 < firsts["a"] < 3150 and firsts["c"] == 0
    evenly = Counter(by_weight([(0, "a"), (0, "b")], random.random)[0] for _ in range(1000))
    assert 400 < evenly["a"] < 600


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9999999999999999])
def test_every_choice_is_drawn_once(chance: float) -> None:
    assert sorted(by_weight([(1, "a"), (65535, "b"), (0, "c")], lambda: chance)) == ["a", "b", "c"]
