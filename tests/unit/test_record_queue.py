"""The queue of call records: nothing is lost, nothing waits, nothing comes twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.config import Database as Settings
from relay.database import moving, queue_file
from relay.database import queue as queue_module
from relay.database.call_records import CallRecords, Query
from relay.database.queue import RecordQueue
from relay.database.queue_file import QueueFile
from relay.database.session import Database, opened
from relay.errors import DatabaseUnavailable, KeyMissing, StoreError
from relay.keys.ring import KeyRing
from relay.residency.boundary import Boundary
from relay.residency.record import CallRecord
from tests.unit.record_samples import CALLER, ended, final, ongoing
from tests.unit.test_recorder import can_mount, small_disk

DEADLINE_S = 20.0


class Fickle(Database):
    """Answers when it is told to."""

    away = False

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        if self.away:
            raise DatabaseUnavailable("the database does not answer: it is away")
        async with super().writing() as connection:
            yield connection


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "RETRY_S", (0.02,))
    monkeypatch.setattr(queue_module, "GATHER_S", 0.01)
    monkeypatch.setattr(queue_module, "DISK_RETRY_S", 0.02)


class Node:
    """A queue and its database, in one directory."""

    def __init__(
        self, directory: Path, keys: KeyRing, name: str = "n1", most: int = 10_000
    ) -> None:
        self.keys = keys
        self.settings = Settings(url=f"sqlite:{directory}/relay.db")
        self.database = Fickle(self.settings, Boundary(()))
        self.file = QueueFile(directory / f"queue-{name}")
        self.queue = RecordQueue(self.file, self.database, keys, name, most)

    def close(self) -> None:
        assert self.queue.close(DEADLINE_S)

    def found(self, query: Query = Query(limit=100_000)) -> dict[str, CallRecord]:  # noqa: B008
        async def main() -> dict[str, CallRecord]:
            async with opened(Database(self.settings, Boundary(()))) as database:
                records = await CallRecords(database, self.keys).find(query)
                return {record.id: record for record in records}

        return asyncio.run(main())


@pytest.fixture
def node(tmp_path: Path, keyring: KeyRing) -> Iterator[Node]:
    made = Node(tmp_path, keyring)
    yield made
    made.close()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_records_reach_the_database(node: Node) -> None:
    node.queue.start()
    first, second = ongoing("c1"), final(ended(ongoing("c2")))
    node.queue.keep(first)
    node.queue.keep(ongoing("c2"))
    node.queue.keep(second)
    until(lambda: node.queue.waiting == 0)
    assert node.found() == {"c1": first, "c2": second}
    assert node.queue.counters["kept"] == node.queue.counters["moved"] >= 2


def test_a_database_that_is_away_costs_no_record_and_no_time(node: Node) -> None:
    node.database.away = True
    node.queue.start()
    records = [final(ended(ongoing(f"c{n}", at_s=n))) for n in range(2000)]
    slowest = 0.0
    for record in records:
        before = time.thread_time()
        node.queue.keep(record)
        slowest = max(slowest, time.thread_time() - before)
    until(lambda: len(node.file) == len(records))
    assert slowest < 0.005 and node.queue.waiting == len(records)
    node.database.away = False
    until(lambda: node.queue.waiting == 0)
    assert node.found() == {record.id: record for record in records}


def test_what_waits_outlives_the_process(tmp_path: Path, keyring: KeyRing) -> None:
    before = Node(tmp_path, keyring)
    before.database.away = True
    before.queue.start()
    records = [ended(ongoing(f"c{n}")) for n in range(20)]
    for record in records:
        before.queue.keep(record)
    before.close()
    after = Node(tmp_path, keyring)
    assert after.queue.waiting == 20
    after.queue.start()
    until(lambda: after.queue.waiting == 0)
    after.close()
    assert after.found() == {record.id: record for record in records}


def test_what_was_moved_and_not_removed_is_moved_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died in between; the call went on meanwhile, on this node or another."""
    remove, failures = node.file.remove, iter([True, True, False])

    def fail_at_first(last: int) -> None:
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        remove(last)

    monkeypatch.setattr(node.file, "remove", fail_at_first)
    node.queue.keep(ended(ongoing("c1")))
    node.queue.start()
    until(lambda: node.queue.waiting == 0)
    assert node.found() == {"c1": ended(ongoing("c1"))}


