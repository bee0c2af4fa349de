"""The tables of the transactions and of the call are sound; docs/state-machines.md shows them.

`python -m tests.unit.test_sip_machines` writes the page anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import get_args

import pytest

from relay.call import events, fork, health, hunt, registration
from relay.call import transitions as call
from relay.sip import client, invite_client, invite_server, server
from relay.sip.machine import Event, State, Transaction, Transitions

PAGE = Path(__file__).parents[2] / "docs" / "state-machines.md"

MACHINES: list[tuple[str, str, type[Transaction]]] = [
    (
        "INVITE client",
        "RFC 3261 section 17.1.1 and RFC 6026 section 7.2; `relay/sip/invite_client.py`",
        invite_client.InviteClientTransaction,
    ),
    (
        "Non-INVITE client",
        "RFC 3261 section 17.1.2; `relay/sip/client.py`",
        client.NonInviteClientTransaction,
    ),
    (
        "INVITE server",
        "RFC 3261 section 17.2.1 and RFC 6026 section 7.1; `relay/sip/invite_server.py`",
        invite_server.InviteServerTransaction,
    ),
    (
        "Non-INVITE server",
        "RFC 3261 section 17.2.2; `relay/sip/server.py`",
        server.NonInviteServerTransaction,
    ),
]

CALL_SOURCE = """The two legs of a call together; `relay/call/transitions.py`. Its events are
classes of `relay/call/events.py`: what the legs, the engine and the clock report."""

HEALTH_SOURCE = """An address of a trunk, asked by OPTIONS; `relay/call/health.py`."""

FORK_SOURCE = """All devices of a voice client, rung at once; `relay/call/fork.py`."""

HUNT_SOURCE = """The attempts to reach one side of a call; `relay/call/hunt.py`."""

REGISTRATION_SOURCE = (
    """Ours, at a carrier (RFC 3261 section 10.2); `relay/call/registration.py`."""
)

HEAD = """# State machines

