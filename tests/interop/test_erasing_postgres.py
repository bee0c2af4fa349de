"""Erasures in a real PostgreSQL: the same as in SQLite, whose tests run here again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from relay.database.session import opened
from relay.keys.ring import KeyRing
from tests.interop.postgres import Cluster, cluster, database
from tests.unit.test_erasing import (
    Region,
    Run,
    Steps,
    test_a_call_that_lasts_is_redacted_when_it_ends_and_its_recording_goes,
    test_a_hold_keeps_a_call_until_it_is_released,
    test_a_replay_of_the_queue_brings_nothing_back,
    test_a_store_that_is_away_is_told_and_tried_again,
    test_all_of_a_person_goes_and_nothing_of_others,
    test_an_identity_is_one_accounts,
    test_what_is_older_than_it_is_kept_for_expires,
)

__all__ = [
    "test_a_call_that_lasts_is_redacted_when_it_ends_and_its_recording_goes",
    "test_a_hold_keeps_a_call_until_it_is_released",
    "test_a_replay_of_the_queue_brings_nothing_back",
    "test_a_store_that_is_away_is_told_and_tried_again",
    "test_all_of_a_person_goes_and_nothing_of_others",
    "test_an_identity_is_one_accounts",
    "test_what_is_older_than_it_is_kept_for_expires",
]
NAMES = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def run(server: Cluster, keyring: KeyRing) -> Run:
    """In an empty database of its own."""
    name = f"erasing{next(NAMES)}"
    server.create(name)

    def run(steps: Steps) -> None:
        async def main() -> None:
            async with opened(database(server.settings(name))) as found:
                await steps(Region(found, keyring))

        asyncio.run(main())

    return run