def test_what_comes_while_it_ends_is_kept(tmp_path: Path, keyring: KeyRing) -> None:
    node = Node(tmp_path, keyring)

    def stopped_meanwhile(record: CallRecord) -> None:
        if record.id == "c1":  # it is being sealed
            node.queue.keep(ended(ongoing("c2")))
            threading.Thread(target=node.queue.close).start()
            time.sleep(0.1)

    node.queue = RecordQueue(node.file, node.database, keyring, "n1", 10, stopped_meanwhile)
    node.queue.start()
    node.queue.keep(ended(ongoing("c1")))
    until(lambda: node.queue.counters["kept"] >= 1)
    node.close()
    assert sorted(node.found()) == ["c1", "c2"]


def test_a_full_queue_says_so_and_still_takes_calls_that_last(
    tmp_path: Path, keyring: KeyRing
) -> None:
    node = Node(tmp_path, keyring, most=3)
    node.database.away = True
    node.queue.start()
    with structlog.testing.capture_logs() as logs:
        for n in range(3):
            assert not node.queue.full
            node.queue.keep(ongoing(f"c{n}"))
        assert node.queue.full
        node.queue.keep(ongoing("c4"))
        until(lambda: any(line["event"] == "records_full" for line in logs))
    node.database.away = False
    until(lambda: not node.queue.full)
    until(lambda: node.queue.waiting == 0)
    node.close()
    assert len(node.found()) == 4


def test_a_disk_that_fails_is_told_once_and_tried_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failures = node.file.append, [OSError(28, "No space left on device")] * 3

    def fail_at_first(items: list[bytes]) -> None:
        if failures:
            raise failures.pop()
        append(items)

    monkeypatch.setattr(node.file, "append", fail_at_first)
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        node.queue.keep(ongoing("c1"))
        until(lambda: node.queue.counters["moved"] == 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "records_unwritable"
    ]
    assert node.found() == {"c1": ongoing("c1")}


def _left(path: Path, octets: int) -> os.statvfs_result:
    """Of a disk of this size, which the queue alone fills."""
    free = (octets - (path / "records.db").stat().st_size) // 4096
    return os.statvfs_result((4096, 4096, 0, 0, free, 0, 0, 0, 0, 255))


