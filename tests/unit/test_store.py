"""Recordings in the spool and in a directory: shipped once, one name, deleted everywhere."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.errors import NotStored, StillRecorded, StoreAway, StoreConflict, StoreError, Unclaimed
from relay.recording import spool
from relay.recording.directory import Directory
from relay.recording.store import Store, Stored

NAME = "2026/11/26/061500-9f3c0a1b2c3d4e5f.rec"
LEDGER = NAME.replace(".rec", ".json")
AUDIO = bytes(range(256)) * 40


def spooled(directory: Path, name: str = NAME, audio: bytes = AUDIO) -> None:
    """A closed recording, as the recorder leaves it."""
    spool.make_directory((directory / name).parent)
    (directory / name).write_bytes(audio)
    (directory / spool.ledger_of(name)).write_bytes(b"{}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Directory(tmp_path / "place"), tmp_path / "spool")


async def listed(store: Store, prefix: str = "") -> list[Stored]:
    return [each async for each in store.list(prefix)]


def test_a_recording_has_one_name_in_the_spool_and_in_its_place(store: Store) -> None:
    async def scenario() -> None:
        spooled(store.spool)
        for where in ("spool", "store"):
            (found,) = await listed(store, "2026/11/")
            assert (found.name, found.octets, found.where) == (NAME, len(AUDIO), where)
            assert await store.stat(NAME) == found
            assert await store.get(NAME) == AUDIO
            assert await store.get(NAME, 10, 20) == AUDIO[10:20]
            assert await store.get(NAME, len(AUDIO) - 3, len(AUDIO) + 50) == AUDIO[-3:]
            assert await listed(store, "2027/") == []
            assert await store.ship(NAME) is (where == "spool")
        assert not any(path.is_file() for path in store.spool.rglob("*"))

    asyncio.run(scenario())


def test_files_in_the_place_are_the_owners_alone(store: Store, tmp_path: Path) -> None:
    spooled(store.spool)
    for path in store.spool.rglob("*.*"):
        path.chmod(0o600)
    assert asyncio.run(store.ship(NAME))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "place").rglob("*.*")}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "place/2026/11").stat().st_mode) == 0o700


def test_from_another_file_system_it_is_copied_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path, **more: bool) -> None:
        if str(source).startswith(str(store.spool)):
            raise OSError(18, "Invalid cross-device link")
        real(source, target, **more)

    monkeypatch.setattr("relay.recording.directory.os.link", link)
    spooled(store.spool)
    assert asyncio.run(store.ship(NAME))
    assert {str(p.relative_to(tmp_path / "place")) for p in (tmp_path / "place").rglob("*.*")} == {
        NAME,
        LEDGER,
    }
    assert asyncio.run(store.get(NAME)) == AUDIO


def test_what_was_shipped_when_we_died_is_done_to_its_end(store: Store, tmp_path: Path) -> None:
    """After each step of shipping, as if the next had not happened."""

    async def scenario() -> None:
        place = store.place
        spooled(store.spool)
        await place.put(NAME, store.spool / NAME)
        assert await store.ship(NAME)
        spooled(store.spool)
        (store.spool / NAME).unlink()  # all but the ledger was done
        assert await store.ship(NAME)
        assert await store.get(NAME) == AUDIO
        assert spool.waiting(store.spool) == []

    asyncio.run(scenario())


def test_another_recording_of_that_name_is_not_overwritten_and_nothing_is_lost(
    store: Store,
) -> None:
    async def scenario() -> None:
        spooled(store.spool)
        await store.ship(NAME)
        spooled(store.spool, audio=b"another one")
        with pytest.raises(StoreConflict, match=NAME):
            await store.ship(NAME)
        assert await store.place.get(NAME, 0, None) == AUDIO
        assert (store.spool / NAME).read_bytes() == b"another one"

    asyncio.run(scenario())


def test_a_spool_that_is_its_own_store_loses_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "place").symlink_to(store.spool)
    spooled(store.spool)
    with pytest.raises(StoreError, match="one directory"):
        asyncio.run(store.ship(NAME))
    assert asyncio.run(store.get(NAME)) == AUDIO


def test_what_no_record_names_stays_in_the_spool(store: Store, tmp_path: Path) -> None:
    """In the store nobody would find it: to be played, or to be erased."""

    async def scenario() -> None:
        named: set[tuple[str, str]] = set()

        async def claimed(call: str, name: str) -> bool:
            return (call, name) in named

        store.claimed = claimed
        spooled(store.spool)
        with pytest.raises(Unclaimed, match="no call's record"):
            await store.ship(NAME)
        assert spool.waiting(store.spool) == [NAME] and not (tmp_path / "place").exists()
        named.add(("9f3c0a1b2c3d4e5f", NAME))
        assert await store.ship(NAME)

    asyncio.run(scenario())


def test_a_ledger_without_audio_stays_and_is_told(store: Store) -> None:
    spooled(store.spool)
    (store.spool / NAME).unlink()
    with pytest.raises(NotStored, match=NAME):
        asyncio.run(store.ship(NAME))
    assert spool.waiting(store.spool) == [NAME]


def test_deleted_is_deleted_everywhere(store: Store) -> None:
    async def scenario() -> None:
        for shipped in (False, True):
            spooled(store.spool)
            if shipped:
                await store.ship(NAME)
            assert await store.delete(NAME)
            assert not await store.delete(NAME)
            assert await listed(store) == []
            with pytest.raises(NotStored):
                await store.get(NAME)
            for name in (NAME, LEDGER):
                with pytest.raises(NotStored):
                    await store.place.stat(name)

    asyncio.run(scenario())


def test_what_is_being_recorded_is_neither_listed_nor_deleted(store: Store) -> None:
    spooled(store.spool)
    (store.spool / LEDGER).rename(store.spool / f"{LEDGER}.open")
    assert asyncio.run(listed(store)) == []
    with (store.spool / NAME).open("rb") as audio:
        fcntl.flock(audio, fcntl.LOCK_EX)
        with pytest.raises(StillRecorded, match="still being recorded"):
            asyncio.run(store.delete(NAME))
    assert (store.spool / NAME).exists()


def test_what_a_crash_left_open_is_deleted(store: Store) -> None:
    """Where a key is missing no repair closes it."""
    spooled(store.spool)
    (store.spool / LEDGER).rename(store.spool / f"{LEDGER}.open")
    assert asyncio.run(store.delete(NAME))
    assert not any(path.is_file() for path in store.spool.rglob("*"))


def test_a_spool_that_lets_nothing_go_is_told_like_a_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(store.spool)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreAway, match="Read-only"):
        asyncio.run(store.delete(NAME))


def test_deleting_waits_for_who_ships_and_then_deletes_what_was_shipped(store: Store) -> None:
    async def scenario() -> None:
        spooled(store.spool)
        holder = os.open(store.spool / LEDGER, os.O_RDONLY)  # another process ships it
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert await store.ship(NAME) is False
        deleting = asyncio.create_task(store.delete(NAME))
        await asyncio.sleep(0)
        for name in (NAME, LEDGER):
            await store.place.put(name, store.spool / name)
        spool.discard(store.spool, NAME)
        os.close(holder)
        assert await deleting
        assert await listed(store) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_is_erased_does_not_come_back_from_the_spool(store: Store, when: str) -> None:
    asked = []

    async def erased(name: str) -> bool:
        asked.append(name)
        return when == "before" or len(asked) > 1

    async def scenario() -> None:
        store.erased = erased
        spooled(store.spool)
        assert await store.ship(NAME) is False
        assert await listed(store) == []
        with pytest.raises(NotStored):
            await store.place.stat(LEDGER)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../spool/x.rec", "2026/../../x", "2026//x", "x/", ".x", "a" * 513]
)
def test_a_name_leads_nowhere_else(store: Store, name: str) -> None:
    for ask in (store.get, store.stat, store.delete, store.ship):
        with pytest.raises(NotStored):
            asyncio.run(ask(name))  # type: ignore[operator]


def test_a_directory_that_fails_is_away_and_the_recording_stays(
    store: Store, tmp_path: Path
) -> None:
    spooled(store.spool)
    (tmp_path / "place").write_bytes(b"")
    with pytest.raises(StoreAway, match="Not a directory"):
        asyncio.run(store.ship(NAME))
    assert asyncio.run(store.get(NAME)) == AUDIO


def test_a_node_and_a_command_ship_each_recording_once(store: Store) -> None:
    """Two with a spool in common, as `relay store retry` beside a running relay."""
    other = Store(store.place, store.spool)
    names = [NAME.replace("061500", f"06{n:04}") for n in range(60)]

    async def ship(each: Store) -> int:
        return sum([await each.ship(name) for name in names])

    async def scenario() -> None:
        for name in names:
            spooled(store.spool, name, name.encode())
        assert sum(await asyncio.gather(ship(store), ship(other))) == 60
        assert [each.name for each in await listed(store)] == names
        for name in names:
            assert await store.place.get(name, 0, None) == name.encode()
        assert spool.waiting(store.spool) == []

    asyncio.run(scenario())


SHIPS = """
import asyncio, sys
from pathlib import Path
from relay.recording import spool
from relay.recording.directory import Directory
from relay.recording.store import Store

async def main(root):
    store = Store(Directory(root / "place"), root / "spool")
    print("begun", flush=True)
    for name in spool.waiting(store.spool):
        await store.ship(name)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_while_shipping_loses_nothing(tmp_path: Path) -> None:
    names = [NAME.replace("061500", f"{n:06}") for n in range(150)]
    for name in names:
        spooled(tmp_path / "spool", name, name.encode() * 50)
    store = Store(Directory(tmp_path / "place"), tmp_path / "spool")

    async def all_there() -> None:
        for name in names:
            assert await store.get(name) == name.encode() * 50

    async def rest() -> list[Stored]:
        for name in spool.waiting(store.spool):
            assert await store.ship(name)
        return await listed(store)

    command = [sys.executable, "-c", SHIPS, str(tmp_path)]
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            time.sleep(0.05 * random.random())  # somewhere in the middle
            process.kill()
        asyncio.run(all_there())
    found = asyncio.run(rest())
    assert [(each.name, each.where) for each in found] == [(name, "store") for name in names]
