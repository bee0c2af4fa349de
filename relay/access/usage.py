"""What leaves the region for billing and support: calls under pseudonyms.

A call is one row, under a pseudonym that only its recipient has, and only for one period. What
two recipients could both see of it (hour, countries, minutes …) is shown only as finely as the
calls of k callers share it (`crowd`), rows are in the order of their pseudonyms, and no pseudonym
of a number is on a call: how often a number calls is as good as a name. Numbers have rows of their
own, in bands. What no crowd was found for is summed up by account, so that the totals are whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from relay.access.crowd import crowd
from relay.residency.pseudonym import country_of, minutes_of
from relay.residency.record import CallRecord, LegRecord

K = 5
LEAST_K = 2
# The pseudonym of a value of this kind ("call", "number"), for one recipient and one period.
Pseudonym = Callable[[str, str], str]

_WRITTEN = str.maketrans("", "", "-.() ")
_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_CALLS = (1, 5, 20, 100, 500)
_MINUTES = (0, 10, 60, 300, 1500)


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month, in UTC: `since` is in it, `until` is not."""

    name: str
    since: datetime
    until: datetime

    @staticmethod
    def parse(text: str) -> Period:
        """Of "2026-11". Raises ValueError."""
        match = _PERIOD.fullmatch(text)
        if match is None or match[1] in ("0000", "9999"):
            raise ValueError(f"{text!r} is not a month such as 2026-11")
        year, month = int(match[1]), int(match[2])
        until = (year + 1, 1) if month == 12 else (year, month + 1)
        return Period(text, datetime(year, month, 1, tzinfo=UTC), datetime(*until, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class CallUsage:
    """One call. `time` is its hour, or day, or month (UTC), as finely as a crowd shares it; what
    is told less finely is empty. `minutes` are begun ones."""

    call: str
    entity: str
    region: str
    account: str
    to_account: str
    time: str
    from_country: str
    to_country: str
    outcome: str
    minutes: int
    quality: str


@dataclass(frozen=True, slots=True)
class NumberUsage:
    """How much one number called with one account in the period, in bands such as "6-20"."""

    number: str
    entity: str
    region: str
    account: str
    country: str
    calls: str
    minutes: str


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """The whole period of one account; `apart` is what of it is on no row of a call."""

    account: str
    calls: int = 0
    answered: int = 0
    minutes: int = 0
    calls_apart: int = 0
    minutes_apart: int = 0


@dataclass(frozen=True, slots=True)
class Export:
    """What one recipient gets of one period."""

    calls: tuple[CallUsage, ...]
    numbers: tuple[NumberUsage, ...]
    accounts: tuple[AccountUsage, ...]
    numbers_apart: int  # of how many numbers nothing is told

    def summary(self) -> dict[str, Any]:
        """Of the document beside the rows."""
        return {
            "calls": len(self.calls),
            "numbers": len(self.numbers),
            "numbers_apart": self.numbers_apart,
            "accounts": [asdict(account) for account in self.accounts],
        }


class Precision(NamedTuple):
    """How finely a call is told."""

    time: str
    quality: bool
    origin: bool
    destination: bool


PRECISIONS = (
    Precision("%Y-%m-%dT%HZ", quality=True, origin=True, destination=True),
    Precision("%Y-%m-%dT%HZ", quality=False, origin=True, destination=True),
    Precision("%Y-%m-%d", quality=False, origin=True, destination=True),
    Precision("%Y-%m", quality=False, origin=True, destination=True),
    Precision("%Y-%m", quality=False, origin=False, destination=True),
    Precision("%Y-%m", quality=False, origin=False, destination=False),
)


class _Numbered(NamedTuple):
    """One number's calls with one account."""

    account: str
    number: str
    calls: int
    minutes: int


def export(
    records: Iterable[CallRecord], entity: str, region: str, pseudonym: Pseudonym, k: int = K
) -> Export:
    """The export of calls that have ended. Raises ValueError for a k that hides nobody."""
    if k < LEAST_K:
        raise ValueError(f"k = {k} hides nobody: it is at least {LEAST_K}")
    ended = [record for record in records if record.ended is not None]
    shown, apart = crowd(
        ended,
        k,
        [partial(_call, entity, region, precision) for precision in PRECISIONS],
        _caller,
    )
    numbers, numbers_apart = _numbers(ended, entity, region, pseudonym, k)
    calls = [replace(look, call=pseudonym("call", record.id)) for record, look in shown]
    return Export(
        tuple(sorted(calls, key=lambda row: row.call)),
        tuple(sorted(numbers, key=lambda row: row.number)),
        tuple(_accounts(ended, apart)),
        numbers_apart,
    )


def account_of(record: CallRecord) -> str:
    """The trunk or account that called, which is whose call it is."""
    return _peer(record, "caller")


def _peer(record: CallRecord, side: str) -> str:
    return next((leg.peer for leg in record.legs if leg.side == side), "")


def _caller(record: CallRecord) -> str:
    """Who stands out, if somebody does. Callers that are not known are one, and so is a number
    however its peer writes it."""
    name = record.caller or next((leg.identity for leg in record.legs if leg.side == "caller"), "")
    return name.casefold().translate(_WRITTEN).lstrip("+0")


def _call(entity: str, region: str, precision: Precision, record: CallRecord) -> CallUsage:
    return CallUsage(
        call="",
        entity=entity,
        region=region,
        account=account_of(record),
        to_account=_peer(record, "callee"),
        time=record.started.astimezone(UTC).strftime(precision.time),
        from_country=country_of(record.caller) if precision.origin else "",
        to_country=country_of(record.called) if precision.destination else "",
        outcome=_outcome(record),
        minutes=minutes_of(record),
        quality=_quality(record.legs) if precision.quality else "",
    )


def _outcome(record: CallRecord) -> str:
    """ "answered", or the class of the refusal, such as "4xx"."""
    if record.answered is not None:
        return "answered"
    return f"{record.status // 100}xx" if record.status else "unanswered"


def _quality(legs: Iterable[LegRecord]) -> str:
    """Of the worse leg, by its MOS (ITU-T G.107 annex B: from 4.03 "satisfied", to 3.60)."""
    figures = [leg.mos for leg in legs if leg.mos is not None]
    if not figures:
        return ""
    worst = min(figures)
    return "good" if worst >= 4.03 else "fair" if worst >= 3.6 else "poor"


def _numbers(
    records: Iterable[CallRecord], entity: str, region: str, pseudonym: Pseudonym, k: int
) -> tuple[list[NumberUsage], int]:
    counted: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        if record.caller:
            figures = counted[account_of(record), record.caller]
            figures[0] += 1
            figures[1] += minutes_of(record)
    sources = [_Numbered(*key, *figures) for key, figures in counted.items()]

    def look(source: _Numbered, with_country: bool, with_minutes: bool) -> NumberUsage:
        return NumberUsage(
            number="",
            entity=entity,
            region=region,
            account=source.account,
            country=country_of(source.number) if with_country else "",
            calls=band(source.calls, _CALLS),
            minutes=band(source.minutes, _MINUTES) if with_minutes else "",
        )

    looks = [
        lambda source: look(source, True, True),
        lambda source: look(source, False, True),
        lambda source: look(source, False, False),
    ]
    shown, apart = crowd(sources, k, looks, lambda source: source.number)
    # One number with two accounts is two pseudonyms: its rows do not tell of each other.
    rows = [
        replace(seen, number=pseudonym("number", f"{source.account} {source.number}"))
        for source, seen in shown
    ]
    return rows, len(apart)


def band(value: int, steps: tuple[int, ...]) -> str:
    """The band of a count: of (1, 5, 20) those up to 1, "2-5", "6-20", and "21+"."""
    low = 0
    for step in steps:
        if value <= step:
            return str(step) if low in (0, step) else f"{low}-{step}"
        low = step + 1
    return f"{low}+"


def _accounts(ended: Iterable[CallRecord], apart: Iterable[CallRecord]) -> list[AccountUsage]:
    found: defaultdict[str, AccountUsage] = defaultdict(lambda: AccountUsage(""))
    for record in ended:
        name = account_of(record)
        had = found[name]
        found[name] = replace(
            had,
            account=name,
            calls=had.calls + 1,
            answered=had.answered + (record.answered is not None),
            minutes=had.minutes + minutes_of(record),
        )
    for record in apart:
        had = found[account_of(record)]
        found[had.account] = replace(
            had,
            calls_apart=had.calls_apart + 1,
            minutes_apart=had.minutes_apart + minutes_of(record),
        )
    return [found[name] for name in sorted(found)]
