"""What leaves the region: nothing of the source, and nothing that two recipients could join."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.access.crowd import crowd
from relay.access.usage import Period, band, export
from relay.residency.pseudonym import Pseudonyms, minutes_of
from relay.residency.record import CallRecord
from tests.unit.kept_records import call, month

MONTH = month(4000, 150)
K = 5
PSEUDONYMS = {name: Pseudonyms(name.encode() * 5).of for name in ("billing", "support")}
BILLING = export(MONTH, "Example Voice Ireland Ltd", "ie1", PSEUDONYMS["billing"], K)
SUPPORT = export(MONTH, "Example Voice Ireland Ltd", "ie1", PSEUDONYMS["support"], K)


def _text() -> str:
    rows = [*BILLING.calls, *BILLING.numbers, *BILLING.accounts]
    return "\n".join(json.dumps(asdict(row)) for row in rows) + json.dumps(BILLING.summary())


def _source(record: CallRecord) -> set[str]:
    """Everything of a record that names or finds somebody."""
    found = {record.id, record.caller, record.called}
    for leg in record.legs:
        found |= {leg.number, leg.sip_call_id, leg.identity, *(seen.host for seen in leg.seen)}
    if record.recording is not None:
        found |= {record.recording.id, record.recording.object, record.recording.sha256}
    return found - {""}


def test_nothing_of_the_source_appears() -> None:
    text = _text()
    assert "acme" in text and "Example Voice Ireland Ltd" in text  # whose it is, does
    told = set(re.findall(r"[^\s\",:{}]+", text))
    assert told.isdisjoint(value for record in MONTH for value in _source(record))
    for record in MONTH[:60]:  # not as a part of something longer, either
        for value in _source(record):
            assert value.lstrip("+") not in text
    assert not re.search(r"T\d\d:\d\d", text)  # the hour, and nothing of the minute
    assert not re.search(r"\b\d{1,3}(\.\d{1,3}){3}\b", text)


def test_recipients_share_no_pseudonym() -> None:
    for ours, theirs in ((BILLING.calls, SUPPORT.calls), (BILLING.numbers, SUPPORT.numbers)):
        names = {next(iter(asdict(row).values())) for row in ours}
        assert len(names) == len(ours) and names.isdisjoint(
            next(iter(asdict(row).values())) for row in theirs
        )


def test_what_a_call_shows_shows_it_among_k_callers() -> None:
    """Whoever has both exports has at least k candidates for each row, of k different callers."""
    by_pseudonym = {PSEUDONYMS["billing"]("call", record.id): record for record in MONTH}
    alike: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    for row in BILLING.calls:
        caller = by_pseudonym[row.call].caller
        alike[tuple(value for key, value in asdict(row).items() if key != "call")].add(caller)
    assert len(alike) > 20
    assert min(len(callers) for callers in alike.values()) >= K


def test_how_often_a_number_calls_is_shared_by_k_numbers() -> None:
    alike = Counter(
        tuple(value for key, value in asdict(row).items() if key != "number")
        for row in BILLING.numbers
    )
    assert alike and min(alike.values()) >= K


def test_no_pseudonym_of_a_number_is_on_a_call() -> None:
    numbers = {row.number for row in BILLING.numbers}
    for row in BILLING.calls:
        assert numbers.isdisjoint(str(value) for value in asdict(row).values())


def test_the_order_of_rows_joins_nothing() -> None:
    """A row's place in one export tells nothing of its place in another."""
    place: dict[str, list[int]] = defaultdict(list)
    for recipient, rows in (("billing", BILLING.calls), ("support", SUPPORT.calls)):
        name = PSEUDONYMS[recipient]
        at = {row.call: number for number, row in enumerate(rows)}
        for record in MONTH:
            if (found := at.get(name("call", record.id))) is not None:
                place[record.id].append(found)
    pairs = [tuple(both) for both in place.values()]
    same = sum(ours == theirs for ours, theirs in pairs)
    assert len(pairs) == len(BILLING.calls) and same < 10
    middle = (len(pairs) - 1) / 2
    covariance = sum((ours - middle) * (theirs - middle) for ours, theirs in pairs)
    variance = sum((ours - middle) ** 2 for ours, _ in pairs)
    assert abs(covariance / variance) < 0.1


def test_the_totals_are_whole() -> None:
    for account in BILLING.accounts:
        of_it = [record for record in MONTH if record.legs[0].peer == account.account]
        rows = [row for row in BILLING.calls if row.account == account.account]
        assert account.calls == len(of_it) == len(rows) + account.calls_apart
        assert account.minutes == sum(map(minutes_of, of_it))
        assert account.minutes == sum(row.minutes for row in rows) + account.minutes_apart
    assert sum(account.calls_apart for account in BILLING.accounts) < len(MONTH) / 4


def test_a_lone_call_is_in_the_totals_only() -> None:
    alone = export([call(spoken_s=61)], "", "ie1", PSEUDONYMS["billing"])
    assert alone.calls == () and alone.numbers == () and alone.numbers_apart == 1
    assert alone.accounts[0].minutes_apart == 2


def test_a_call_that_lasts_is_not_told_yet() -> None:
    lasting = replace(call(), ended=None)
    assert export([lasting], "", "ie1", PSEUDONYMS["billing"]).accounts == ()


def test_a_k_that_hides_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="hides nobody"):
        export([], "", "ie1", PSEUDONYMS["billing"], 1)


def test_many_calls_of_one_caller_are_no_crowd() -> None:
    calls = [call(f"c{at}", started=call().started + timedelta(seconds=at)) for at in range(20)]
    assert export(calls, "", "ie1", PSEUDONYMS["billing"]).calls == ()


def test_a_number_however_it_is_written_is_one_caller() -> None:
    written = (
        "+353861234567",
        "353861234567",
        "00353861234567",
        "+353 86 123-4567",
        "353(86)1234567",
    )
    made = export(
        [call(f"c{n}", caller=each) for n, each in enumerate(written)],
        "x",
        "r",
        PSEUDONYMS["billing"],
        K,
    )
    assert not made.calls and made.accounts[0].calls_apart == len(written)


def test_a_crowd_is_found_at_the_finest_step_that_has_one() -> None:
    shown, left = crowd(
        [1, 2, 3, 11, 21], 3, [lambda x: x // 10, lambda x: 99 if x < 20 else x], str
    )
    assert sorted(shown) == [(1, 0), (2, 0), (3, 0)] and left == [11, 21]


def test_bands() -> None:
    steps = (1, 5, 20)
    assert [band(value, steps) for value in (1, 2, 5, 6, 20, 21)] == [
        *("1", "2-5", "2-5", "6-20", "6-20", "21+"),
    ]
    assert [band(value, (0, 10)) for value in (0, 1, 11)] == ["0", "1-10", "11+"]


def test_a_period_is_a_month() -> None:
    period = Period.parse("2026-12")
    assert period.since == datetime(2026, 12, 1, tzinfo=UTC)
    assert period.until == datetime(2027, 1, 1, tzinfo=UTC)
    for wrong in ("2026-13", "2026", "2026-1", "2026Q4", "0000-01", ""):
        with pytest.raises(ValueError, match="is not a month"):
            Period.parse(wrong)
