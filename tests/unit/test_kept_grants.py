"""Grants in SQLite: they come back as they were, and a row that was written by hand does not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.access.grant import Grant, Scope, State, request
from relay.access.ports import Counts, Query
from relay.config import Database as Settings
from relay.database.call_records import CallRecords
from relay.database.grants import KeptGrants
from relay.database.session import Database, opened
from relay.errors import DatabaseUnavailable, Forbidden, NotAuthentic, NotKept
from relay.keys.ring import KeyRing
from relay.residency.boundary import Boundary
from tests.unit.access_samples import AOIFE, BRIAN, HOUR, JANE, NOW, POLICY, call

Steps = Callable[[KeptGrants], Awaitable[None]]


def asked(id_: str = "g1") -> Grant:
    scope = Scope(frozenset({"c1", "c2"}), "acme", NOW - HOUR, NOW)
    return request(id_, JANE, POLICY, "ticket 7 of Mrs Byrne", scope, NOW + HOUR, NOW)


def database_in(directory: Path) -> Database:
    return Database(Settings(url=f"sqlite:{directory}/relay.db"), Boundary(()))


def run(directory: Path, keys: KeyRing, steps: Steps) -> None:
    async def main() -> None:
        async with opened(database_in(directory)) as database:
            await steps(KeptGrants(database, keys))

    asyncio.run(main())


def test_each_state_comes_back(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(grants: KeptGrants) -> None:
        await grants.add(asked())
        assert await grants.find("g1") == asked()
        approved = await grants.change("g1", lambda found: found.approve(AOIFE, POLICY, NOW))
        assert await grants.find("g1") == approved == asked().approve(AOIFE, POLICY, NOW)
        revoked = await grants.change("g1", lambda found: found.revoke(BRIAN, POLICY, NOW))
        assert await grants.find("g1") == revoked and revoked.state is State.REVOKED
        late = replace(asked("g2"), requested=NOW + HOUR, requester="joe")
        await grants.add(late)
        assert [grant.id for grant in await grants.all()] == ["g2", "g1"]
        assert await grants.of("joe") == [late] and await grants.of("jo") == []
        assert await grants.find("g3") is None

    run(tmp_path, keyring, steps)


def test_what_may_not_change_does_not(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(grants: KeptGrants) -> None:
        await grants.add(asked())
        with pytest.raises(Forbidden):
            await grants.change("g1", lambda found: found.approve(JANE, POLICY, NOW))
        assert await grants.find("g1") == asked()
        with pytest.raises(NotKept):
            await grants.change("g2", lambda found: found)

    run(tmp_path, keyring, steps)


def test_two_approvers_at_once_are_two_approvals(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(grants: KeptGrants) -> None:
        await grants.add(replace(asked(), needed=2))
        await asyncio.gather(
            *(
                grants.change("g1", lambda found, by=by: found.approve(by, POLICY, NOW))
                for by in (AOIFE, BRIAN)
            )
        )
        kept = await grants.find("g1")
        assert kept is not None and kept.state is State.APPROVED
        assert {approval.by for approval in kept.approvals} == {"aoife", "brian"}

    run(tmp_path, keyring, steps)


def test_a_row_written_by_hand_is_no_grant(tmp_path: Path, keyring: KeyRing) -> None:
    """Who can write to the database can still not approve, move or take back the state of one."""

    async def make(grants: KeptGrants) -> None:
        await grants.add(asked())
        await grants.change("g1", lambda found: found.approve(AOIFE, POLICY, NOW))
        await grants.add(asked("g2"))

    run(tmp_path, keyring, make)
    by_hand = sqlite3.connect(tmp_path / "relay.db")
    ((approved,),) = by_hand.execute("SELECT sealed FROM grants WHERE id = 'g1'")
    assert b"Byrne" not in approved and b"acme" not in approved
    by_hand.execute("UPDATE grants SET sealed = ?, version = 2 WHERE id = 'g2'", (approved,))
    by_hand.execute("UPDATE grants SET version = 3 WHERE id = 'g1'")
    by_hand.commit()
    by_hand.close()

    async def read(grants: KeptGrants) -> None:
        for each in ("g1", "g2"):
            with pytest.raises(NotAuthentic):
                await grants.find(each)

    run(tmp_path, keyring, read)


def test_a_row_of_one_requester_is_nobody_elses(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(grants: KeptGrants) -> None:
        await grants.add(asked())
        with sqlite3.connect(tmp_path / "relay.db") as by_hand:
            by_hand.execute("UPDATE grants SET requester = 'joe'")
        with pytest.raises(NotAuthentic):
            await grants.of("joe")

    run(tmp_path, keyring, steps)


def test_a_database_that_is_away_is_told(tmp_path: Path, keyring: KeyRing) -> None:
    async def main() -> None:
        (tmp_path / "relay.db").mkdir()
        database = database_in(tmp_path)
        with pytest.raises(DatabaseUnavailable):
            await KeptGrants(database, keyring).find("g1")
        await database.close()

    asyncio.run(main())


def test_calls_are_counted(tmp_path: Path, keyring: KeyRing) -> None:
    async def main() -> None:
        async with opened(database_in(tmp_path)) as database:
            records = CallRecords(database, keyring)
            await records.keep(
                call("c1"),
                call("c2", NOW - HOUR, recording=None),
                call("c3", NOW - 2 * HOUR, "other", recording=None, answered=None),
            )
            assert await records.count(Query()) == Counts(3, 2, 1, 180.0)
            assert await records.count(Query(peer="acme", limit=1)) == Counts(2, 2, 1, 180.0)
            assert await records.count(Query(since=NOW)) == Counts(1, 1, 1, 90.0)
            assert await records.count(Query(until=NOW - 9 * HOUR)) == Counts()

    asyncio.run(main())
