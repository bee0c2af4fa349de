"""Erasures carried through: nothing of it is left, and nothing of it comes back."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.access.erasing import Erasing
from relay.access.erasure import Person, Request, Scope
from relay.config import Database as Settings
from relay.database.call_records import CallRecords, Query
from relay.database.erasures import Erasures
from relay.database.holds import LegalHolds
from relay.database.rows import Rows, rows_of
from relay.database.session import Database, opened
from relay.errors import AuditUnavailable, KeyMissing, NotKept, StoreError
from relay.keys.ring import KeyRing
from relay.residency.audit import RELAY, Actor
from relay.residency.boundary import Boundary
from relay.residency.record import CallRecord
from relay.residency.signing import Signer, is_signed_by
from tests.unit.kept_records import CALLED, CALLER, STARTED, call, client_call

OTHER = "+33140205000"
NOW = STARTED + timedelta(days=1)
CALLER_ONLY = Person(CALLER)


class Store:
    """Recordings by name; `trouble` is raised instead of deleting one."""

    def __init__(self) -> None:
        self.there = {f"2026/11/c{at}.rec" for at in range(1, 9)}
        self.trouble: Exception | None = None

    async def delete(self, name: str) -> bool:
        if self.trouble is not None:
            raise self.trouble
        found = name in self.there
        self.there.discard(name)
        return found


class Audit:
    """Entries as they were made; none is taken while it is `full`."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.full = False

    def note(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> None:
        self.entries.append((action, subject, details))

    async def record(
        self, action: str, actor: Actor, subject: str = "", **details: str | int
    ) -> int:
        return self.enter(action, actor, subject, **details)

    def enter(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> int:
        if self.full:
            raise AuditUnavailable("the audit log is full")
        self.note(action, actor, subject, **details)
        return len(self.entries)


class Region:
    """What an erasure has to do with, on a database in a file."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self.keys = keys
        self.records = CallRecords(database, keys)
        self.erasures = Erasures(database, keys)
        self.holds = LegalHolds(database, keys)
        self.store, self.audit = Store(), Audit()
        self.erasing = self.with_signer(lambda: keys.signer)

    def with_signer(self, signer: Callable[[], Signer]) -> Erasing:
        return self.on("n1", signer)

    def on(self, node: str, signer: Callable[[], Signer]) -> Erasing:
        parts = self.erasures, self.holds, self.store, self.audit
        return Erasing(*parts, signer, lambda: NOW, node)

    async def erase(self, person: Person = CALLER_ONLY, name: str = "er-1") -> dict[str, Any]:
        request = Request(name, "ie1", "Example", NOW, "root@n1", "DSR-17")
        return dict((await self.erasing.person(person, request, RELAY)).certificate)

    async def names(self, *ids: str) -> list[bool]:
        """Whether anything personal is left of these calls."""
        found = [await self.records.get(id_) for id_ in ids]
        return [_is_personal(record) for record in found if record is not None]

    async def hold(self, scope: Scope, subject: str) -> None:
        await self.holds.set("hold-1", scope, subject, "case 4711", "root@n1", NOW)


def _is_personal(record: CallRecord) -> bool:
    legs = [leg.number or leg.identity or leg.sip_call_id or leg.seen for leg in record.legs]
    return bool(record.caller or record.called or any(legs))


Steps = Callable[[Region], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, keyring: KeyRing) -> Callable[[Steps], None]:
    def run(steps: Steps) -> None:
        async def main() -> None:
            settings = Settings(url=f"sqlite:{tmp_path}/relay.db")
            async with opened(Database(settings, Boundary(()))) as database:
                await steps(Region(database, keyring))

        asyncio.run(main())

    return run


Run = Callable[[Steps], None]


def test_all_of_a_person_goes_and_nothing_of_others(run: Run, keyring: KeyRing) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(
            call(), call("c2", OTHER, CALLER), call("c3", OTHER, "+33140205999")
        )
        certificate = await region.erase()
        assert await region.names("c1", "c2", "c3") == [False, False, True]
        assert region.store.there.isdisjoint({"2026/11/c1.rec", "2026/11/c2.rec"})
        assert "2026/11/c3.rec" in region.store.there
        assert await region.records.find(Query(number=CALLER)) == []
        assert certificate["complete"] and certificate["calls_redacted"] == ["c1", "c2"]
        assert {each["audio"] for each in certificate["recordings"]} == {"removed"}
        assert is_signed_by(certificate, keyring.public_keys)
        record = await region.records.get("c1")
        assert record is not None and record.recording is not None
        assert (record.recording.problem, record.recording.object) == ("erased", "")
        assert record.started == STARTED and record.legs[0].mos == 4.4

    run(steps)


def test_nothing_of_it_is_left_in_the_files_of_the_database(run: Run, tmp_path: Path) -> None:
    """Looked for while the database is open, log and all."""

    async def steps(region: Region) -> None:
        await region.records.keep(*(call(f"c{at}") for at in range(40)))
        await region.records.keep(call("other", OTHER, "+33140205999"))
        sealed = _sealed(tmp_path / "relay.db")
        other = sealed.pop("other")
        await region.erase()
        kept = _octets(tmp_path)
        assert other in kept  # so it can be seen in there
        assert [id_ for id_, text in sealed.items() if text in kept] == []

    run(steps)


def _octets(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.glob("relay.db*"))


def _sealed(database: Path) -> dict[str, bytes]:
    """What is personal of each call, as it is in the file."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT id, sealed FROM calls")
        return {id_: text.encode() for id_, text in rows}


def test_nobody_is_named_by_certificate_and_audit_log(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        said = json.dumps([await region.erase(), region.audit.entries])
        for value in (CALLER, CALLED, "192.0.2.17", "pbx.example"):
            assert value.lstrip("+") not in said
        actions = [action for action, *_ in region.audit.entries]
        assert actions == ["erasure-begun", "erasure-done"]
        assert region.audit.entries[1][2]["recordings"] == 1

    run(steps)


def test_a_replay_of_the_queue_brings_nothing_back(run: Run) -> None:
    """Old states come again, and some for the first time."""

    async def steps(region: Region) -> None:
        late = [rows_of(record, region.keys) for record in (call(), call("c2", OTHER, CALLER))]
        await region.records.write(late[:1])
        await region.erase()
        await region.records.write([Rows.decode(rows.encode()) for rows in late])
        assert await region.names("c1", "c2") == [False, False]
        assert await region.records.find(Query(number=CALLER)) == []
        assert "2026/11/c2.rec" in region.store.there
        assert await region.erasing.finish() == frozenset()
        assert "2026/11/c2.rec" not in region.store.there
        again = await region.erasing.certificate("er-1")
        assert again["calls_redacted"] == ["c1", "c2"] and again["complete"]

    run(steps)


def test_a_call_that_lasts_is_redacted_when_it_ends_and_its_recording_goes(run: Run) -> None:
    async def steps(region: Region) -> None:
        lasting = replace(call(), ended=None, recording=None)
        await region.records.keep(lasting)
        certificate = await region.erase()
        assert certificate["calls_redacted"] == certificate["calls_open"] == ["c1"]
        assert not certificate["complete"]
        assert await region.names("c1") == [False]
        unclosed = replace(call(), recording=replace(call().recording, sha256="", octets=0))  # type: ignore[type-var]
        await region.records.keep(unclosed)
        region.store.trouble = StoreError("it is still being recorded")
        assert await region.erasing.finish() == {"rec-c1"}
        assert await region.erasures.is_erased("2026/11/c1.rec")
        await region.records.keep(call())
        region.store.trouble = None
        assert await region.erasing.finish() == frozenset()
        assert await region.names("c1") == [False]
        assert "2026/11/c1.rec" not in region.store.there
        certificate = await region.erasing.certificate("er-1")
        assert certificate["complete"] and certificate["calls_open"] == []
        recording = certificate["recordings"][0]
        assert len(recording["sha256"]) == 64 and recording["audio"] == "removed"

    run(steps)


def test_a_call_after_the_erasure_is_kept(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.erase()
        await region.records.keep(call("c2", started=NOW + timedelta(seconds=1)))
        await region.erasing.finish()
        assert await region.names("c2") == [True]

    run(steps)


@pytest.mark.parametrize(
    ("scope", "subject"),
    [("account", "acme"), ("account", "carrier"), ("person", CALLED), ("call", "c1")],
)
def test_a_hold_keeps_a_call_until_it_is_released(run: Run, scope: Scope, subject: str) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        await region.hold(scope, subject)
        certificate = await region.erase()
        assert certificate["held"] == [{"call": "c1", "hold": "hold-1"}]
        assert not certificate["complete"] and certificate["recordings"] == []
        await region.records.keep(call())  # nor does a replay erase it
        await region.erasing.finish()
        assert await region.names("c1") == [True] and "2026/11/c1.rec" in region.store.there
        await region.holds.release("hold-1", "root@n1", NOW)
        await region.erasing.finish()
        assert await region.names("c1") == [False] and "2026/11/c1.rec" not in region.store.there
        with pytest.raises(NotKept, match="hold-1"):
            await region.holds.release("hold-1", "root@n1", NOW)

    run(steps)


def test_a_certificate_shows_the_hold_as_long_as_there_is_one(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        await region.hold("call", "c1")
        await region.erase()
        await region.erase(Person(CALLED), "er-2")
        for name in ("er-1", "er-2"):
            shown = await region.erasing.certificate(name)
            assert shown["held"] == [{"call": "c1", "hold": "hold-1"}] and not shown["complete"]
        await region.holds.release("hold-1", "root@n1", NOW)
        await region.erasing.finish()
        assert (await region.erasing.certificate("er-1"))["complete"]

    run(steps)


def test_what_another_nodes_spool_may_hold_is_not_told_as_removed(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        region.store.there.discard("2026/11/c1.rec")  # it is in the spool of n1
        on_n2 = region.on("n2", lambda: region.keys.signer)
        request = Request("er-1", "ie1", "Example", NOW, "root@n2")
        told = (await on_n2.person(CALLER_ONLY, request, RELAY)).certificate
        assert told["recordings"][0]["audio"] == "pending" and not told["complete"]
        assert told["recordings"][0]["node"] == "n1"
        assert await on_n2.finish() == {"rec-c1"}
        assert await region.erasing.finish() == frozenset()  # n1 looked
        assert (await on_n2.certificate("er-1"))["complete"]

    run(steps)


def test_nobody_is_told_complete_while_a_voice_of_theirs_may_be_left(run: Run) -> None:
    """A call is both its parties': the second who asks finds it redacted."""

    async def steps(region: Region) -> None:
        await region.records.keep(call())
        region.store.trouble = StoreError("s3: no answer")
        await region.erase()
        other = await region.erase(Person(CALLED), "er-2")
        assert other["calls_redacted"] == [] and other["other_erasures_pending"] == 1
        assert not other["complete"]
        region.store.trouble = None
        await region.erasing.finish()
        assert (await region.erasing.certificate("er-2"))["complete"]

    run(steps)


def test_a_store_that_is_away_is_told_and_tried_again(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        region.store.trouble = StoreError("s3: no answer")
        certificate = await region.erase()
        assert not certificate["complete"] and certificate["recordings"][0]["audio"] == "pending"
        assert await region.names("c1") == [False]
        assert await region.erasures.is_erased("2026/11/c1.rec")
        region.store.trouble = None
        await region.erasing.finish()
        assert (await region.erasing.certificate("er-1"))["complete"]

    run(steps)


def test_who_dies_in_between_has_said_what_is_left_to_do(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        region.store.trouble = ZeroDivisionError("kill -9")
        with pytest.raises(ZeroDivisionError):
            await region.erase()
        region.store.trouble = None
        assert await region.names("c1") == [False]
        await region.erasing.finish()
        assert "2026/11/c1.rec" not in region.store.there

    run(steps)


def test_without_an_entry_or_a_signature_nothing_is_erased(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        region.audit.full = True
        with pytest.raises(AuditUnavailable):
            await region.erase()
        region.audit.full = False

        def missing() -> Signer:
            raise KeyMissing("signing.json is not there")

        region.erasing = region.with_signer(missing)
        with pytest.raises(KeyMissing):
            await region.erase()
        assert await region.names("c1") == [True] and region.audit.entries == []

    run(steps)


def test_an_identity_is_one_accounts(run: Run) -> None:
    async def steps(region: Region) -> None:
        theirs = client_call("c2")
        other = replace(theirs, legs=(replace(theirs.legs[0], peer="app2"), theirs.legs[1]))
        await region.records.keep(client_call("c1"), other)
        await region.erase(Person("alice", "app"))
        assert await region.names("c1", "c2") == [False, True]
        await region.records.keep(other)
        await region.erasing.finish()
        assert await region.names("c1", "c2") == [False, True]

    run(steps)


def test_a_dry_run_changes_nothing(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call())
        made = await region.erasing.preview(CALLER_ONLY)
        assert [each.id for each in made.erased] == ["c1"] and len(made.recordings) == 1
        assert await region.names("c1") == [True] and region.audit.entries == []

    run(steps)


def test_what_is_older_than_it_is_kept_for_expires(run: Run) -> None:
    async def steps(region: Region) -> None:
        many = [
            call(f"x{at:04}", started=NOW - timedelta(days=8, seconds=at), recorded=at % 2 == 0)
            for at in range(1100)
        ]
        young = call("young", started=NOW - timedelta(days=6))
        lasting = replace(call("lasting", started=NOW - timedelta(days=9)), ended=None)
        held = call("held", started=NOW - timedelta(days=9))
        await region.records.keep(*many, young, lasting, held)
        await region.hold("call", "held")
        request = Request("retention-1", "ie1", "", NOW, "relay")
        counts = await region.erasing.expire({"acme": 30.0, "carrier": 7.0}, request, RELAY)
        assert (counts.calls, counts.recordings, counts.held) == (1100, 550, 1)
        assert await region.names("x0000", "x1099", "young", "lasting", "held") == [
            *(False, False, True, True, True),
        ]
        again = await region.erasing.expire({"carrier": 7.0}, replace(request, id="r2"), RELAY)
        assert (again.calls, again.held) == (0, 1)
        assert [action for action, *_ in region.audit.entries] == [
            *("retention-begun", "retention-done"),
        ]

    run(steps)


def test_a_number_is_found_however_it_is_written(run: Run) -> None:
    async def steps(region: Region) -> None:
        await region.records.keep(call("c1", caller=CALLER.lstrip("+")))
        assert (await region.erase())["calls_redacted"] == ["c1"]

    run(steps)


def test_an_erasure_that_is_not_there(run: Run) -> None:
    async def steps(region: Region) -> None:
        with pytest.raises(NotKept, match="er-9"):
            await region.erasing.certificate("er-9")
        assert not await region.erasures.is_erased("2026/11/c1.rec")
        assert await region.erasing.finish() == frozenset()

    run(steps)


def test_times_are_of_the_region(run: Run) -> None:
    async def steps(region: Region) -> None:
        certificate = await region.erase()
        assert datetime.fromisoformat(certificate["made"]) == NOW.astimezone(UTC)

    run(steps)
