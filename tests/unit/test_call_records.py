"""Call records in SQLite: what is kept comes back, what is personal is nowhere to be read."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from typer.testing import CliRunner

from relay.cli import app
from relay.config import Database as Settings
from relay.database import migration
from relay.database.call_records import CallRecords, Query
from relay.database.rows import Rows, rows_of
from relay.database.session import Database, opened
from relay.database.tables import METADATA
from relay.errors import DatabaseUnavailable, KeyMissing, NotAuthentic
from relay.keys.ring import KeyRing
from relay.residency.boundary import Boundary
from tests.unit.record_samples import CALLED, CALLER, STARTED, ended, final, ongoing

EXAMPLE = Path(__file__).parents[2] / "relay.example.toml"
Steps = Callable[[CallRecords], Awaitable[None]]


def database_in(directory: Path) -> Database:
    return Database(Settings(url=f"sqlite:{directory}/db/relay.db"), Boundary(()))


def run(directory: Path, steps: Steps, keys: KeyRing) -> None:
    async def main() -> None:
        async with opened(database_in(directory)) as database:
            await steps(CallRecords(database, keys))

    asyncio.run(main())


def test_what_is_kept_comes_back(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        record = ended(ongoing(), recorded=True)
        await records.keep(ongoing(), ongoing("c2"))
        assert await records.get("c1") == ongoing()
        await records.keep(record)
        assert await records.get("c1") == record
        await records.keep(final(record))
        assert await records.get("c1") == final(record)
        assert await records.of_recording("c1") == final(record)
        assert await records.get("c2") == ongoing("c2")
        assert await records.get("c3") is None

    run(tmp_path, steps, keyring)


def test_an_earlier_state_never_comes_back(tmp_path: Path, keyring: KeyRing) -> None:
    """A queue that is replayed brings the old states again."""

    async def steps(records: CallRecords) -> None:
        states = [ongoing(), ended(ongoing(), recorded=True), final(ended(ongoing()))]
        await records.keep(*states)
        for state in states:
            await records.keep(state)
            assert await records.get("c1") == states[-1]

    run(tmp_path, steps, keyring)


def test_calls_are_found_by_number_peer_time_and_page(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        many = [ongoing(f"c{n}", at_s=n // 2) for n in range(10)]
        other = replace(ongoing("x", at_s=50), caller="+4930111", called="bob", legs=())
        await records.keep(*many, other)
        newest = sorted(many, key=lambda each: (each.started, each.id), reverse=True)
        for number in (CALLER, CALLED, "4915112345678", "+49 151-12345678", "alice", "Alice"):
            assert await records.find(Query(number=number)) == newest
        assert await records.find(Query(number="+4930111")) == [other]
        assert await records.find(Query(number="+49301")) == []
        assert await records.find(Query(peer="app")) == newest
        assert await records.find(Query(peer="carrier")) == []
        since = STARTED + timedelta(seconds=2)
        span = Query(since=since, until=since + timedelta(seconds=1))
        assert [each.id for each in await records.find(span)] == ["c5", "c4"]
        paged = [each async for each in records.each(Query(peer="pbx", limit=3))]
        assert paged == newest
        assert [each.id for each in await records.find(Query(limit=2))] == ["x", "c9"]
        assert await records.find(Query(recorded=True)) == []

    run(tmp_path, steps, keyring)


def test_a_redacted_call_stays_redacted(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        await records.write([rows_of(ongoing(), keyring, {"media": "192.0.2.77"})])
        assert await records.receipt("c1") == {"media": "192.0.2.77"}
        assert await records.redact(["c1", "c9"], STARTED) == 1
        later = final(ended(ongoing()))
        await records.write([rows_of(later, keyring, {"media": "192.0.2.77"})])
        found = await records.get("c1")
        assert found is not None
        assert found.redacted and found.caller == found.called == ""
        assert all(leg.number == leg.sip_call_id == "" and not leg.seen for leg in found.legs)
        assert found.ended == later.ended and found.recording == later.recording
        assert await records.receipt("c1") is None
        assert await records.find(Query(number=CALLER)) == []

    run(tmp_path, steps, keyring)


def test_nothing_personal_is_in_the_files(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        await records.keep(final(ended(ongoing())))
        secrets = ("4915112345678", "35315550199", "alice", "secret-call-id", "192.0.2.77")
        for file in (tmp_path / "db").iterdir():
            octets = file.read_bytes()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
            assert not [each for each in secrets if each.encode() in octets], file.name
        assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o700
        assert b"caller hung up" in b"".join(f.read_bytes() for f in (tmp_path / "db").iterdir())

    run(tmp_path, steps, keyring)


def test_without_keys_what_is_personal_is_left_out(tmp_path: Path) -> None:
    async def steps(records: CallRecords) -> None:
        await records.keep(ended(ongoing()))
        found = await records.get("c1")
        assert found is not None and found.caller == "" and found.legs[0].packets == 3000
        assert not found.redacted
        with pytest.raises(KeyMissing, match=r"index\.json"):
            await records.find(Query(number=CALLER))

    run(tmp_path, steps, KeyRing(tmp_path / "none"))


def test_what_is_sealed_opens_in_its_own_row_only(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        await records.keep(ongoing("c1"), ongoing("c2"))
        with sqlite3.connect(tmp_path / "db/relay.db") as raw:
            raw.execute("UPDATE calls SET sealed=(SELECT sealed FROM calls WHERE id='c2')")
        assert await records.get("c2") == ongoing("c2")
        with pytest.raises(NotAuthentic):
            await records.get("c1")

    run(tmp_path, steps, keyring)


@pytest.mark.parametrize(
    "by_hand",
    [
        "UPDATE legs SET peer = 'other' WHERE side = 'caller'",
        "UPDATE calls SET started = '2026-11-04 09:30:00.000000'",
        "UPDATE recordings SET id = 'r9'",
        "UPDATE legs SET peer = 'other', sealed = NULL WHERE side = 'caller'",
    ],
)
def test_what_grants_go_by_is_as_it_was_kept(
    tmp_path: Path, keyring: KeyRing, by_hand: str
) -> None:
    async def steps(records: CallRecords) -> None:
        await records.keep(ended(ongoing(), recorded=True))
        with sqlite3.connect(tmp_path / "db/relay.db") as raw:
            assert raw.execute(by_hand).rowcount == 1
        with pytest.raises(NotAuthentic):
            await records.get("c1")

    run(tmp_path, steps, keyring)


def test_the_calls_of_a_node_that_last_are_known(tmp_path: Path, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        await records.keep(ongoing("open"), ended(ongoing("over")), ongoing("other", node="n2"))
        assert await records.lasting("n1") == [ongoing("open")]

    run(tmp_path, steps, keyring)


def test_rows_survive_the_queue(keyring: KeyRing) -> None:
    rows = rows_of(final(ended(ongoing())), keyring, {"a": 1})
    assert Rows.decode(rows.encode()) == rows
    assert CALLER.encode() not in rows.encode()


def test_the_migrations_make_the_tables_that_the_code_knows(
    tmp_path: Path, keyring: KeyRing
) -> None:
    def compare(connection: Connection) -> None:
        assert migration.missing(connection) == []
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []

    async def steps(records: CallRecords) -> None:
        async with records._database.reading() as connection:
            await connection.run_sync(compare)

    run(tmp_path, steps, keyring)
    run(tmp_path, steps, keyring)  # a second start finds them


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(database_in(tmp_path)) as database:
            async with database.writing() as connection:
                await connection.execute(text("UPDATE alembic_version SET version_num='future'"))
            with pytest.raises(DatabaseUnavailable, match="migration future"):
                await database.open()

    asyncio.run(main())


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db/relay.db").write_bytes(b"This is not a database." * 100)

    async def main() -> None:
        with pytest.raises(DatabaseUnavailable, match="not a database"):
            await database_in(tmp_path).open()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("sqlite:", "not of the form"),
        ("mysql://a@b/c", "not of the form"),
        ("postgresql://relay:secret@db/relay", "holds a password"),
        ("postgresql://db/relay", "not of the form"),
        ("postgresql://relay@db/relay?sslmode=disable", "ends after its name"),
    ],
)
def test_a_url_that_leads_nowhere_is_a_mistake(url: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        Settings(url=url)


def test_the_command_says_what_is_missing_and_brings_it(tmp_path: Path) -> None:
    config = tmp_path / "region.toml"
    text = EXAMPLE.read_text("utf-8")
    config.write_text(text.replace("sqlite:var/relay.db", f"sqlite:{tmp_path}/relay.db"))

    def relay(verb: str) -> tuple[int, dict[str, object]]:
        done = CliRunner().invoke(app, ["database", verb, "-c", str(config), "--json"])
        return done.exit_code, json.loads(done.stdout)

    code, said = relay("check")
    assert code == 1 and said["missing"] == migration.steps()
    assert not (tmp_path / "relay.db").exists()
    assert relay("upgrade")[0] == relay("upgrade")[0] == 0
    code, said = relay("check")
    assert (code, said["missing"]) == (0, [])


def test_a_key_that_vanishes_takes_nothing_that_was_kept(tmp_path: Path, keyring: KeyRing) -> None:
    """The last record of a call comes without what is personal: that of before stays, sealed, and
    the call is still found by its parties, to be erased."""
    keyless = KeyRing(tmp_path / "no keys")
    over = final(ended(ongoing(), recorded=True))
    last = [rows_of(over, keyless)]

    async def steps(records: CallRecords) -> None:
        await records.keep(replace(ongoing(), recording=over.recording))
        await records.write(last)
        kept = await records.get("c1")
        assert kept is not None and kept.final and kept.recording is not None
        assert (kept.caller, kept.called) == (ongoing().caller, ongoing().called)
        assert [leg.sip_call_id for leg in kept.legs] == [leg.sip_call_id for leg in ongoing().legs]
        assert [each.id for each in await records.find(Query(number=CALLER))] == ["c1"]
        await records.redact(["c1"], STARTED)
        await records.write(last)
        kept = await records.get("c1")
        assert kept is not None and kept.caller == "" and kept.legs[0].sip_call_id == ""

    async def another_recording(records: CallRecords) -> None:
        await records.keep(ongoing())
        await records.write(last)
        [kept] = await records.find(Query(number=CALLER))
        assert kept.caller == "" and kept.final

    run(tmp_path / "same", steps, keyring)
    run(tmp_path / "other", another_recording, keyring)


def test_another_process_takes_no_log_away_that_is_in_use(tmp_path: Path) -> None:
    """SQLite's locks are lost when any descriptor of its file is closed in their process."""
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM calls')"

    async def main() -> None:
        async with opened(database_in(tmp_path)) as database, database.reading() as first:
            await first.execute(text("SELECT 1"))
            async with database.reading() as second:  # a new connection of the same process
                await second.execute(text("SELECT 1"))
            log = tmp_path / "db/relay.db-wal"
            before = log.stat().st_ino
            other = [sys.executable, "-c", look, str(tmp_path / "db/relay.db")]
            await asyncio.to_thread(subprocess.run, other, check=True, timeout=20)
            assert log.exists() and log.stat().st_ino == before

    asyncio.run(main())
