"""The port pool: even/odd pairs, random order, rest after use, and the checks at start."""

from __future__ import annotations

import resource

import pytest

from relay.errors import NoMediaPorts
from relay.media.port_pool import PortPool, check_limits


def test_pairs_are_even_and_lie_within_the_range() -> None:
    pool = PortPool(20001, 20011)
    taken = sorted(pool.take(0.0) for _ in range(pool.pairs))
    assert taken == [20002, 20004, 20006, 20008, 20010]


def test_an_exhausted_pool_says_so() -> None:
    pool = PortPool(20000, 20001)
    pool.take(0.0)
    with pytest.raises(NoMediaPorts) as refused:
        pool.take(0.0)
    assert refused.value.status_hint == 503


def test_a_pair_rests_before_it_is_used_again() -> None:
    pool = PortPool(20000, 20001, quarantine_s=6.0)
    pool.give_back(pool.take(0.0), 10.0)
    with pytest.raises(NoMediaPorts):
        pool.take(15.9)
    assert pool.take(16.0) == 20000


def test_an_unused_pair_needs_no_rest() -> None:
    pool = PortPool(20000, 20001)
    pool.restore(pool.take(0.0))
    assert pool.take(0.0) == 20000


def test_the_order_is_not_predictable() -> None:
    orders = {tuple(pool.take(0.0) for _ in range(20)) for pool in (PortPool(20000, 29999),) * 1}
    orders |= {tuple(PortPool(20000, 29999).take(0.0) for _ in range(20)) for _ in range(3)}
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("first", "last"), [(20001, 20001), (20000, 20000), (0, 10), (65000, 70000)]
)
def test_a_range_without_a_pair_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="pair"):
        PortPool(first, last)


def test_limits_are_explained() -> None:
    assert check_limits((20000, 20399), 100) == []
    assert any("widen media.ports" in text for text in check_limits((20000, 20398), 100))
    overlapping = check_limits((20000, 40000), 10)
    assert any("ip_local_port_range" in text for text in overlapping)


def test_too_few_open_files_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    problems = check_limits((20000, 24000), 500)
    assert len(problems) == 1
    assert "open-file limit is 1024" in problems[0]
    assert "2256" in problems[0]
    (problem,) = check_limits((20000, 24000), 100, 1000)
    assert "100 calls and 1000 voice clients need 1656" in problem