def test_a_disk_that_the_queue_has_filled_is_emptied_once_the_database_is_back(
    tmp_path: Path, keyring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        disk = tmp_path / "disk"
        if can_mount(tmp_path / "tried"):
            stack.enter_context(small_disk(disk, "2m"))
        else:  # the same by what the system says
            monkeypatch.setattr(queue_file.os, "statvfs", lambda path: _left(path, 2 << 20))
        node = Node(tmp_path, keyring)
        node.file = QueueFile(disk / "queue")
        node.queue = RecordQueue(node.file, node.database, keyring, "n1", 10_000)
        stack.callback(node.close)
        node.database.away = True
        node.queue.start()
        with structlog.testing.capture_logs() as logs:
            for number in range(1000):
                node.queue.keep(ended(ongoing(f"c{number}", at_s=number)))
            until(lambda: "records_unwritable" in [line["event"] for line in logs])
        assert 0 < node.queue.counters["kept"] < 1000 and node.queue.waiting == 1000
        node.database.away = False
        until(lambda: node.queue.waiting == 0)
        assert node.queue.counters["moved"] == 1000 and node.queue.counters["lost"] == 0


def test_one_that_the_database_does_not_take_keeps_nobody_back(node: Node) -> None:
    node.database.away = True
    node.file.append([b'[{"id": "odd"}]', b"not even JSON"])
    node.queue.keep(ongoing("c1"))
    node.database.away = False
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        until(lambda: node.queue.counters["moved"] >= 1 and node.queue.waiting <= 0)
    assert node.found() == {"c1": ongoing("c1")}
    assert node.queue.counters["rejected"] == 2
    told = [line["problem"] for line in logs if line["event"] == "record_rejected"]
    assert told == ["KeyError", "JSONDecodeError"]


def test_octets_that_are_no_text_end_no_record(node: Node) -> None:
    odd = replace(ended(ongoing("c1")), reason="BYE: \udcff", caller="\udce9t\udce9")
    node.queue.start()
    node.queue.keep(odd)
    until(lambda: node.queue.counters["moved"] == 1)
    node.queue.keep(ongoing("c2"))
    until(lambda: node.queue.counters["moved"] == 2)
    found = node.found()
    assert found["c1"] == replace(odd, reason="BYE: ?", caller="?t?")
    assert found["c2"] == ongoing("c2")


def test_a_record_that_cannot_be_sealed_is_told_and_ends_no_other(tmp_path: Path) -> None:
    class Broken:
        @property
        def personal(self) -> None:
            raise RuntimeError("a bug")

    node = Node(tmp_path, Broken())  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        node.queue.keep(ongoing("c1"))
        until(lambda: node.queue.counters["lost"] == 1)
        node.queue.keep(ongoing("c2"))
        until(lambda: node.queue.counters["lost"] == 2)
    node.close()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["bug", "bug"]


def test_a_bug_on_the_way_into_the_database_keeps_what_waits(node: Node) -> None:
    opens = node.database.open

    async def broken() -> None:
        raise RuntimeError("what was to be written")

    node.database.open = broken  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        node.queue.keep(ongoing("c1"))
        until(lambda: bool(logs) and len(node.file) == 1)
        node.database.open = opens  # type: ignore[method-assign]
        until(lambda: node.queue.waiting == 0)
    assert logs[0]["event"] == "records_waiting" and logs[0]["problem"] == "RuntimeError"
    assert list(node.found()) == ["c1"]


def test_calls_that_a_crash_left_open_end_as_interrupted(tmp_path: Path, keyring: KeyRing) -> None:
    before = Node(tmp_path, keyring)
    before.queue.start()
    before.queue.keep(ongoing("open"))
    before.queue.keep(
        replace(ongoing("taped"), recording=ended(ongoing(), recorded=True).recording)
    )
    until(lambda: before.queue.waiting == 0)
    before.close()
    after = Node(tmp_path, keyring)
    recording = final(ongoing("taped")).recording
    assert recording is not None
    after.queue.repaired("taped", recording)
    after.queue.keep(ongoing("new"))
    after.queue.start()
    until(lambda: after.queue.counters["interrupted"] == 2 and after.queue.waiting == 0)
    after.close()
    found = after.found()
    alive = after.file.alive
    over = replace(ongoing("open"), ended=alive, ended_by="interrupted")
    assert found["open"] == over and found["new"] == ongoing("new")
    assert found["taped"] == replace(
        ongoing("taped"), ended=alive, ended_by="interrupted", recording=recording
    )
    assert abs(alive.timestamp() - time.time()) < 60


def test_two_nodes_share_a_database(tmp_path: Path, keyring: KeyRing) -> None:
    nodes = [Node(tmp_path, keyring, name) for name in ("n1", "n2")]
    records = {
        node.queue: [ended(ongoing(f"{n}-{m}", node=f"n{n}")) for m in range(200)]
        for n, node in enumerate(nodes, 1)
    }
    for queue in records:
        queue.start()
    for pair in zip(*records.values(), strict=True):
        for queue, record in zip(records, pair, strict=True):
            queue.keep(record)
    until(lambda: all(queue.waiting == 0 for queue in records))
    for node in nodes:
        node.close()
    assert nodes[0].found() == {each.id: each for many in records.values() for each in many}


def test_a_queue_is_one_process_own(node: Node, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another process"):
        QueueFile(tmp_path / "queue-n1")


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/queue"):
        QueueFile(tmp_path / "file/queue")


def test_nothing_personal_waits_in_the_file(node: Node) -> None:
    node.database.away = True
    node.queue.start()
    node.queue.keep(ongoing())
    until(lambda: len(node.file) == 1)
    for file in node.file.file.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        octets = file.read_bytes()
        assert CALLER[1:].encode() not in octets and b"192.0.2.77" not in octets


def test_without_keys_a_record_is_kept_without_what_is_personal(
    tmp_path: Path, keyring: KeyRing
) -> None:
    node = Node(tmp_path, KeyRing(tmp_path / "none"))
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        node.queue.keep(ongoing("c1"))
        node.queue.keep(ongoing("c2"))
        until(lambda: node.queue.waiting == 0)
    node.close()
    assert [line["event"] for line in logs].count("records_unsealed") == 1
    assert node.queue.counters["unsealed"] == 2
    assert node.found()["c1"].caller == ""


def test_a_receipt_is_kept_beside_a_final_record_only(tmp_path: Path, keyring: KeyRing) -> None:
    node = Node(tmp_path, keyring)
    node.queue = RecordQueue(
        node.file, node.database, keyring, "n1", 10, lambda record: {"of": record.id}
    )
    node.queue.start()
    node.queue.keep(final(ended(ongoing("c1"))))
    node.queue.keep(ongoing("c2"))
    until(lambda: node.queue.waiting == 0)
    node.close()

    async def receipts() -> list[object]:
        async with opened(Database(node.settings, Boundary(()))) as database:
            records = CallRecords(database, keyring)
            return [await records.receipt(each) for each in ("c1", "c2")]

    assert asyncio.run(receipts()) == [{"of": "c1"}, None]


def test_a_receipt_that_cannot_be_signed_keeps_no_record_back(
    tmp_path: Path, keyring: KeyRing
) -> None:
    def unsigned(record: CallRecord) -> None:
        raise KeyMissing("signing.json: No such file or directory")

    node = Node(tmp_path, keyring)
    node.queue = RecordQueue(node.file, node.database, keyring, "n1", 10, unsigned)
    with structlog.testing.capture_logs() as logs:
        node.queue.start()
        node.queue.keep(ended(ongoing("c1")))
        until(lambda: node.queue.waiting == 0)
    node.close()
    assert "receipt_failed" in [line["event"] for line in logs]
    assert list(node.found()) == ["c1"]


KEEPER = """
import sys
from pathlib import Path
from relay.config import Database as Settings
from relay.database import queue as module
from relay.keys.ring import KeyRing
from relay.residency.boundary import Boundary
from tests.unit.record_samples import ended, ongoing

module.GATHER_S = 0.005
directory, keys, round_ = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
database = module.Database(Settings(url=f"sqlite:{directory}/relay.db"), Boundary(()))
file = module.QueueFile(directory / "queue-n1")
queue = module.RecordQueue(file, database, KeyRing(keys), "n1", 10**6)
queue.start()
count = 0
while True:
    kept = queue.counters["kept"]
    print(kept, flush=True)
    while count < kept + 20:  # an acknowledgement, then so many more
        queue.keep(ended(ongoing(f"{round_}-{count}")))
        count += 1
"""


def test_killed_at_any_moment_it_loses_nothing_that_was_on_the_disk(
    tmp_path: Path, keyring: KeyRing
) -> None:
    chance = random.Random(5)
    acknowledged: dict[int, int] = {}
    for round_ in range(5):
        command = [sys.executable, "-c", KEEPER, str(tmp_path), str(keyring.directory), f"{round_}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        wanted = chance.randrange(1, 150)
        for line in process.stdout:
            acknowledged[round_] = int(line)
            if acknowledged[round_] >= wanted:
                break
        time.sleep(chance.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        process.stdout.close()
    node = Node(tmp_path, keyring)
    node.queue.start()
    until(lambda: node.queue.waiting == 0)
    node.close()
    found = node.found()
    for round_, count in acknowledged.items():
        lost = [n for n in range(count) if f"{round_}-{n}" not in found]
        assert not lost, f"round {round_}: {lost} of {count}"
