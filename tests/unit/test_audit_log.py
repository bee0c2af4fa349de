"""The audit log on the disk: what is acknowledged stays, in one chain, whoever writes and dies."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.database import audit_files
from relay.database.audit_files import AuditFiles
from relay.database.audit_log import WrittenAuditLog
from relay.errors import AuditUnavailable, KeyMissing
from relay.residency.audit import Actor, Draft, digest_of
from relay.residency.signing import Signer, is_signed_by, key_id_of

ANNA = Actor("staff", "anna", "IE", "g-1")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Key:
    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key_id = key_id_of(self.private.public_key())

    def sign(self, octets: bytes) -> bytes:
        return self.private.sign(octets)


def files(directory: Path, **options: int) -> AuditFiles:
    return AuditFiles(directory, "ie1", "node1", lambda: NOON, **options)


def log(
    directory: Path, signer: Callable[[], Signer] | None = None, every: int = 1000
) -> WrittenAuditLog:
    return WrittenAuditLog(files(directory), signer or Key, every, 3600.0)


def drafts(count: int) -> list[Draft]:
    return [Draft("recording-read", ANNA, f"rec-{index}") for index in range(count)]


def entries(directory: Path) -> list[dict[str, object]]:
    """All of them; a gap in numbers or digests fails."""
    lines = list(files(directory).lines())
    found = [json.loads(line) for line in lines]
    assert [entry["n"] for entry in found] == list(range(1, len(found) + 1))
    assert [entry["previous"] for entry in found[1:]] == [digest_of(line) for line in lines[:-1]]
    return found


def test_an_entry_says_who_did_what_under_which_grant(tmp_path: Path) -> None:
    [number] = files(tmp_path / "audit").append(
        [Draft("recording-read", ANNA, "rec-1", {"octets": 7})]
    )
    assert entries(tmp_path / "audit")[number - 1] == {
        "action": "recording-read",
        "actor": {"kind": "staff", "name": "anna", "jurisdiction": "IE", "grant": "g-1"},
        "at": "2026-11-26T12:00:00.000000Z",
        "details": {"octets": 7},
        "n": 2,
        "previous": digest_of(next(files(tmp_path / "audit").lines())),
        "subject": "rec-1",
    }


def test_others_can_read_neither_directory_nor_files(tmp_path: Path) -> None:
    files(tmp_path / "audit").append(drafts(1))
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "audit").rglob("*")}
    assert modes == {0} and (tmp_path / "audit").stat().st_mode & 0o077 == 0


def test_numbers_and_addresses_do_not_get_in(tmp_path: Path) -> None:
    text = "+35315550199 sip:anna@example.org 192.0.2.77:5060 [2001:db8:1:2::7]:5061 10.0.0.0/24"
    files(tmp_path).append([Draft("boundary-refused", ANNA, "+4930123456", {"host": text})])
    [entry] = entries(tmp_path)[1:]
    assert entry["subject"] == "(number)"
    assert entry["details"] == {
        "host": "(number) (number) 192.0.2.0/24:5060 [2001:db8:1::/48]:5061 10.0.0.0/24"
    }


@pytest.mark.parametrize("octets", [1, 40])
def test_a_line_that_its_writer_did_not_finish_is_cut_off_and_told(
    tmp_path: Path, octets: int
) -> None:
    files(tmp_path).append(drafts(3))
    [path] = tmp_path.glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b"x" * octets)
    assert files(tmp_path).append(drafts(1)) == [6]
    assert entries(tmp_path)[4]["action"] == "audit-repaired"
    assert entries(tmp_path)[4]["details"] == {"octets": octets}


def test_a_file_whose_writer_died_before_its_first_line_is_begun_again(tmp_path: Path) -> None:
    files(tmp_path).append(drafts(3))
    (tmp_path / f"{5:012}.jsonl").touch()
    assert files(tmp_path).append(drafts(1)) == [5]
    assert len(entries(tmp_path)) == 5


def test_the_log_goes_on_in_another_file_when_one_is_full(tmp_path: Path) -> None:
    one, other = files(tmp_path, file_octets=2000), files(tmp_path, file_octets=2000)
    for _ in range(20):
        one.append(drafts(1))
        other.append(drafts(2))
    assert len(list(tmp_path.glob("*.jsonl"))) > 5
    found = entries(tmp_path)
    assert sum(entry["action"] == "recording-read" for entry in found) == 60
    opened = [entry for entry in found if entry["action"] == "audit-opened"]
    chain = digest_of(next(one.lines()))
    assert {entry["details"]["chain"] for entry in opened[1:]} == {chain}
    assert [json.loads(line)["n"] for line in one.lines(30)][:2] == [30, 31]


def test_a_full_disk_refuses_and_leaves_no_half_of_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = files(tmp_path)
    log.append(drafts(2))
    write = os.write

    def part_of_it(fd: int, octets: bytes) -> int:
        if len(octets) > 20:
            return write(fd, octets[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(audit_files.os, "write", part_of_it)
        with pytest.raises(AuditUnavailable, match=f"{tmp_path} cannot be written: No space left"):
            log.append([Draft("x" * 50)])
    assert log.append(drafts(1)) == [4]
    assert len(entries(tmp_path)) == 4


def test_a_log_that_became_shorter_is_written_no_more(tmp_path: Path) -> None:
    log = files(tmp_path)
    log.append(drafts(3))
    [path] = tmp_path.glob("*.jsonl")
    os.truncate(path, path.stat().st_size // 2)
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="was cut from"):
            log.append(drafts(1))


def test_the_log_of_another_region_is_not_continued(tmp_path: Path) -> None:
    files(tmp_path).append(drafts(1))
    other = AuditFiles(tmp_path, "au1", "node1", lambda: NOON)
    with pytest.raises(AuditUnavailable, match="is the log of region ie1, not au1"):
        other.append(drafts(1))


def test_a_clock_that_steps_back_does_not_change_the_order(tmp_path: Path) -> None:
    clock = iter([NOON, NOON, NOON - timedelta(hours=1)])
    log = AuditFiles(tmp_path, "ie1", "node1", lambda: next(clock))
    log.append(drafts(1))
    log.append(drafts(1))
    assert [str(entry["at"])[11:13] for entry in entries(tmp_path)] == ["12", "12", "11"]


def test_a_checkpoint_is_signed_over_its_place_and_made_once(tmp_path: Path) -> None:
    log, key = files(tmp_path), Key()
    log.append(drafts(2))
    made = log.checkpoint(key)
    assert is_signed_by(made, {key.key_id: key.private.public_key()})
    assert made["details"] == {
        "region": "ie1",
        "node": "node1",
        "chain": digest_of(next(log.lines())),
    }
    assert log.checkpoint(key) == made == files(tmp_path).checkpoint(key)
    assert len(entries(tmp_path)) == 4


def test_who_records_waits_until_it_is_on_the_disk(tmp_path: Path) -> None:
    async def main() -> list[int]:
        one, other = log(tmp_path), log(tmp_path)
        numbers = await asyncio.gather(
            *(each.record("read", ANNA, f"r-{i}") for i in range(50) for each in (one, other))
        )
        assert len(entries(tmp_path)) >= 101
        one.close()
        other.close()
        return list(numbers)

    numbers = asyncio.run(main())
    assert len(set(numbers)) == 100
    written = {entry["n"] for entry in entries(tmp_path) if entry["action"] == "read"}
    assert written == set(numbers)


def test_notes_of_one_kind_become_one_entry(tmp_path: Path) -> None:
    audit = log(tmp_path)
    for _ in range(1000):
        audit.note("boundary-refused", ANNA, use="media")
    audit.note("boundary-refused", ANNA, use="contact")
    audit.close()
    found = [entry for entry in entries(tmp_path) if entry["action"] == "boundary-refused"]
    assert [entry["details"] for entry in found] == [
        {"times": 1000, "use": "media"},
        {"use": "contact"},
    ]


def test_a_flood_of_different_notes_is_bounded_and_counted(tmp_path: Path) -> None:
    audit = log(tmp_path)
    for number in range(10_000):
        audit.note("boundary-refused", ANNA, port=number)
    audit.close()
    found = entries(tmp_path)
    [dropped] = [entry for entry in found if entry["action"] == "audit-notes-dropped"]
    noted = sum(entry["action"] == "boundary-refused" for entry in found)
    assert noted + dropped["details"]["times"] == 10_000
    assert noted < 10_000 and audit.counters["notes_dropped"] == dropped["details"]["times"]


def test_a_note_and_its_record_fail_apart_and_notes_are_written_later(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()  # a file where the directory is to be

    async def main() -> None:
        audit = log(tmp_path / "audit")
        audit.note("call-refused", ANNA)
        with pytest.raises(AuditUnavailable, match="cannot be written: Not a directory"):
            await audit.record("read", ANNA)
        (tmp_path / "audit").unlink()
        await audit.record("read", ANNA)
        audit.close()

    asyncio.run(main())
    assert sorted(str(entry["action"]) for entry in entries(tmp_path / "audit")) == [
        "audit-opened",
        "call-refused",
        "checkpoint",
        "read",
    ]


def test_checkpoints_come_after_so_many_entries_and_at_the_end(tmp_path: Path) -> None:
    key = Key()

    async def main() -> None:
        audit = log(tmp_path, lambda: key, every=10)
        for number in range(25):
            await audit.record("read", ANNA, f"r-{number}")
        audit.close()
        assert audit.counters["checkpoints"] == 3

    asyncio.run(main())
    signed = [entry["n"] for entry in entries(tmp_path) if entry["action"] == "checkpoint"]
    assert signed == [11, 22, 29]


def test_a_checkpoint_is_offered_again_at_the_next_start(tmp_path: Path) -> None:
    files(tmp_path).append(drafts(1))
    before = files(tmp_path).checkpoint(Key())
    audit, offered = log(tmp_path), []
    audit.on_checkpoint = offered.append
    audit.note("relay-started", ANNA)
    audit.close()
    assert [each["n"] for each in offered] == [before["n"], before["n"] + 2]


def test_without_a_key_entries_are_written_and_nothing_is_signed(tmp_path: Path) -> None:
    def no_key() -> Signer:
        raise KeyMissing("no signing key")

    async def main() -> None:
        audit = log(tmp_path, no_key, every=1)
        await audit.record("read", ANNA)
        audit.close()
        assert audit.counters["unsigned"] >= 1

    asyncio.run(main())
    assert [entry["action"] for entry in entries(tmp_path)] == ["audit-opened", "read"]


def test_after_its_end_nothing_can_be_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        audit = log(tmp_path)
        audit.close()
        with pytest.raises(AuditUnavailable, match="is closed"):
            await audit.record("read", ANNA)

    asyncio.run(main())


def test_no_entry_acts_on_the_terminal_of_who_reads_it() -> None:
    entry = Draft("x", subject="c1\x1b[2J", details={"host": "\x9b31m\u202ea"}).entry(
        1, datetime.now(UTC), ""
    )
    assert str(entry["subject"]).isprintable() and str(entry["details"]["host"]).isprintable()