Drawn from the `TRANSITIONS` tables by `python -m tests.unit.test_sip_machines`; a test fails
when this page is out of date. An arrow reads *event / actions*. An event without an arrow is
ignored: a late or repeated message changes nothing.
"""


def draw() -> str:
    """The page: one mermaid diagram a machine."""
    parts = [HEAD]
    for name, source, machine in MACHINES:
        arrows = (
            (state.value, target.value, event.value, actions)
            for (state, event), (target, actions) in machine.TRANSITIONS.items()
        )
        title = f"{name} transaction"
        end = State.TERMINATED.value
        parts += _diagram(title, source, machine.START.value, end, arrows)
    steps = (
        (_title(state), _title(target), event.__name__, actions)
        for (state, event), (target, actions) in call.TRANSITIONS.items()
    )
    start, end = _title(call.State.CALLING), _title(call.State.ENDED)
    parts += _diagram("Call", CALL_SOURCE, start, end, steps)
    arrows = (
        (_title(state), _title(target), event.value, actions)
        for (state, event), (target, actions) in hunt.TRANSITIONS.items()
    )
    start, end = _title(hunt.State.SEEKING), _title(hunt.State.OVER)
    parts += _diagram("Hunt", HUNT_SOURCE, start, end, arrows)
    arrows = (
        (_title(state), _title(target), event.value, actions)
        for (state, event), (target, actions) in fork.TRANSITIONS.items()
    )
    start, end = _title(fork.State.RINGING), _title(fork.State.OVER)
    parts += _diagram("Fork", FORK_SOURCE, start, end, arrows)
    arrows = (
        (_title(state), _title(target), event.value, actions)
        for (state, event), (target, actions) in health.TRANSITIONS.items()
    )
    start = _title(health.State.UP)
    parts += _diagram("Health", HEALTH_SOURCE, start, start, arrows)
    moves = (
        (state.value, target.value, event.value, actions)
        for (state, event), (target, actions) in registration.TRANSITIONS.items()
    )
    start = registration.State.UNREGISTERED.value
    parts += _diagram("Registration", REGISTRATION_SOURCE, start, start, moves)
    return "\n".join(parts) + "\n"


def _diagram(
    title: str,
    source: str,
    start: str,
    end: str,
    arrows: Iterable[tuple[str, str, str, tuple[Enum, ...]]],
) -> list[str]:
    parts = [f"\n## {title}\n{source}\n\n```mermaid\nstateDiagram-v2", f"    [*] --> {start}"]
    for state, target, event, actions in arrows:
        doing = ", ".join(action.name.lower().replace("_", " ") for action in actions)
        label = f"{event} / {doing}" if doing else event
        parts.append(f"    {state} --> {target}: {label}")
    return [*parts, f"    {end} --> [*]\n```"]


def _title(state: Enum) -> str:
    return state.name.title()


def _reachable(start: State, table: Transitions) -> set[State]:
    found = {start}
    while True:
        more = {target for (state, _), (target, _) in table.items() if state in found}
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize("machine", [machine for _, _, machine in MACHINES])
def test_every_action_has_its_method(machine: type[Transaction]) -> None:
    for _, actions in machine.TRANSITIONS.values():
        for action in actions:
            assert callable(getattr(machine, action.value)), action


@pytest.mark.parametrize("machine", [machine for _, _, machine in MACHINES])
def test_every_state_is_reached_and_left(machine: type[Transaction]) -> None:
    table = machine.TRANSITIONS
    states = {state for state, _ in table}
    assert states | {State.TERMINATED} == _reachable(machine.START, table)
    assert all(State.TERMINATED in _reachable(state, table) for state in states)
    assert State.TERMINATED not in states


@pytest.mark.parametrize("machine", [machine for _, _, machine in MACHINES])
def test_every_timer_that_is_armed_is_answered(machine: type[Transaction]) -> None:
    """And none is waited for that nothing arms."""
    actions = {a.value for _, found in machine.TRANSITIONS.values() for a in found}
    armed = {value.removeprefix("arm_")[:1] for value in actions if value.startswith("arm_")}
    timers = [event for _, event in machine.TRANSITIONS if event.name.startswith("TIMER_")]
    answered = {event.name.removeprefix("TIMER_").lower()[:1] for event in timers}
    assert armed == answered
    assert Event.TIMER_CANCELLED not in timers or machine.START is State.CALLING


def test_every_state_of_a_call_is_reached_and_ends() -> None:
    reached: dict[call.State, set[call.State]] = {}
    for start in call.State:
        found = {start}
        for _ in call.State:
            found |= {to for (at, _), (to, _) in call.TRANSITIONS.items() if at in found}
        reached[start] = found
    assert reached[call.State.CALLING] == set(call.State)
    assert all(call.State.ENDED in found for found in reached.values())
    assert reached[call.State.ENDED] == {call.State.ENDED}


def test_every_event_and_every_action_of_a_call_is_used() -> None:
    table = call.TRANSITIONS
    assert {event for _, event in table} == set(get_args(events.CallEvent))
    assert {action for _, actions in table.values() for action in actions} == set(call.Action)
    assert all(target is call.State.ENDED for target, done in table.values() if _finishes(done))
    assert all(_finishes(done) for target, done in table.values() if target is call.State.ENDED)


def _finishes(actions: tuple[call.Action, ...]) -> bool:
    """Counters, ports and the recording are let go of exactly once: at the end."""
    return call.Action.FINISH in actions


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw(), "run python -m tests.unit.test_sip_machines"


def test_every_state_event_and_action_of_the_health_of_an_address_is_used() -> None:
    table = health.TRANSITIONS
    assert (
        {state for state, _ in table} == {state for state, _ in table.values()} == set(health.State)
    )
    assert {event for _, event in table} == set(health.Event)
    assert {action for _, actions in table.values() for action in actions} == set(health.Action)
    assert all(callable(getattr(health.Watched, action.value)) for action in health.Action)


def test_every_event_and_every_action_of_a_hunt_is_used() -> None:
    table = hunt.TRANSITIONS
    assert {event for _, event in table} == set(hunt.Event)
    assert {action for _, actions in table.values() for action in actions} == set(hunt.Action)
    assert all(callable(getattr(hunt.Hunt, action.value)) for action in hunt.Action)
    assert {state for state, _ in table} == {hunt.State.SEEKING, hunt.State.TRYING}


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(draw(), encoding="utf-8")
