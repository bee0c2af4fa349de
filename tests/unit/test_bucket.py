"""A bucket that is away, slow, damaged, elsewhere or not ours: nothing is lost, nothing leaves."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.config.kept import S3
from relay.errors import NotStored, OutsideRegion, StoreAway, StoreConflict, StoreError
from relay.probe.certificates import Authority
from relay.recording import bucket as bucket_module
from relay.recording import s3_request, spool
from relay.recording.bucket import Bucket
from relay.recording.shipper import Shipper
from relay.recording.store import Store
from relay.residency.boundary import Boundary
from tests.unit.s3_server import FaultyS3
from tests.unit.test_store import AUDIO, LEDGER, NAME, spooled

KEY = f"/voice/calls/{NAME}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def s3(authority: Authority) -> Iterator[FaultyS3]:
    server = FaultyS3(authority.issue("s3", "127.0.0.1", "localhost"))
    server.start()
    yield server
    server.stop()


def section(s3: FaultyS3, authority: Authority, host: str = "127.0.0.1") -> S3:
    return S3.model_validate(
        {
            "endpoint": f"https://{host}:{s3.port}",
            "region": "eu-west-1",
            "access_key": "relay",
            "secret_key": "very secret",
            "ca": str(authority.file),
        }
    )


def bucket_of(
    s3: FaultyS3, authority: Authority, networks: str = "127.0.0.0/8", host: str = "127.0.0.1"
) -> Bucket:
    boundary = Boundary([ipaddress.ip_network(networks)])
    return Bucket("s3://voice/calls", section(s3, authority, host), boundary)


@pytest.fixture
def store(s3: FaultyS3, authority: Authority, tmp_path: Path) -> Store:
    return Store(bucket_of(s3, authority), tmp_path / "spool")


def test_a_recording_goes_to_the_bucket_and_is_read_and_deleted_there(
    store: Store, s3: FaultyS3
) -> None:
    async def scenario() -> None:
        spooled(store.spool)
        await store.place.check()
        assert await store.ship(NAME)
        assert s3.objects == {KEY: AUDIO, KEY.replace(".rec", ".json"): b"{}"}
        puts = [line for line in s3.requests if line.startswith("PUT")]
        assert puts == [f"PUT {KEY}", f"PUT {KEY.replace('.rec', '.json')}"]  # audio first
        assert (await store.stat(NAME)).octets == len(AUDIO)
        assert await store.get(NAME, 5, 12) == AUDIO[5:12]
        assert await store.get(NAME, len(AUDIO) - 1, 1 << 30) == AUDIO[-1:]
        assert await store.get(NAME, len(AUDIO), 1 << 30) == b""
        assert await store.delete(NAME)
        assert s3.objects == {}
        assert not await store.delete(NAME)
        with pytest.raises(NotStored):
            await store.get(NAME)
        await store.close()

    asyncio.run(scenario())


def test_a_bucket_in_another_territory_is_named_with_the_rule(store: Store, s3: FaultyS3) -> None:
    s3.location = "us-west-2"

    async def scenario() -> None:
        with pytest.raises(StoreError, match=r"voice is in us-west-2; recording.s3.region .*eu-we"):
            await store.place.check()
        await store.close()

    asyncio.run(scenario())


def test_a_bucket_that_does_not_say_where_it_is_is_none(store: Store, s3: FaultyS3) -> None:
    s3.fault = lambda method, path: 501

    async def scenario() -> None:
        with pytest.raises(StoreError, match="does not say where it is"):
            await store.place.check()
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_endpoint_outside_gets_no_packet(
    s3: FaultyS3, authority: Authority, tmp_path: Path, host: str
) -> None:
    place = bucket_of(s3, authority, "10.0.0.0/8", host)

    async def scenario() -> None:
        store = Store(place, tmp_path / "spool")
        spooled(store.spool)
        for act in (place.check, lambda: store.ship(NAME), lambda: store.get(LEDGER + "x")):
            with pytest.raises(OutsideRegion, match=r"is outside the region \(store\)"):
                await act()
        assert s3.requests == []
        assert spool.waiting(store.spool) == [NAME]
        await store.close()

    asyncio.run(scenario())


def test_a_redirect_is_not_followed_out_of_the_region(
    store: Store, s3: FaultyS3, authority: Authority
) -> None:
    """Nor to another host inside: only the endpoint is the store."""
    other = FaultyS3(authority.issue("other", "127.0.0.9"), host="127.0.0.9")
    other.start()
    s3.redirect = f"https://127.0.0.9:{other.port}{KEY}"
    s3.fault = lambda method, path: 307

    async def scenario() -> None:
        spooled(store.spool)
        with pytest.raises(StoreAway):
            await store.ship(NAME)
        await store.close()

    asyncio.run(scenario())
    other.stop()
    assert s3.requests and other.requests == [] and other.objects == {}


@pytest.mark.parametrize(
    ("status", "text"), [(403, "answers 403 Fault"), (500, "500"), (503, "503")]
)
def test_a_refusal_says_so_and_the_recording_stays(
    store: Store, s3: FaultyS3, status: int, text: str
) -> None:
    s3.fault = lambda method, path: status

    async def scenario() -> None:
        spooled(store.spool)
        for act in (store.place.check, lambda: store.ship(NAME)):
            with pytest.raises(StoreAway) as refused:
                await act()
            assert "secret" not in str(refused.value)
            assert str(status) in str(refused.value)
        assert await store.get(NAME) == AUDIO
        await store.close()

    asyncio.run(scenario())


def test_an_authority_that_is_not_the_configured_one_is_not_trusted(
    s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ALLOW_INVALID_CERTIFICATES", "true")
    place = bucket_of(s3, Authority(tmp_path, "another"))

    async def scenario() -> None:
        for act in (place.check, lambda: place.stat(NAME)):
            with pytest.raises(StoreAway):
                await act()
        assert s3.requests == []
        await place.close()

    asyncio.run(scenario())


def test_a_store_that_says_nothing_is_given_up_in_time(
    store: Store, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "REQUEST_S", 0.3)
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    monkeypatch.setattr(s3_request, "TIMEOUT_S", 0.3)
    released = threading.Event()

    def hang(method: str, path: str) -> int:
        released.wait(15)
        return 500

    s3.fault = hang

    async def scenario() -> None:
        spooled(store.spool)
        for act in (store.place.check, lambda: store.ship(NAME), lambda: store.get(LEDGER + "x")):
            with pytest.raises(StoreAway, match="does not answer"):
                await act()
        assert await store.get(NAME) == AUDIO
        await store.close()

    try:
        asyncio.run(scenario())
    finally:
        released.set()


def test_an_authority_that_cannot_be_read_is_named(
    s3: FaultyS3, authority: Authority, tmp_path: Path
) -> None:
    missing = section(s3, authority).model_copy(update={"ca": str(tmp_path / "none.pem")})
    place = Bucket("s3://voice", missing, Boundary([ipaddress.ip_network("127.0.0.0/8")]))
    with pytest.raises(StoreAway, match=r"recording.s3.ca: .*none.pem: No such file"):
        asyncio.run(place.check())


def test_what_the_store_damages_does_not_count_as_stored(store: Store, s3: FaultyS3) -> None:
    s3.damaged = True

    async def scenario() -> None:
        spooled(store.spool)
        for _ in range(2):
            with pytest.raises(StoreConflict, match=NAME):
                await store.ship(NAME)
            assert s3.objects[KEY] == AUDIO[:-1] + b"\0"  # it may be another writer's
            assert await store.get(NAME) == AUDIO
        del s3.objects[KEY]  # as its operator does
        s3.damaged = False
        assert await store.ship(NAME)
        assert s3.objects[KEY] == AUDIO
        await store.close()

    asyncio.run(scenario())


def test_of_two_writers_of_one_name_none_overwrites_the_other(
    store: Store, s3: FaultyS3, authority: Authority, tmp_path: Path
) -> None:
    async def scenario() -> None:
        other = Store(bucket_of(s3, authority), tmp_path / "other")
        spooled(store.spool)
        spooled(other.spool, audio=b"another one")
        outcomes = await asyncio.gather(store.ship(NAME), other.ship(NAME), return_exceptions=True)
        assert sorted(str(type(each).__name__) for each in outcomes) == ["StoreConflict", "bool"]
        for each, audio in ((store, AUDIO), (other, b"another one")):
            kept = spool.waiting(each.spool) == [NAME]
            assert kept is (s3.objects[KEY] != audio)
            assert not kept or (each.spool / NAME).read_bytes() == audio
            await each.close()

    asyncio.run(scenario())


class Told:
    """A processor of log events, to wait for them by name."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    def __call__(self, _: object, method: str, event: MutableMapping[str, Any]) -> None:
        self.events.append(dict(event))
        self._came.set()
        raise structlog.DropEvent

    @contextmanager
    def hears(self) -> Iterator[None]:
        before = structlog.get_config()
        structlog.configure(processors=[self])
        try:
            yield
        finally:
            structlog.configure(**before)

    def event(self, name: str, call: str, **fields: object) -> None:
        """As the journal of calls."""
        self.events.append({"event": name, "call": call, **fields})
        self._came.set()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    async def until(self, name: str, count: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(15):
            while len(found := self.named(name)) < count:
                self._came = asyncio.Event()  # of this loop
                await self._came.wait()
        return found[count - 1]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    with told.hears():
        yield told


async def tried(store: Store, times: int) -> None:
    """Until the place has been asked so often again."""
    real, left, done = store.place.check, times, asyncio.Event()

    async def check() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            done.set()
        await real()

    store.place.check = check  # type: ignore[method-assign]
    async with asyncio.timeout(15):
        await done.wait()


def test_a_store_that_is_away_is_told_once_and_nothing_is_lost_over_a_restart(
    store: Store, s3: FaultyS3, told: Told
) -> None:
    names = [f"2026/11/26/0615{n:02}-{n:016x}.rec" for n in range(12)]

    async def first() -> None:
        shipper = Shipper(store, told, first_wait_s=0.01)
        s3.stop()
        for name in names[:8]:
            spooled(store.spool, name)
            shipper.add(name)
        running = asyncio.create_task(shipper.run())
        away = await told.until("store_away")
        assert away["waiting"] == 8 and "store" in away["problem"]
        await tried(store, 3)
        assert len(told.events) == 1
        assert shipper.waiting == 8 and shipper.problem is not None
        running.cancel()
        await store.close()

    async def second() -> None:
        shipper = Shipper(store, told, first_wait_s=0.01)
        running = asyncio.create_task(shipper.run())
        await told.until("store_away", 2)
        for name in names[8:]:
            spooled(store.spool, name)
            shipper.add(name)
        s3.start()
        await told.until("recording_stored", 12)
        await told.until("store_back")
        await shipper.finish(5)
        assert shipper.waiting == 0 and shipper.problem is None
        assert {f"/voice/calls/{name}" for name in names} <= set(s3.objects)
        assert spool.waiting(store.spool) == []
        running.cancel()
        await store.close()

    asyncio.run(first())
    asyncio.run(second())


def test_one_recording_that_cannot_be_stored_holds_up_no_other(
    store: Store, s3: FaultyS3, told: Told
) -> None:
    async def scenario() -> None:
        shipper = Shipper(store, told, first_wait_s=0.01)
        s3.objects[KEY] = b"another one"
        other = NAME.replace("061500", "061501")
        spooled(store.spool)
        spooled(store.spool, other)
        running = asyncio.create_task(shipper.run())
        stored, stuck = await told.until("recording_stored"), await told.until("recording_stuck")
        assert stored["path"] == f"s3://voice/calls/{other}"
        assert stored["call"] == stuck["call"] == "9f3c0a1b2c3d4e5f"
        assert stuck["object"] == NAME and "another object" in stuck["problem"]
        assert s3.objects[KEY] == b"another one"
        assert spool.waiting(store.spool) == [NAME]
        running.cancel()
        await store.close()

    asyncio.run(scenario())


def test_the_gate_is_for_its_own_client_and_for_the_endpoint_alone(store: Store) -> None:
    async def ask(head: str) -> bytes:
        place = store.place
        assert isinstance(place, Bucket)
        reader, writer = await asyncio.open_connection("127.0.0.1", place._gate.port)
        writer.write(head.encode())
        line = await reader.readline()
        writer.close()
        return line

    async def scenario() -> None:
        place = store.place
        assert isinstance(place, Bucket)
        await place.check()
        ours = f"Proxy-Authorization: {place._gate.authorization}\r\n\r\n"
        host = f"127.0.0.1:{place._port}"
        assert b" 407 " in await ask(f"CONNECT {host} HTTP/1.1\r\n\r\n")
        wrong = "Proxy-Authorization: Basic c3RvcmU6eA==\r\n\r\n"
        assert b" 407 " in await ask(f"CONNECT {host} HTTP/1.1\r\n{wrong}")
        assert b" 403 " in await ask(f"CONNECT 127.0.0.2:443 HTTP/1.1\r\n{ours}")
        assert b" 403 " in await ask(f"GET http://{host}/ HTTP/1.1\r\n{ours}")
        assert b" 200 " in await ask(f"CONNECT {host} HTTP/1.1\r\n{ours}")
        await store.close()

    asyncio.run(scenario())


def test_the_environment_changes_nothing(
    store: Store, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "https://192.0.2.1",
        "AWS_ENDPOINT_URL": "https://192.0.2.1",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "HTTPS_PROXY": "http://192.0.2.1:1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)

    async def scenario() -> None:
        spooled(store.spool)
        assert await store.ship(NAME)
        assert s3.objects[KEY] == AUDIO
        await store.close()

    asyncio.run(scenario())
