"""Rows that nobody stands out in: each looks like those of at least k others (k-anonymity).

What one row shows alone could be found again in a second export, or in what somebody knows
anyway, and would join the two. So a row is told as finely as k different subjects share it, and
not at all if they never do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

Source = TypeVar("Source")
Look = TypeVar("Look", bound=Hashable)


def crowd(
    sources: Iterable[Source],
    k: int,
    looks: Sequence[Callable[[Source], Look]],
    subject: Callable[[Source], str],
) -> tuple[list[tuple[Source, Look]], list[Source]]:
    """Each source with its look, by the first of `looks` (finest first) that at least `k` subjects
    share among those that are left; and the sources that no crowd was found for."""
    left = list(sources)
    shown: list[tuple[Source, Look]] = []
    for look in looks:
        alike: defaultdict[Look, list[Source]] = defaultdict(list)
        for source in left:
            alike[look(source)].append(source)
        left = []
        for seen, members in alike.items():
            if len({subject(member) for member in members}) >= k:
                shown += [(member, seen) for member in members]
            else:
                left += members
    return shown, left
