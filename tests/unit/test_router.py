"""Which trunk a source address is, and where its calls go."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from relay.call.router import KEPT_HOSTS, Router
from relay.config import Config, read
from relay.errors import Refused

HEAD = """
[region]
id = "t1"
jurisdiction = "EU"
networks = ["0.0.0.0/0", "::/0"]
[sip]
listen = ["udp:127.0.0.1:5060"]
[media]
address = "127.0.0.1"
[[trunk]]
name = "wide"
allow = ["10.0.0.0/8", "2001:db8::/32"]
origination = [{ uri = "sip:10.0.0.1" }]
recording = "record-from-ringing"
[[trunk]]
name = "narrow"
allow = ["10.1.0.0/16", "2001:db8:1::/48"]
origination = [
  { uri = "sip:10.1.0.1", priority = 20, weight = 1 },
  { uri = "sip:10.1.0.2;transport=tcp", priority = 10, weight = 30 },
  { uri = "sip:10.1.0.3", priority = 10, weight = 10 },
  { uri = "sip:10.1.0.4", priority = 1, enabled = false },
]
recording = "record-from-answer-dual"
[[trunk]]
name = "one"
allow = ["10.1.2.3/32"]
"""


def config(*routes: tuple[str, str, str]) -> Config:
    text = HEAD
    for source, number, to in routes:
        text += f'[[route]]\nfrom = "{source}"\nnumber = "{number}"\nto = "{to}"\n'
    return read(text, "test")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.9.9.9", "wide"),
        ("10.1.9.9", "narrow"),
        ("10.1.2.3", "one"),
        ("10.1.2.4", "narrow"),
        ("2001:db8:2::1", "wide"),
        ("2001:db8:1::1", "narrow"),
        ("::ffff:10.1.2.3", "one"),
        ("11.0.0.1", None),
        ("fe80::1", None),
        ("::10.1.2.3", None),
        ("pbx.example", None),
        ("", None),
    ],
)
def test_the_most_specific_network_wins(host: str, name: str | None) -> None:
    router = Router(config())
    for _ in range(2):  # the second answer is remembered
        trunk = router.identify(host)
        assert (trunk.name if trunk else None) == name


def test_what_is_remembered_of_sources_is_bounded() -> None:
    router = Router(config())
    for number in range(3 * KEPT_HOSTS):
        router.identify(f"172.16.{number >> 8}.{number & 255}")
    assert len(router._known) <= KEPT_HOSTS
    trunk = router.identify("10.1.2.3")
    assert trunk is not None and trunk.name == "one"


ROUTES = (
    ("wide", "*", "wide"),
    ("wide", "+*", "wide"),
    ("wide", "+353*", "narrow"),
    ("wide", "+35315550100", "wide"),
    ("wide", "service", "narrow"),
    ("narrow", "+353*", "wide"),
    ("one", "+35*", "wide"),
)


@pytest.mark.parametrize(
    ("source", "number", "pattern"),
    [
        ("10.9.9.9", "+35315550100", "+35315550100"),
        ("10.9.9.9", "+353155501001", "+353*"),
        ("10.9.9.9", "+3531555010", "+353*"),
        ("10.9.9.9", "+358401234567", "+*"),
        ("10.9.9.9", "+14155550100", "+*"),
        ("10.9.9.9", "service", "service"),
        ("10.9.9.9", "other", "*"),
        ("10.9.9.9", "100", "*"),
        ("10.1.9.9", "+3531555010", "+353*"),
        ("10.9.9.9", "+353-1-555.0100", "+35315550100"),
        ("10.9.9.9", "+35315550100;npdi", "+35315550100"),
    ],
)
def test_the_longest_match_wins(source: str, number: str, pattern: str) -> None:
    router = Router(config(*ROUTES))
    trunk = router.identify(source)
    assert trunk is not None
    route, _ = router.route(trunk, number)
    assert (route.from_, route.number) == (trunk.name, pattern)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("+14155550100", 404),
        ("service", 404),
        ("*", 400),
        ("+353*", 400),  # a pattern is not a number
        ("14155550100", 400),
        ("100", 400),
        ("+", 400),
        ("+0353", 400),
        ("+3531555abc", 400),
        ("+3531234567890123", 400),
        ("+353\u0661\u0662\u0663", 400),
    ],
)
def test_what_is_not_routed(number: str, status: int) -> None:
    router = Router(config(*ROUTES))
    trunk = router.identify("10.1.9.9")
    assert trunk is not None
    with pytest.raises(Refused) as refused:
        router.route(trunk, number)
    assert refused.value.status == status
    assert number not in refused.value.text or number in ("+", "*")


def test_a_trunk_without_routes_calls_nobody() -> None:
    router = Router(config())
    with pytest.raises(Refused) as refused:
        router.route(router.peer("wide"), "+35315550100")
    assert refused.value.status == 404


def test_the_target_is_the_origination_with_the_called_number() -> None:
    router = Router(config(*ROUTES))
    _, (target,) = router.route(router.peer("narrow"), "+353-1555.0177")
    assert str(target.uri) == "sip:+35315550177@10.0.0.1"
    assert target.origin == "sip:10.0.0.1"


def test_weights_divide_the_calls_of_the_lowest_priority() -> None:
    router = Router(config(*ROUTES), Random(7).random)
    trunk = router.peer("wide")
    hosts = Counter(router.route(trunk, "+35315550177")[1][0].uri.host for _ in range(4000))
    assert set(hosts) == {"10.1.0.2", "10.1.0.3"}
    assert 2800 < hosts["10.1.0.2"] < 3200


@pytest.mark.parametrize("chance", [0.0, 0.749999, 0.75, 0.9999999999999999])
def test_every_chance_draws_an_origination(chance: float) -> None:
    router = Router(config(*ROUTES), lambda: chance)
    _, (first, second, third) = router.route(router.peer("wide"), "+35315550177")
    assert first.uri.host in ("10.1.0.2", "10.1.0.3")
    assert {first.uri.host, second.uri.host} == {"10.1.0.2", "10.1.0.3"}
    assert third.uri.host == "10.1.0.1"  # of a higher priority value: after all others


def test_recording_follows_the_trunk_that_records_more() -> None:
    router = Router(config())
    assert router.recording("one", "one").mode == "do-not-record"
    assert router.recording("one", "wide").mode == "record-from-ringing"
    assert router.recording("narrow", "one").mode == "record-from-answer-dual"
    assert router.recording("narrow", "wide").mode == "record-from-ringing-dual"


ACCOUNT = """
[[account]]
name = "app"
keys = [{ id = "k1", secret = "0123456789abcdef0123456789abcdef" }]
recording = "record-from-answer"
[[route]]
from = "wide"
number = "+35315550111"
to = "app"
identity = "alice"
[[route]]
from = "app"
number = "*"
to = "app"
[[route]]
from = "app"
number = "+*"
to = "wide"
"""


@pytest.mark.parametrize(
    ("source", "called", "peer", "user"),
    [
        ("wide", "+35315550111", "app", "alice"),
        ("app", "bob", "app", "bob"),
        ("app", "+35315550177", "wide", "+35315550177"),
    ],
)
def test_a_route_leads_to_a_client_or_from_one(
    source: str, called: str, peer: str, user: str
) -> None:
    """`identity` comes before the name that was called."""
    head = HEAD.replace("udp:127.0.0.1:5060", "ws:127.0.0.1:5060")
    router = Router(read(head + ACCOUNT, "test"))
    route, targets = router.route(router.peer(source), called)
    assert route.to == peer
    assert targets[0].uri.user == user
    assert router.recording("wide", "app").mode == "record-from-ringing"
