"""What an erasure takes, what a hold keeps, and the certificate."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay.access.erasure import (
    Erased,
    Hold,
    Holds,
    Kept,
    Removal,
    Request,
    Scope,
    certificate,
    cutoffs,
    plan,
    problem_of,
)
from relay.keys.ring import KeyRing
from relay.residency.record import ERASED
from relay.residency.signing import is_signed_by
from tests.unit.kept_records import STARTED, recording

NOW = STARTED + timedelta(days=1)
CALLER, CALLED = "index-of-caller", "index-of-called"


def kept(name: str = "c1", recorded: bool = True) -> Kept:
    return Kept(
        name,
        STARTED,
        STARTED,
        frozenset(("acme", "carrier")),
        frozenset((CALLER, CALLED)),
        recording(name) if recorded else None,
    )


def hold(scope: Scope, subject: str) -> Hold:
    return Hold("hold-1", scope, (subject,), "a court's order", STARTED, "root@n1")


@pytest.mark.parametrize(
    "held",
    [
        hold("account", "acme"),
        hold("account", "carrier"),
        hold("person", CALLER),
        hold("person", CALLED),
        hold("call", "c1"),
    ],
)
def test_a_hold_keeps_what_is_in_it_until_it_is_released(held: Hold) -> None:
    made = plan([kept()], Holds([held]))
    assert made.erased == () and made.held == ((kept(), held),)
    released = replace(held, released=STARTED)
    assert plan([kept()], Holds([released])).erased == (kept(),)


@pytest.mark.parametrize(
    "other", [hold("account", CALLER), hold("person", "acme"), hold("call", "c2")]
)
def test_a_hold_on_something_else_keeps_nothing(other: Hold) -> None:
    assert plan([kept()], Holds([other])).erased == (kept(),)


def test_a_recording_is_removed_once() -> None:
    erased = replace(recording("c1"), object="", keys=(), problem=ERASED)
    assert plan([replace(kept(), recording=erased)], Holds([])).recordings == ()
    assert plan([kept()], Holds([])).recordings == (recording("c1"),)


def test_retention_counts_from_the_end_of_a_call() -> None:
    found = cutoffs({"acme": 30.0, "carrier": 0.5}, STARTED)
    assert found == {
        "acme": STARTED - timedelta(days=30),
        "carrier": STARTED - timedelta(hours=12),
    }


def certified(keyring: KeyRing, *pending: str) -> dict[str, Any]:
    removals = [
        Removal(each.id, each.object, each.sha256, 4096, None if each.id in pending else STARTED)
        for each in (recording("c2"), recording("c1"))
    ]
    request = Request("er-1", "ie1", "Example", STARTED, "root@n1", "DSR-17")
    held = [(kept("c4"), hold("call", "c4"))]
    erased = Erased(request, ["c3", "c1", "c2"], removals, [])
    return certificate(erased, held, 0, keyring.signer)


def test_the_certificate_says_what_went_and_what_did_not(keyring: KeyRing) -> None:
    found = certified(keyring)
    assert found["calls_redacted"] == ["c1", "c2", "c3"]
    assert [(each["id"], each["audio"]) for each in found["recordings"]] == [
        ("rec-c1", "removed"),
        ("rec-c2", "removed"),
    ]
    assert found["recordings"][0]["sha256"] == recording("c1").sha256
    assert found["held"] == [{"call": "c4", "hold": "hold-1"}]
    assert found["complete"] is False  # something is held
    waiting = certified(keyring, "rec-c2")
    assert [each["data_key"] for each in waiting["recordings"]] == ["removed", "pending"]


def test_nobody_is_in_the_certificate(keyring: KeyRing) -> None:
    said = json.dumps(certified(keyring))
    assert CALLER not in said and CALLED not in said


def test_each_field_of_the_certificate_is_signed(keyring: KeyRing) -> None:
    found = certified(keyring)
    assert is_signed_by(found, keyring.public_keys)
    for name in found:
        assert not is_signed_by({**found, name: "changed"}, keyring.public_keys), name
        without = {key: part for key, part in found.items() if key != name}
        assert not is_signed_by(without, keyring.public_keys), name


def test_a_certificate_that_was_changed_does_not_verify(keyring: KeyRing) -> None:
    found = certified(keyring)
    assert problem_of(found, keyring.public_keys) == ""
    assert "signature" in problem_of({**found, "complete": True}, keyring.public_keys)
    assert "signature" in problem_of(found, {})
    for other in ({**found, "kind": "relay-receipt"}, [found], None):
        assert "no certificate" in problem_of(other, keyring.public_keys)
