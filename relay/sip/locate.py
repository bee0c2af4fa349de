"""Locating a SIP server (RFC 3263): which hops a URI means, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def by_weight(choices: Iterable[tuple[int, T]], chance: Callable[[], float]) -> list[T]:
    """All of equal priority in an order drawn by weight (RFC 2782, "Weight").

    `chance` gives 0 ≤ x < 1. One of weight 0 comes after all that have a weight.
    """
    left = list(choices)
    drawn: list[T] = []
    while left:
        total = sum(weight for weight, _ in left)
        mark, at = chance() * (total or len(left)), 0
        while at < len(left) - 1 and (mark := mark - (left[at][0] if total else 1)) >= 0:
            at += 1
        drawn.append(left.pop(at)[1])
    return drawn
