"""The ICE-lite agent in virtual time; the peer's checks are written, and ours read, by aioice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.webrtc import ice
from relay.webrtc.ice import Agent, ConsentEnded, Credentials, PathChosen, Respond
from relay.webrtc.stun import Address

WIFI: Address = ("192.0.2.7", 40000)
CELL: Address = ("2001:db8::7", 41000)
EVIL: Address = ("192.0.2.66", 6666)
FIRST = Credentials("ours", "p" * 24, "theirs")
SECOND = Credentials("ours2", "q" * 24, "theirs2")


@dataclass
class Leg:
    """An agent, what it has said, and a clock."""

    counters: Counter[str] = field(default_factory=Counter)
    now: float = 1000.0
    described: bool = True

    def __post_init__(self) -> None:
        self.agent = Agent(self.counters)
        if self.described:
            self.agent.describe(FIRST)

    def feed(self, data: bytes, source: Address) -> list[object]:
        """What came of it."""
        self.agent.feed(data, source, self.now)
        return list(self.agent.drain())

    def check(self, source: Address, nominate: bool = False, **more: object) -> list[object]:
        return self.feed(check(nominate, **more), source)  # type: ignore[arg-type]

    def wait(self, seconds: float) -> list[object]:
        """Let the time pass, and the timers with it."""
        until = self.now + seconds
        while (due := self.agent.next_timer()) is not None and due <= until:
            self.now = due
            self.agent.on_timer(self.now)
        self.now = until
        return list(self.agent.drain())


def check(
    nominate: bool = False,
    credentials: Credentials = FIRST,
    priority: int = 100,
    password: str | None = None,
    **attributes: object,
) -> bytes:
    """One that a full agent in control sends."""
    message = aioice.stun.Message(
        aioice.stun.Method.BINDING,
        aioice.stun.Class.REQUEST,
        attributes={"USERNAME": credentials.username, "PRIORITY": priority},
    )
    message.attributes |= attributes or {"ICE-CONTROLLING": 1}
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity((password or credentials.local_pwd).encode())
    return bytes(message)


def answer(outputs: list[object], password: str = FIRST.local_pwd) -> aioice.stun.Message:
    """The one response, proved and read."""
    (response,) = [output for output in outputs if isinstance(output, Respond)]
    message = aioice.stun.parse_message(response.data)
    assert message.check_message_integrity(password.encode())
    return message


def test_a_check_is_answered_with_the_address_that_it_came_from() -> None:
    leg = Leg()
    for source in (WIFI, CELL):
        outputs = leg.check(source)
        assert answer(outputs).attributes["XOR-MAPPED-ADDRESS"] == source
        assert len(outputs) == 1  # nothing is chosen before it is nominated
    assert leg.agent.selected is None


def test_a_nominated_path_is_chosen_before_the_peer_learns_of_it() -> None:
    leg = Leg()
    outputs = leg.check(WIFI, nominate=True)
    assert outputs[0] == PathChosen(WIFI)
    assert isinstance(outputs[1], Respond)
    assert leg.agent.selected == WIFI
    assert len(leg.check(WIFI, nominate=True)) == 1  # told once


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (check(True, password="x" * 24), "stun_not_authentic"),
        (check(True, FIRST._replace(local_ufrag="other")), "stun_not_authentic"),
        (check(True, FIRST._replace(remote_ufrag="other")), "stun_not_authentic"),
        (check(True, SECOND), "stun_not_authentic"),
        (check(True)[:-8], "stun_malformed"),
        (b"\x00\x01garbage", "stun_malformed"),
    ],
)
def test_what_is_not_authentic_changes_nothing_and_gets_no_answer(
    data: bytes, counter: str
) -> None:
    leg = Leg()
    assert leg.feed(data, EVIL) == []
    assert leg.agent.selected is None
    assert leg.counters == {counter: 1}
    assert leg.agent.next_timer() is None


def test_a_check_that_someone_overheard_moves_nothing() -> None:
    leg = Leg()
    overheard = [check(True), check(True)]
    for data in overheard:
        leg.feed(data, WIFI)
    for _ in range(ice.RECENT + 1):  # the first is no longer among the recent ones
        leg.check(WIFI, nominate=True)
    for data in overheard:
        assert leg.feed(data, EVIL) == []
    assert leg.agent.selected == WIFI
    assert leg.counters["stun_replayed"] == 2


def test_the_peer_may_repeat_a_check_whose_response_was_lost() -> None:
    leg = Leg()
    data = check(True)
    leg.feed(data, WIFI)
    (again,) = leg.feed(data, WIFI)
    assert answer([again]).attributes["XOR-MAPPED-ADDRESS"] == WIFI
    assert not leg.counters["stun_replayed"]


def test_a_repeated_check_does_not_bring_back_an_old_path() -> None:
    leg = Leg()
    old = check(True)
    leg.feed(old, WIFI)
    leg.check(CELL)
    leg.check(CELL, nominate=True)
    leg.feed(old, WIFI)
    assert leg.agent.selected == CELL


def test_a_peer_that_claims_our_role_is_told() -> None:
    """RFC 8445 section 7.3.1.1: we are lite, hence controlled."""
    leg = Leg()
    outputs = leg.check(WIFI, nominate=True, **{"ICE-CONTROLLED": 2**63})
    assert answer(outputs).attributes["ERROR-CODE"] == (487, "Role Conflict")
    assert leg.agent.selected is None


def test_an_attribute_that_must_be_understood_and_is_not_gets_420() -> None:
    leg = Leg()
    outputs = leg.check(WIFI, nominate=True, **{"CHANGE-REQUEST": 6})
    assert answer(outputs).attributes["ERROR-CODE"] == (420, "Unknown Attribute")
    assert leg.agent.selected is None


def test_another_network_is_followed_at_once() -> None:
    """A browser checks the new path first and nominates it when it has proved to work."""
    leg = Leg()
    leg.check(WIFI, nominate=True, priority=200)
    leg.check(CELL, priority=100)
    assert leg.check(CELL, nominate=True, priority=100)[0] == PathChosen(CELL)


def test_a_new_path_of_a_higher_priority_is_followed() -> None:
    leg = Leg()
    leg.check(CELL, nominate=True, priority=100)
    assert leg.check(WIFI, nominate=True, priority=200)[0] == PathChosen(WIFI)


def test_a_peer_that_nominates_all_its_paths_means_the_best_one() -> None:
    """Aggressive nomination (RFC 5245): the path does not go back and forth."""
    leg = Leg()
    for _ in range(5):
        leg.check(CELL, nominate=True, priority=100)
        leg.check(WIFI, nominate=True, priority=200)
        assert leg.agent.selected == WIFI


def test_a_peer_that_nominates_all_its_paths_loses_the_best_one() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True, priority=200)
    leg.check(CELL, nominate=True, priority=100)
    assert leg.agent.selected == WIFI
    leg.check(CELL, nominate=True, priority=100)  # and none on the other meanwhile
    assert leg.agent.selected == CELL


def test_without_checks_for_30_s_consent_ends_and_a_check_brings_it_back() -> None:
    """RFC 7675."""
    leg = Leg()
    leg.check(WIFI, nominate=True)
    for _ in range(10):
        assert leg.wait(29.9) == []
        leg.check(WIFI)
    assert leg.wait(29.9) == []
    assert leg.wait(0.2) == [ConsentEnded()]
    assert leg.agent.selected is None
    assert leg.agent.next_timer() is None
    assert leg.check(WIFI)[0] == PathChosen(WIFI)
    assert leg.agent.next_timer() == leg.now + 30


def test_checks_on_another_path_are_no_consent_for_this_one() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.wait(20)
    leg.check(CELL)
    assert leg.wait(10) == [ConsentEnded()]


def test_a_check_of_long_ago_is_no_consent() -> None:
    """Who overheard one could keep us sending to a peer that has left."""
    leg = Leg()
    overheard = check(nominate=True)
    leg.feed(overheard, WIFI)
    for _ in range(ice.RECENT):
        leg.check(WIFI)
    leg.wait(20)
    assert leg.feed(overheard, WIFI) == []
    assert leg.counters["stun_replayed"] == 1
    assert leg.wait(10.1) == [ConsentEnded()]


def test_forged_checks_are_no_consent() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.wait(20)
    leg.check(WIFI, password="x" * 24)
    assert leg.wait(10) == [ConsentEnded()]


def test_after_consent_ended_another_path_needs_a_nomination() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.wait(31)
    leg.check(CELL)
    assert leg.agent.selected is None
    leg.check(CELL, nominate=True)
    assert leg.agent.selected == CELL


def test_an_ice_restart_keeps_the_path_until_another_is_nominated() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.agent.describe(SECOND)
    leg.agent.describe(SECOND)  # a re-offer that changes nothing
    assert leg.counters["ice_restarts"] == 1
    assert leg.agent.selected == WIFI
    answer(leg.check(WIFI))  # the old credentials are still good
    answer(leg.check(CELL, credentials=SECOND), SECOND.local_pwd)
    assert leg.agent.selected == WIFI
    outputs = leg.check(CELL, nominate=True, credentials=SECOND)
    assert outputs[0] == PathChosen(CELL)
    assert leg.check(WIFI, nominate=True) == []  # the old ones are not
    assert leg.counters["stun_not_authentic"] == 1


def test_the_old_credentials_may_move_the_path_during_a_restart() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.agent.describe(SECOND)
    leg.check(CELL)
    leg.check(CELL, nominate=True)
    assert leg.agent.selected == CELL
    leg.check(WIFI, nominate=True, credentials=SECOND)
    assert leg.agent.selected == WIFI


def test_what_is_remembered_of_a_peer_is_bounded() -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    for port in range(1, 3 * ice.MOST_PATHS):
        leg.check((WIFI[0], port))
    assert len(leg.agent._paths) == ice.MOST_PATHS
    assert len(leg.agent._recent) == ice.RECENT
    for used in leg.agent._used.values():
        used.extend([0] * ice.MOST_ALIKE)
    for _ in range(50):
        leg.check(WIFI)
    full = [len(used) for used in leg.agent._used.values() if len(used) > 1]
    assert len(leg.agent._used) <= 256 and min(full) < ice.MOST_ALIKE


# --- before the answer to our offer

OTHER = FIRST._replace(remote_ufrag="another")  # a phone that has the same offer


def offered() -> Leg:
    leg = Leg(described=False)
    leg.agent.offer(*FIRST[:2])
    return leg


def test_a_check_before_the_answer_is_answered_and_its_nomination_counts_then() -> None:
    leg = offered()
    (response,) = leg.check(WIFI, nominate=True)
    assert answer([response]).attributes["XOR-MAPPED-ADDRESS"] == WIFI
    assert leg.agent.selected is None and leg.agent.next_timer() is None
    leg.wait(1.0)
    leg.check(WIFI)
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == [PathChosen(WIFI)]
    assert leg.agent.next_timer() == leg.now + ice.CONSENT_S
    assert leg.counters == {}


def test_a_check_without_a_nomination_chooses_nothing_when_the_answer_comes() -> None:
    leg = offered()
    leg.check(WIFI)
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == []
    assert leg.check(WIFI, nominate=True)[0] == PathChosen(WIFI)


def test_of_several_phones_the_one_that_answers_has_the_path() -> None:
    leg = offered()
    leg.check(CELL, nominate=True, priority=200, credentials=OTHER)
    leg.check(WIFI, nominate=True)
    leg.check(CELL, nominate=True, priority=200, credentials=OTHER)
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == [PathChosen(WIFI)]
    answer(leg.check(CELL, nominate=True, priority=200, credentials=OTHER))  # it rings on
    assert leg.agent.selected == WIFI
    leg.agent.describe(OTHER)  # and answers, after the early media of the first
    assert list(leg.agent.drain()) == [PathChosen(CELL)]


def test_the_answer_of_a_phone_that_has_not_checked_chooses_nothing() -> None:
    leg = offered()
    leg.check(WIFI, nominate=True)
    leg.agent.describe(OTHER)
    assert list(leg.agent.drain()) == []
    assert leg.agent.selected is None


@pytest.mark.parametrize(
    "data",
    [
        check(True, password="x" * 24),
        check(True, SECOND),
        check(True, FIRST._replace(local_ufrag="our")),
        check(True, FIRST._replace(local_ufrag="ours2")),
    ],
)
def test_only_the_offers_own_credentials_are_answered_before_the_answer(data: bytes) -> None:
    leg = offered()
    assert leg.feed(data, EVIL) == []
    assert leg.counters == {"stun_not_authentic": 1}
    assert not leg.agent.has_checked(EVIL)
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == []


def test_an_early_check_that_someone_overheard_moves_nothing() -> None:
    leg = offered()
    data = check(True)
    leg.feed(data, WIFI)
    assert leg.feed(data, EVIL) == []
    assert leg.counters == {"stun_replayed": 1}
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == [PathChosen(WIFI)]
    assert leg.feed(data, EVIL) == []


def test_errors_are_told_before_the_answer_too() -> None:
    leg = offered()
    outputs = leg.check(WIFI, nominate=True, **{"ICE-CONTROLLED": 2**63})
    assert answer(outputs).attributes["ERROR-CODE"] == (487, "Role Conflict")
    leg.agent.describe(FIRST)
    assert list(leg.agent.drain()) == []


def test_the_path_stays_while_another_peer_is_offered_the_leg() -> None:
    """As during a transfer, which may fail."""
    leg = Leg()
    leg.check(WIFI, nominate=True)
    leg.agent.offer(*SECOND[:2])
    answer(leg.check(CELL, nominate=True, credentials=SECOND), SECOND.local_pwd)
    assert leg.agent.selected == WIFI
    answer(leg.check(WIFI))
    leg.agent.forget()
    leg.agent.describe(SECOND)
    assert list(leg.agent.drain()) == [PathChosen(CELL)]
    assert leg.check(WIFI, nominate=True) == []


def test_after_a_restart_an_older_offer_is_over() -> None:
    leg = offered()
    leg.agent.describe(FIRST)
    leg.check(WIFI, nominate=True)
    leg.agent.describe(SECOND)
    leg.check(CELL, nominate=True, credentials=SECOND)
    assert leg.check(WIFI, nominate=True) == []
    assert leg.counters["stun_not_authentic"] == 1


def test_what_is_remembered_before_the_answer_is_bounded() -> None:
    leg = offered()
    for number in range(3 * ice.MOST_PATHS):
        name = FIRST._replace(remote_ufrag=f"peer{number}")
        leg.check((WIFI[0], number + 1), nominate=True, credentials=name)
    assert len(leg.agent._early) == ice.MOST_PATHS


@given(st.lists(st.tuples(st.binary(max_size=120), st.sampled_from([WIFI, CELL, EVIL]))))
def test_garbage_does_no_harm(datagrams: list[tuple[bytes, Address]]) -> None:
    leg = Leg()
    leg.check(WIFI, nominate=True)
    for data, source in datagrams:
        assert leg.feed(data, source) == []
    assert leg.agent.selected == WIFI
    assert leg.counters["stun_malformed"] == len(datagrams)
