"""The tables of the transaction machines are sound, and drawn in docs/state-machines.md.

`python -m tests.unit.test_sip_machines` writes the page anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

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

HEAD = """# State machines

Drawn from the `TRANSITIONS` tables by `python -m tests.unit.test_sip_machines`; a test fails
when this page is out of date. An arrow reads *event / actions*. An event without an arrow is
ignored: a late or repeated message changes nothing.
"""


def draw() -> str:
    """The page: one mermaid diagram a machine."""
    parts = [HEAD]
    for name, source, machine in MACHINES:
        parts.append(f"\n## {name} transaction\n{source}\n\n```mermaid\nstateDiagram-v2")
        parts.append(f"    [*] --> {machine.START.value}")
        for (state, event), (target, actions) in machine.TRANSITIONS.items():
            doing = ", ".join(action.value.replace("_", " ") for action in actions)
            label = f"{event.value} / {doing}" if doing else event.value
            parts.append(f"    {state.value} --> {target.value}: {label}")
        parts.append(f"    {State.TERMINATED.value} --> [*]\n```")
    return "\n".join(parts) + "\n"


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


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw(), "run python -m tests.unit.test_sip_machines"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(draw(), encoding="utf-8")
