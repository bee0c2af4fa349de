"""Limits of trunks and of the region, in virtual time."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from relay.call.admission import REGION, Admission
from relay.config import Account, Config, Limits, TokenKey, Trunk, example
from relay.errors import Refused


def admission(calls_per_second: float, concurrent_calls: int) -> Admission:
    trunks = tuple(
        Trunk(name=name, calls_per_second=calls_per_second, concurrent_calls=concurrent_calls)
        for name in ("acme", "carrier")
    )
    config: Config = example().model_copy(update={"trunk": trunks})
    return Admission(config)


def refused(limits: Admission, now: float, trunk: str = "acme") -> Refused:
    with pytest.raises(Refused) as error:
        limits.admit((trunk,), now)
    return error.value


def test_the_call_beyond_concurrent_calls_is_refused_until_one_ends() -> None:
    limits = admission(1000.0, 2)
    limits.admit(("acme",), 0.0)
    limits.admit(("acme",), 0.0)
    error = refused(limits, 0.0)
    assert error.status == 503
    assert error.text == "concurrent_calls of trunk acme is 2"
    assert error.retry_after_s is not None and error.retry_after_s >= 1
    limits.release(("acme",))
    limits.admit(("acme",), 0.0)
    assert limits.active("acme") == 2


def test_trunks_do_not_share_limits() -> None:
    limits = admission(1.0, 1)
    limits.admit(("acme",), 0.0)
    limits.admit(("carrier",), 0.0)
    assert refused(limits, 100.0).text.startswith("concurrent_calls of trunk acme")


def test_calls_per_second_names_the_limit_and_when_to_come_back() -> None:
    limits = admission(0.25, 100)
    limits.admit(("acme",), 50.0)
    error = refused(limits, 50.0)
    assert error.status == 503
    assert error.text == "calls_per_second of trunk acme is 0.25"
    assert error.retry_after_s == 4
    assert refused(limits, 53.0).retry_after_s == 1
    limits.admit(("acme",), 54.0)


def test_a_second_of_calls_may_come_at_once_and_no_more() -> None:
    limits = admission(10.0, 1000)
    for _ in range(10):
        limits.admit(("acme",), 5.0)
    refused(limits, 5.0)
    for _ in range(10):
        limits.admit(("acme",), 500.0)  # a long silence saves up one second only
    refused(limits, 500.0)


@pytest.mark.parametrize("rate", [3.0, 7.0, 10.0, 100.0])
def test_calls_on_the_beat_of_the_limit_all_pass(rate: float) -> None:
    limits = admission(rate, 100000)
    start = 12345.678
    for _ in range(int(rate)):
        limits.admit(("acme",), start)
    for number in range(1, 1000):
        limits.admit(("acme",), start + number / rate)


def test_over_a_minute_the_rate_holds() -> None:
    limits = admission(20.0, 100000)
    passed = 0
    for tick in range(60 * 1000):
        try:
            limits.admit(("acme",), tick / 1000)
            passed += 1
        except Refused:
            pass
    assert 60 * 20 <= passed <= 61 * 20


def test_a_refused_call_counts_nowhere() -> None:
    limits = admission(1.0, 5)
    limits.admit(("acme",), 0.0)
    refused(limits, 0.0)
    assert limits.active("acme") == 1


def test_a_clock_that_stands_or_steps_back_gives_no_tokens() -> None:
    limits = admission(1.0, 100)
    limits.admit(("acme",), 10.0)
    refused(limits, 9.0)
    refused(limits, 10.5)
    limits.admit(("acme",), 11.0)


def test_a_release_too_many_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        admission(1.0, 1).release(("acme",))


BOTH = ("acme", "carrier", REGION)


def regional(limits: Limits, **trunk: float) -> Admission:
    trunks = tuple(
        Trunk(name=name, calls_per_second=1000.0, **trunk) for name in ("acme", "carrier")
    )
    return Admission(example().model_copy(update={"trunk": trunks, "limits": limits}))


def test_the_region_counts_a_call_once_and_names_its_limit() -> None:
    limits = regional(Limits(concurrent_calls=2))
    limits.admit(BOTH, 0.0)
    limits.admit(BOTH, 0.0)
    with pytest.raises(Refused, match="concurrent_calls of region ie1 is 2"):
        limits.admit(BOTH, 0.0)
    limits.release(BOTH)
    limits.admit(BOTH, 0.0)
    assert [limits.active(name) for name in BOTH] == [2, 2, 2]


def test_what_the_region_refuses_takes_nothing_from_a_trunk() -> None:
    trunks = tuple(Trunk(name=name, calls_per_second=2.0) for name in ("acme", "carrier"))
    limits = Admission(
        example().model_copy(update={"trunk": trunks, "limits": Limits(calls_per_second=1.0)})
    )
    limits.admit(BOTH, 0.0)
    for _ in range(5):
        with pytest.raises(Refused, match="calls_per_second of region ie1 is 1"):
            limits.admit(BOTH, 0.0)
    limits.admit(("acme",), 0.0)  # the trunk's second token is still there
    assert [limits.active(name) for name in BOTH] == [2, 1, 1]


def test_what_a_trunk_refuses_takes_nothing_from_the_region_or_the_other_trunk() -> None:
    limits = admission(1.0, 100)
    limits.admit(("carrier",), 0.0)
    for _ in range(5):
        with pytest.raises(Refused, match="calls_per_second of trunk carrier is 1") as refused:
            limits.admit(BOTH, 0.0)
        assert refused.value.text == "calls_per_second of the called side is reached"
    limits.admit(("acme",), 0.0)
    assert [limits.active(name) for name in BOTH] == [1, 1, 0]


def test_a_region_without_limits_has_none() -> None:
    limits = regional(Limits(), concurrent_calls=100000)
    for number in range(900):
        limits.admit(BOTH, number / 900)
    assert limits.longest(BOTH) is None


@pytest.mark.parametrize(
    ("region_s", "trunk_s", "expected"),
    [
        (60.0, None, (60.0, "call_duration_s of region ie1 is 60")),
        (60.0, 30.5, (30.5, "call_duration_s of trunk acme is 30.5")),
        (60.0, 90.0, (60.0, "call_duration_s of region ie1 is 60")),
        (None, 90.0, (90.0, "call_duration_s of trunk acme is 90")),
    ],
)
def test_the_lowest_limit_on_duration_counts(
    region_s: float | None, trunk_s: float | None, expected: tuple[float, str]
) -> None:
    limits = regional(Limits(call_duration_s=region_s), call_duration_s=trunk_s)
    assert limits.longest(BOTH) == expected


def test_an_account_has_limits_as_a_trunk_has() -> None:
    """Its clients share them, whoever calls."""
    key = TokenKey(id="k1", secret=SecretStr("0123456789abcdef" * 2))
    account = Account(name="app", keys=(key,), concurrent_calls=1, call_duration_s=60.0)
    limits = Admission(example().model_copy(update={"account": (account,)}))
    limits.admit(("app", REGION), 0.0)
    assert refused(limits, 0.0, "app").text == "concurrent_calls of account app is 1"
    assert limits.longest(("app", REGION)) == (60.0, "call_duration_s of account app is 60")
