"""Call records in a real PostgreSQL: the same as in SQLite, and what only a server can do wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from itertools import count
from pathlib import Path

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from relay.config import Database as Settings
from relay.database import migration, moving
from relay.database import queue as queue_module
from relay.database.call_records import CallRecords, Query
from relay.database.queue import RecordQueue
from relay.database.queue_file import QueueFile
from relay.database.rows import rows_of
from relay.database.session import Database, opened
from relay.database.tables import METADATA
from relay.errors import DatabaseUnavailable, OutsideRegion
from relay.keys.ring import KeyRing
from relay.residency.boundary import Boundary
from relay.residency.record import CallRecord
from tests.interop.postgres import CERTIFIED, HOST, INSIDE, PASSWORD, Cluster, cluster, database
from tests.unit.record_samples import CALLER, STARTED, ended, final, ongoing

DEADLINE_S = 30.0
NAMES = count(1)
Steps = Callable[[CallRecords], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def settings(server: Cluster) -> Settings:
    """An empty database of its own."""
    name = f"relay{next(NAMES)}"
    server.create(name)
    return server.settings(name)


def run(settings: Settings, steps: Steps, keys: KeyRing) -> None:
    async def main() -> None:
        async with opened(database(settings)) as found:
            await steps(CallRecords(found, keys))

    asyncio.run(main())


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_kept_comes_back_and_never_goes_back(settings: Settings, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        states = [ongoing(), ended(ongoing(), recorded=True), final(ended(ongoing()))]
        for state in states:
            await records.keep(state)
            assert await records.get("c1") == state
        for state in states:
            await records.keep(state)
            assert await records.get("c1") == states[-1]
        await records.keep(ongoing("c2", at_s=5))
        assert await records.find(Query(number=CALLER)) == [ongoing("c2", at_s=5), states[-1]]
        assert await records.find(Query(peer="app", since=STARTED, limit=1)) == [
            ongoing("c2", at_s=5)
        ]
        assert await records.lasting("n1") == [ongoing("c2", at_s=5)]
        assert (await records.count(Query())).calls == 2

    run(settings, steps, keyring)


def test_a_redacted_call_stays_redacted(settings: Settings, keyring: KeyRing) -> None:
    async def steps(records: CallRecords) -> None:
        await records.write([rows_of(ongoing(), keyring, {"media": "192.0.2.77"})])
        assert await records.receipt("c1") == {"media": "192.0.2.77"}
        assert await records.redact(["c1"], STARTED) == 1
        await records.keep(final(ended(ongoing())))
        found = await records.get("c1")
        assert found is not None and found.redacted and found.final and found.caller == ""
        assert await records.receipt("c1") is None
        assert await records.find(Query(number=CALLER)) == []

    run(settings, steps, keyring)


def test_nodes_that_start_at_once_make_the_tables_once(settings: Settings) -> None:
    def compare(connection: Connection) -> None:
        assert migration.missing(connection) == []
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []

    async def main() -> None:
        nodes = [database(settings) for _ in range(4)]
        await asyncio.gather(*(node.open() for node in nodes))
        async with nodes[0].reading() as connection:
            await connection.run_sync(compare)
        for node in nodes:
            await node.close()

    asyncio.run(main())


def test_a_server_that_crashes_and_comes_back_loses_no_record_of_two_nodes(
    server: Cluster,
    settings: Settings,
    tmp_path: Path,
    keyring: KeyRing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "RETRY_S", (0.1,))
    monkeypatch.setattr(queue_module, "GATHER_S", 0.02)
    queues = {
        name: RecordQueue(QueueFile(tmp_path / name), database(settings), keyring, name, 10_000)
        for name in ("n1", "n2")
    }
    kept: dict[str, CallRecord] = {}

    def call(number: int) -> None:
        for name, queue in queues.items():
            record = ended(ongoing(f"{name}-{number}", at_s=number, node=name))
            kept[record.id] = record
            queue.keep(record)

    for queue in queues.values():
        queue.start()
    for number in range(200):
        call(number)
        if number == 50:
            until(lambda: all(queue.counters["moved"] for queue in queues.values()))
            server.stop()
        elif number == 150:
            server.start()
    until(lambda: all(queue.waiting == 0 for queue in queues.values()))
    for queue in queues.values():
        assert queue.close(DEADLINE_S)

    async def steps(records: CallRecords) -> None:
        found = await records.find(Query(limit=1000))
        assert {record.id: record for record in found} == kept

    run(settings, steps, keyring)


READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = on"
WRITABLE = "BEGIN; SET TRANSACTION READ WRITE; ALTER DATABASE {} RESET ALL; COMMIT"
FULL = (
    "CREATE FUNCTION fail() RETURNS trigger AS 'BEGIN RAISE disk_full; END' LANGUAGE plpgsql;"
    "CREATE TRIGGER fails BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION fail()"
)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        (READ_ONLY, WRITABLE),
        (FULL, "DROP TRIGGER fails ON calls"),
        ("ALTER TABLE legs RENAME TO away", "ALTER TABLE away RENAME TO legs"),
        (
            "ALTER TABLE alembic_version RENAME TO away",
            "DROP TABLE IF EXISTS alembic_version; ALTER TABLE away RENAME TO alembic_version",
        ),
    ],
    ids=["read-only", "full", "table missing", "half migrated"],
)
def test_a_server_that_takes_nothing_now_gets_it_later(
    broken: str,
    mended: str,
    server: Cluster,
    settings: Settings,
    tmp_path: Path,
    keyring: KeyRing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "RETRY_S", (0.1,))
    monkeypatch.setattr(queue_module, "GATHER_S", 0.02)
    name = settings.place.name

    async def nothing(records: CallRecords) -> None: ...

    run(settings, nothing, keyring)
    server.tell(name, broken.format(name))
    queue = RecordQueue(QueueFile(tmp_path / "q"), database(settings), keyring, "n1", 1000)
    kept = [ended(ongoing(f"c{number}", at_s=number)) for number in range(5)]
    with structlog.testing.capture_logs() as logs:
        queue.start()
        for record in kept:
            queue.keep(record)
        until(lambda: bool(logs) and queue.counters["kept"] == len(kept))
    assert {line["event"] for line in logs} == {"records_waiting"}
    server.tell(name, mended.format(name))
    server.disconnect(name)
    until(lambda: queue.waiting == 0)
    assert queue.counters["rejected"] == 0 and queue.close(DEADLINE_S)

    async def steps(records: CallRecords) -> None:
        assert await records.find(Query()) == kept[::-1]

    run(settings, steps, keyring)


def test_a_wrong_password_is_told_and_not_shown(settings: Settings) -> None:
    wrong = replace_in(settings, password="another-one")

    async def main() -> None:
        with pytest.raises(DatabaseUnavailable, match="refuses: password authentication") as told:
            await database(wrong).open()
        assert "another-one" not in str(told.value)

    asyncio.run(main())


def test_an_address_outside_the_region_is_never_connected_to(settings: Settings) -> None:
    """Also when only one of those that its name leads to is outside."""
    with socket.create_server((HOST, 0)) as elsewhere:
        elsewhere.settimeout(0)
        port = elsewhere.getsockname()[1]
        url = f"postgresql://relay@{HOST}:{port}/relay"
        outside = Boundary([ip_network("10.0.0.0/8")])
        found = Database(replace_in(settings, url=url), outside)

        async def main() -> None:
            with pytest.raises(OutsideRegion, match=r"127\.0\.0\.1 .*database"):
                await found.open()

        asyncio.run(main())
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_name_of_which_one_address_lies_outside_is_refused(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, HOST, "203.0.113.9")

    async def main() -> None:
        found = database(server.settings("relay", host=CERTIFIED), INSIDE)
        with pytest.raises(OutsideRegion, match=r"203\.0\.113\.9"):
            await found.open()

    asyncio.run(main())


@pytest.mark.parametrize("name", [CERTIFIED, "other.region.test"])
def test_its_certificate_must_prove_the_configured_name(
    server: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    resolves(monkeypatch, HOST)
    url = settings.url.replace(HOST, name)
    found = database(replace_in(settings, url=url, ca=str(server.authority)))

    async def main() -> None:
        if name == CERTIFIED:
            await found.open()
            await found.close()
        else:
            with pytest.raises(DatabaseUnavailable, match="certificate"):
                await found.open()

    asyncio.run(main())


def resolves(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Whatever name is looked up leads to these."""

    def found(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        known = hosts if "test" in host else (host,)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in known]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def replace_in(settings: Settings, **values: object) -> Settings:
    password = settings.password.get_secret_value() if settings.password else None
    return Settings.model_validate(
        {"url": settings.url, "password": password or PASSWORD, "ca": settings.ca, **values}
    )
