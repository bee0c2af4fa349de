"""What happens in one call of the soak: all of it drawn at random before the call begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.soak_phone import Phone

FIRST_NUMBER = 10_000_000  # the national number of call 0, behind +353
TRANSFERRED = "+35319"  # numbers that transfers lead to: whoever is called answers at once

OUTCOMES = {
    # What becomes of the INVITE, and how often, in thousandths.
    "answered": 700,
    "busy": 50,
    "declined": 20,
    "unavailable": 40,  # 503: another address is tried
    "silent": 10,  # not even a 100
    "cancelled": 130,
    "unacknowledged": 10,  # the caller never sends its ACK
    "bad number": 20,
    "never answered": 20,
}
SLOW = ("silent", "unacknowledged")  # they need 32 s to end
ENDINGS = {"caller": 450, "callee": 400, "both": 100, "nobody": 50}
EVENTS = {
    "hold": 12,
    "inactive": 6,
    "hold 0.0.0.0": 6,
    "resume": 10,
    "empty re-INVITE": 8,
    "re-INVITE of both": 6,
    "UPDATE": 10,
    "empty UPDATE": 8,
    "INFO": 12,
    "OPTIONS": 4,
    "REFER": 6,
    "MESSAGE": 3,
    "unknown method": 3,
    "BYE of another tag": 3,
    "stray PRACK": 3,
    "stray ACK": 3,
    "CANCEL of re-INVITE": 4,
    "garbage": 6,
    "broken SDP": 4,
}


@dataclass(slots=True)
class Plan:
    """One call. `events` are (seconds after the answer, side, name); side 0 is the caller."""

    number: str
    outcome: str
    ring_s: float
    answer_s: float
    cancel_s: float
    delayed_offer: bool
    reliable: bool
    early_media: bool
    events: list[tuple[float, int, str]]
    end_s: float
    ending: str
    phones: list[Phone] = field(default_factory=list)
    attempts: int = 0


def draw(random: Random, index: int, slow: bool) -> Plan:
    """The plan of call `index`; `slow` allows what takes half a minute to end."""
    chances = {o: n for o, n in OUTCOMES.items() if slow or o not in SLOW}
    ring_s = random.uniform(0.0, 0.15)
    answer_s = ring_s + random.uniform(0.0, 0.25)
    events: list[tuple[float, int, str]] = []
    when = 0.0
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):
        when += random.choice((0.0, 0.02, 0.1, 0.3))
        events.append((when, random.randrange(2), pick(random, EVENTS)))
    return Plan(
        f"+353{FIRST_NUMBER + index}",
        pick(random, chances),
        ring_s,
        answer_s,
        random.uniform(0.0, answer_s + 0.02),
        random.random() < 0.1,
        random.random() < 0.3,
        random.random() < 0.3,
        events,
        when + random.uniform(0.0, 1.0),
        pick(random, ENDINGS if slow else {k: n for k, n in ENDINGS.items() if k != "nobody"}),
    )


def pick(random: Random, chances: dict[str, int]) -> str:
    """One of the names, by weight."""
    return random.choices(list(chances), list(chances.values()))[0]
