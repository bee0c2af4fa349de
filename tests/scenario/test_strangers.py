"""Who is no trunk, before the whole user agent: dropped, counted, and nobody else disturbed."""

from __future__ import annotations

import pytest

from relay.call.guard import Offence
from relay.errors import MalformedMessage
from relay.sip.fields import Headers
from relay.sip.message import Request
from relay.sip.transaction import Hop
from tests.scenario.test_attack import OTHER, answered, assert_clean, inject
from tests.scenario.world import CARRIER, PBX, RELAY, World


def stranger(number: int, method: str = "INVITE", agent: str = "phone") -> Request:
    return Request(
        method,
        f"sip:+35315550199@{RELAY}",
        Headers(
            [
                ("Via", f"SIP/2.0/UDP {OTHER}:5060;branch=z9hG4bK{number}"),
                ("From", f"<sip:+35315550100@{OTHER}>;tag=s{number}"),
                ("To", f"<sip:+35315550199@{RELAY}>"),
                ("Call-ID", f"stranger-{number}"),
                ("CSeq", f"1 {method}"),
                ("Contact", f"<sip:{OTHER}:5060>"),
                ("User-Agent", agent),
            ]
        ),
    )


def test_a_stranger_gets_a_few_answers_then_none_then_a_ban() -> None:
    world = World()
    said = [inject(world, stranger(number), OTHER) for number in range(30)]
    assert sum(b"SIP/2.0 403" in each for each in said) == 5
    assert said[5:] == [b""] * 25
    for number in range(30, 60):
        world.run(0.2)
        inject(world, stranger(number), OTHER)
    assert world.journal.names() == ["source_banned"]
    assert world.journal.last("source_banned")["source"] == OTHER
    world.run(5)
    assert inject(world, stranger(99), OTHER) == b""
    world.run(600)
    assert world.journal.names() == ["source_banned", "source_unbanned"]
    assert b"SIP/2.0 403" in inject(world, stranger(100), OTHER)
    assert_clean(world)


def test_a_scanner_costs_nothing_and_hears_nothing() -> None:
    world = World()
    for number in range(50):
        assert inject(world, stranger(number, "OPTIONS", "friendly-scanner"), OTHER) == b""
    assert world.calls.guard.counters["scanner_dropped"] == 20
    assert world.calls.guard.counters["banned_dropped"] == 30
    assert len(world.relay._layer) == 0


def test_a_trunk_may_call_itself_a_scanner() -> None:
    world = World()
    world.pbx.call(User_Agent="sipcli/v1.8")
    world.run_until(lambda: bool(world.carrier.acks))
    world.pbx.bye()
    assert_clean(world)


def test_rubbish_of_a_stranger_is_never_answered_and_bans_it() -> None:
    world = World()
    for _ in range(100):
        broken = MalformedMessage("no Via", stranger(1))
        world.relay.receive(broken, Hop("udp", OTHER, 5060), world.now)
        world.run(0.2)
    assert world.wire == []
    assert world.journal.names() == ["source_banned"]
    assert world.calls.guard.counters["banned_dropped"] == 80


@pytest.mark.parametrize("source", [PBX, CARRIER])
def test_rubbish_of_a_trunk_harms_neither_its_calls_nor_others(source: str) -> None:
    world = World()
    answered(world)
    for number in range(1000):
        broken = MalformedMessage("no CSeq", stranger(number))
        world.relay.receive(broken, Hop("udp", source, 5060), world.now)
    world.settle()
    assert sum(b"SIP/2.0 400" in data for _, to, data in world.wire if to == source) <= 10
    world.pbx.bye()
    world.run_until(lambda: world.pbx.statuses("BYE") == [200])
    assert_clean(world)


def test_the_peer_of_a_dialog_speaks_though_somebody_had_its_address_banned() -> None:
    """A carrier without `allow`: we call it, nobody else may use its address for calls."""
    world = World()
    answered(world)
    del world.router.trunks[CARRIER]
    for _ in range(25):
        world.calls.guard.offence(CARRIER, Offence.UNKNOWN_SOURCE, world.now)
    assert world.calls.guard.is_banned(CARRIER)
    world.pbx.in_dialog("INFO", b"")  # its answer comes from there
    world.run_until(lambda: world.pbx.statuses("INFO") == [200])
    world.carrier.bye()
    world.run_until(lambda: bool(world.pbx.got("BYE")))
    assert_clean(world)


def test_a_thousand_strangers_leave_the_trunks_alone() -> None:
    world = World()
    for number in range(1000):
        host = f"198.51.{number // 250}.{number % 250}"
        world.relay.receive(stranger(number), Hop("udp", host, 5060), world.now)
    answered(world)
    world.pbx.bye()
    world.run_until(lambda: world.pbx.statuses("BYE") == [200])
    assert_clean(world)


def test_who_forges_the_address_of_a_trunk_with_a_certificate_cannot_have_it_banned() -> None:
    """Its address is in no `allow`: a certificate tells who it is, and that for an hour."""
    world = World()
    trunk = world.router.trunks[PBX]
    world.peer_names = lambda hop: frozenset({"b.example"} if hop.link else ())  # type: ignore[method-assign]
    world.router.identify = lambda host, names=frozenset(): (  # type: ignore[method-assign]
        trunk if names else world.router.trunks.get(host)
    )
    secured = Hop("tls", OTHER, 40000, 7)
    world.relay.receive(stranger(0, "OPTIONS"), secured, world.now)
    world.settle()
    assert b"SIP/2.0 200" in world.wire[-1][2]
    for number in range(1, 100):
        inject(world, stranger(number), OTHER)
        world.run(0.2)
    assert "source_banned" not in world.journal.names()
    assert not world.calls.guard.is_banned(OTHER)
    assert_clean(world)
