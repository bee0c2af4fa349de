"""Who is no trunk: buckets, scanners, bans and their end, and a table that stays bounded."""

from __future__ import annotations

import ipaddress
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.call import guard
from relay.call.alarms import Alarms
from relay.call.guard import FORGIVEN, MOST_SOURCES, PROVED_S, Guard, Offence, source_of
from relay.call.router import Router
from relay.config import Limits, example
from relay.errors import MalformedMessage
from relay.sip.fields import Headers
from relay.sip.message import Request, Response

STRANGER, TRUNK, OURS = "198.51.100.9", "127.0.0.2", "127.0.0.1"


class Journal:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, call: str, **fields: object) -> None:
        self.events.append((name, fields))


class Rig:
    """A guard of the example region, in virtual time."""

    def __init__(self, **limits: Any) -> None:
        self.journal, self.alarms = Journal(), Alarms()
        self.guard = Guard(
            Limits(**limits),
            (OURS,),
            Router(example()),
            self.journal,
            self.alarms,
            lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )

    def admits(self, host: str, now: float, message: object = None) -> bool:
        return self.guard.admits(message or request(), host, now)  # type: ignore[arg-type]

    def offend(self, host: str, times: int, now: float, kind: Offence = Offence.MALFORMED) -> None:
        for _ in range(times):
            self.guard.offence(host, kind, now)

    def pass_time(self, now: float) -> None:
        for owner in self.alarms.due(now):
            owner.on_timer(now)


def request(method: str = "INVITE", user: str = "+35315550199", agent: str = "phone") -> Request:
    return Request(method, f"sip:{user}@192.0.2.1", Headers([("User-Agent", agent)]))


def test_a_stranger_has_a_bucket_of_its_own() -> None:
    rig = Rig(unknown_per_second=5.0)
    assert [rig.admits(STRANGER, 10.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert rig.admits("198.51.100.10", 10.0)
    assert rig.admits(STRANGER, 10.21)
    assert not rig.admits(STRANGER, 10.22)
    assert rig.guard.counters["unknown_dropped"] == 3


def test_too_many_datagrams_alone_are_no_offence() -> None:
    """An honest user who is challenged may send in bursts."""
    rig = Rig(ban_after=3)
    for _ in range(1000):
        rig.admits(STRANGER, 10.0)
    assert rig.admits(STRANGER, 20.0)
    assert not rig.journal.events


@pytest.mark.parametrize(
    "message",
    [
        request(agent="SIPVicious 0.3"),
        request(agent="friendly-scanner"),
        request("NOTIFY"),
        request(user="900441519470495"),
        request(user="00442"),
    ],
)
def test_a_scanner_gets_no_answer(message: Request) -> None:
    rig = Rig(scanner_methods=("notify",), scanner_numbers=("900", r"00\d+$"), ban_after=4)
    assert not any(rig.admits(STRANGER, 10.0, message) for _ in range(6))
    assert rig.guard.counters == {"scanner_dropped": 4, "banned": 1, "banned_dropped": 2}


def test_patterns_of_scanners_hit_nobody_else() -> None:
    rig = Rig(scanner_numbers=("900", r"00\d+$"))
    assert rig.admits(STRANGER, 10.0, request(user="+35390012345"))
    assert rig.admits(STRANGER, 10.0, request(user="00x"))
    assert rig.admits(STRANGER, 10.0, MalformedMessage("x"))


def test_a_ban_is_told_once_and_ends() -> None:
    rig = Rig(ban_after=3, ban_window_s=60.0, ban_s=600.0)
    rig.offend(STRANGER, 5, 10.0)
    assert not rig.admits(STRANGER, 11.0)
    assert rig.guard.is_banned(STRANGER)
    assert rig.journal.events == [
        (
            "source_banned",
            {
                "source": STRANGER,
                "why": Offence.MALFORMED.value,
                "until": "2026-01-01T00:10:00+00:00",
            },
        )
    ]
    rig.pass_time(609.0)
    assert not rig.admits(STRANGER, 609.0)
    assert rig.alarms.next_timer() == 610.0
    rig.pass_time(610.0)
    assert rig.journal.events[1:] == [("source_unbanned", {"source": STRANGER})]
    assert rig.admits(STRANGER, 610.0)
    assert rig.alarms.next_timer() is None


def test_each_ban_ends_at_its_own_time() -> None:
    rig = Rig(ban_after=1, ban_s=600.0)
    rig.offend("198.51.100.1", 1, 0.0)
    rig.offend("198.51.100.2", 1, 300.0)
    rig.pass_time(600.0)
    assert [rig.guard.is_banned(f"198.51.100.{n}") for n in (1, 2)] == [False, True]
    rig.pass_time(rig.alarms.next_timer() or 0.0)
    assert not rig.guard.is_banned("198.51.100.2")


def test_offences_far_apart_do_not_add_up() -> None:
    rig = Rig(ban_after=3, ban_window_s=60.0)
    for number in range(20):
        rig.offend(STRANGER, 1, number * 31.0)
    assert not rig.guard.is_banned(STRANGER)


@pytest.mark.parametrize("host", [TRUNK, OURS, "203.0.113.7", f"::ffff:{TRUNK}"])
@pytest.mark.parametrize("kind", list(Offence))
def test_a_trunk_we_ourselves_and_the_allow_list_are_never_banned(host: str, kind: Offence) -> None:
    rig = Rig(ban_after=2, never_ban=("203.0.113.0/24",))
    rig.offend(host, 1000, 10.0, kind)
    assert not rig.guard.is_banned(host)
    assert not rig.journal.events


def test_an_ipv6_site_is_one_source_but_for_who_is_exempt_in_it() -> None:
    rig = Rig(ban_after=2, never_ban=("2001:db8:0:1::5/128",))
    rig.offend("2001:db8:0:1::1", 1, 10.0)
    rig.offend("2001:db8:0:1:ffff::2", 1, 10.0)
    assert rig.guard.is_banned("2001:db8:0:1::3")
    assert not rig.admits("2001:db8:0:1::3", 10.0)
    assert rig.admits("2001:db8:0:1::5", 10.0)
    assert rig.admits("2001:db8:0:2::1", 10.0)
    assert rig.journal.events[0][1]["source"] == "2001:db8:0:1::/64"


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("what:ever", "what:ever"),
    ],
)
def test_the_name_of_a_source(host: str, source: str) -> None:
    assert source_of(host) == source


