"""What of a call may be shown outside: nothing of whom, and no two readers can join it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from relay.residency.pseudonym import Pseudonyms, country_of, pseudonymised
from tests.unit.access_samples import CALLED, CALLER, NOW, call

OURS, THEIRS = Pseudonyms(bytes(32)), Pseudonyms(bytes(31) + b"\1")


def test_the_same_for_one_reader_another_for_the_next() -> None:
    assert OURS.of("number", CALLER) == Pseudonyms(bytes(32)).of("number", CALLER)
    assert OURS.of("number", CALLER) != THEIRS.of("number", CALLER)
    assert OURS.of("number", CALLER) != OURS.of("identity", CALLER)
    assert OURS.of("number", CALLER) != OURS.of("number", CALLED)
    assert len(OURS.of("number", CALLER)) == 16 and OURS.of("number", "") == ""


def test_a_short_key_is_none() -> None:
    with pytest.raises(ValueError, match="32 octets"):
        Pseudonyms(bytes(16))


def test_nothing_of_a_person_is_in_it() -> None:
    record = call(started=NOW + timedelta(seconds=1234))
    text = json.dumps(pseudonymised(record, OURS))
    for secret in (CALLER, CALLED, CALLER[4:], "alice", "192.0.2.7", "abc@", "r-c1", "2026/c1"):
        assert secret not in text
    assert record.started.isoformat() not in text


def test_what_is_left_is_coarse() -> None:
    shown = pseudonymised(call(started=NOW.replace(minute=59)), OURS)
    assert shown["hour"].endswith(":00:00+00:00") and shown["minutes"] == 2
    assert (shown["caller_country"], shown["called_country"]) == ("IE", "DE")
    assert shown["legs"][1]["peer"] == "app" and shown["recorded"]


@pytest.mark.parametrize(
    ("number", "country"),
    [("+442079460000", "GB"), ("alice", "ZZ"), ("", "ZZ"), ("+999", "ZZ"), ("0155501", "ZZ")],
)
def test_a_number_has_a_country_or_none(number: str, country: str) -> None:
    assert country_of(number) == country