def test_a_few_wrong_passwords_are_forgiven_and_many_are_not() -> None:
    rig = Rig(ban_after=3)
    rig.offend(STRANGER, FORGIVEN + 2, 10.0, Offence.WRONG_PASSWORD)
    assert not rig.guard.is_banned(STRANGER)
    rig.offend(STRANGER, 1, 10.0, Offence.WRONG_PASSWORD)
    assert rig.guard.is_banned(STRANGER)


def test_an_answered_challenge_clears_a_source() -> None:
    rig = Rig(ban_after=20, unknown_per_second=1.0)
    for _ in range(50):  # again and again: nearly banned, then proved
        rig.offend(STRANGER, 19, 10.0)
        rig.guard.proved(STRANGER, 10.0)
    assert all(rig.admits(STRANGER, 10.0) for _ in range(100))
    rig.offend(STRANGER, 1000, 11.0)  # forged by whoever wants it banned
    assert not rig.guard.is_banned(STRANGER)
    later = 11.0 + PROVED_S
    rig.offend(STRANGER, 20, later)
    assert rig.guard.is_banned(STRANGER)


def test_a_proved_source_that_guesses_passwords_is_no_longer_proved() -> None:
    rig = Rig(ban_after=3)
    rig.guard.proved(STRANGER, 10.0)
    rig.offend(STRANGER, FORGIVEN + 3, 11.0, Offence.WRONG_PASSWORD)
    assert rig.guard.is_banned(STRANGER)


def test_stray_responses_are_an_offence_only_as_a_flood() -> None:
    rig = Rig(unknown_per_second=5.0, ban_after=3)
    answer = Response(200, None, Headers([]))
    for _ in range(5):
        assert rig.admits(STRANGER, 10.0, answer)
    assert not rig.guard.is_banned(STRANGER)
    for _ in range(3):
        assert not rig.admits(STRANGER, 10.0, answer)
    assert rig.guard.is_banned(STRANGER)


def test_a_trunk_that_floods_rubbish_is_answered_a_little() -> None:
    rig = Rig()
    assert sum(rig.guard.answers_malformed("acme", 10.0) for _ in range(1000)) == 10
    assert rig.guard.answers_malformed("carrier", 10.0)
    assert rig.guard.answers_malformed("acme", 11.0)
    assert rig.guard.counters == {"malformed_dropped": 990}


def _spray(rig: Rig, first: str, step: int, count: int) -> None:
    message, start = request(), ipaddress.ip_address(first)
    make = type(start)
    for number in range(count):
        rig.guard.admits(message, str(make(int(start) + number * step)), 1.0)


@pytest.mark.parametrize(
    ("first", "step", "count"), [("16.0.0.0", 1, 1_000_000), ("2001:db8::", 1 << 64, 100_000)]
)
def test_a_spray_of_sources_pushes_out_only_its_like(first: str, step: int, count: int) -> None:
    rig = Rig(ban_after=2)
    rig.offend("203.0.113.1", 2, 0.0)
    rig.guard.proved("203.0.113.2", 0.0)
    _spray(rig, first, step, count)
    assert len(rig.guard._sources) == MOST_SOURCES
    assert rig.guard.is_banned("203.0.113.1")
    assert all(rig.admits("203.0.113.2", 1.0) for _ in range(50))


def test_memory_stays_flat_once_the_table_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 2048
    monkeypatch.setattr(guard, "MOST_SOURCES", most)
    rig = Rig()
    tracemalloc.start()
    try:
        _spray(rig, "16.0.0.0", 1, 2 * most)
        full, _ = tracemalloc.get_traced_memory()
        _spray(rig, "17.0.0.0", 1, 8 * most)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.1 * full
    assert held / most < 700  # octets a source: 23 MB at the real size


@pytest.mark.parametrize("pattern", ["", "[", "9*"])
def test_a_pattern_that_cannot_be_meant_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match="scanner_numbers"):
        Limits(scanner_numbers=(pattern,))
