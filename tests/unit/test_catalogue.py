"""A recording by its id: from the call's record, its ledger and the store, which must agree."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from relay.cli import app
from relay.errors import KeyMissing, NotAuthentic, NotKept
from relay.keys.customer import PrivateKey
from relay.keys.ring import KeyRing
from relay.recording import ledger, spool
from relay.recording.catalogue import Catalogue
from relay.recording.directory import Directory
from relay.recording.encryption import EncryptedSink
from relay.recording.envelope import seal
from relay.recording.ledger import Ledger
from relay.recording.sink import FileSink
from relay.recording.store import Store
from relay.recording.wav import WavFile
from relay.residency.record import CallRecord

STARTED = datetime(2026, 11, 26, 6, 15, tzinfo=UTC)


class Region:
    """A spool and a store, and the calls that have recordings there."""

    def __init__(self, directory: Path, keys: KeyRing, region: str = "t1") -> None:
        self.keys = keys
        self.region = region
        self.spool = directory / "spool"
        self.store = Store(Directory(directory / "store"), self.spool)
        self.calls: dict[str, CallRecord] = {}
        self.catalogue = Catalogue(self._call_of, self.store, keys, region)

    async def _call_of(self, recording: str) -> CallRecord | None:
        return self.calls.get(recording)

    def record(
        self, recording: str, octets: bytes, trim: bool = False, customers: tuple[str, ...] = ()
    ) -> Path:
        """What the recorder leaves in the spool."""
        entry = Ledger(recording, "", "PCMU", ["mixed"], STARTED, trim_silence=trim)
        path = self.spool / f"2026/11/26/061500-{recording}.rec"
        spool.make_directory(path.parent)
        data_key, entry.envelope = seal(self.keys, self.region, recording, 1, customers)
        ledger.begin(path, entry)
        context, segment = entry.envelope.context, entry.envelope.segment
        sink = EncryptedSink(FileSink(path), data_key, context, segment)
        container = WavFile(sink, "PCMU", 1)
        container.write(octets)
        container.close()
        entry.sealed, entry.sha256, entry.octets = sink.sealed, sink.sha256, sink.octets
        entry.close(len(octets) / 8000, None)
        ledger.finish(path, entry)
        kept = entry.record(path.relative_to(self.spool).as_posix())
        call = CallRecord(recording, self.region, "n1", "p1", STARTED, recording=kept)
        self.calls[recording] = call
        return path

    def heard(self, recording: str, form: str = "wav", trim: bool | None = None) -> bytes:
        async def read() -> bytes:
            found = await self.catalogue.open(recording, form, trim)
            return await found.read(0, found.size)

        return asyncio.run(read())


@pytest.fixture
def region(tmp_path: Path, keyring: KeyRing) -> Region:
    return Region(tmp_path, keyring)


def samples(octets: bytes) -> int:
    return int(soundfile.info(io.BytesIO(octets)).frames)


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("form", ["wav", "wav-pcm", "flac", "ogg"])
def test_a_recording_is_played_from_spool_and_store(
    region: Region, shipped: bool, form: str
) -> None:
    region.record("r1", bytes(range(256)) * 50)
    if shipped:
        assert asyncio.run(region.store.ship("2026/11/26/061500-r1.rec"))
    octets = region.heard("r1", form)
    assert samples(octets) == 12800
    if form == "wav":
        assert octets[58 : 58 + 12800] == bytes(range(256)) * 50


def test_silence_is_left_out_as_its_trunk_wishes_or_as_asked(region: Region) -> None:
    loud = bytes(range(128)) * 100
    region.record("r1", b"\xff" * 16000 + loud + b"\xff" * 16000, trim=True)
    assert samples(region.heard("r1")) == len(loud) + 2 * 1600
    assert samples(region.heard("r1", trim=False)) == len(loud) + 32000


def test_what_is_not_kept_is_said(region: Region) -> None:
    with pytest.raises(NotKept, match="no recording r9"):
        region.heard("r9")
    path = region.record("r1", bytes(100))
    path.with_suffix(".json").unlink()
    with pytest.raises(NotKept, match="not yet"):
        region.heard("r1")


def test_another_recording_is_not_passed_off_as_this_one(region: Region) -> None:
    """By who can write to the store, or to the database, but has no key."""
    one, other = region.record("r1", bytes(5000)), region.record("r2", bytes(6000))
    for each in (one, one.with_suffix(".json")):
        twin = other.with_name(other.name.replace(".rec", each.suffix))
        each.write_bytes(twin.read_bytes())
    with pytest.raises(NotAuthentic, match="another recording's"):
        region.heard("r1")
    call = region.calls["r2"]
    assert call.recording is not None
    region.calls["r2"] = replace(call, recording=replace(call.recording, sha256="0" * 64))
    with pytest.raises(NotAuthentic, match="another digest"):
        region.heard("r2")


def test_a_ledger_that_was_changed_cuts_nothing_off(region: Region) -> None:
    """A crash leaves a recording without its end, and its ledger says so: who can write to the
    store could say so of any."""
    path = region.record("r1", bytes(range(256)) * 50)
    side = path.with_suffix(".json")
    text, audio = side.read_text(), path.read_bytes()
    side.write_text(text.replace('"sealed": true', '"sealed": false'))
    path.write_bytes(audio[:4096])
    with pytest.raises(NotAuthentic, match="missing"):
        region.heard("r1")
    path.write_bytes(audio)
    side.write_text(text.replace('"PCMU"', '"PCMA"'))
    with pytest.raises(NotAuthentic, match="codec"):
        region.heard("r1")


def test_a_changed_octet_is_found_by_verifying_and_by_playing(region: Region) -> None:
    path = region.record("r1", bytes(5000))
    assert asyncio.run(region.catalogue.verify("r1")).octets == path.stat().st_size
    stored = bytearray(path.read_bytes())
    stored[3000] ^= 1
    path.write_bytes(stored)
    with pytest.raises(NotAuthentic, match="digest"):
        asyncio.run(region.catalogue.verify("r1"))
    with pytest.raises(NotAuthentic, match="segment 1"):
        region.heard("r1")


def test_of_another_region_nothing_is_played(region: Region, tmp_path: Path) -> None:
    region.record("r1", bytes(5000))
    foreign = Region(tmp_path, region.keys, "t2")
    foreign.calls = region.calls
    with pytest.raises(NotAuthentic, match="another recording's"):
        foreign.heard("r1")


def test_what_is_for_the_customer_only_the_customer_plays(region: Region, tmp_path: Path) -> None:
    mine, others, public = tmp_path / "acme.key.json", tmp_path / "b.json", tmp_path / "pub.json"
    PrivateKey.create().write(others, tmp_path / "b.pub.json")
    PrivateKey.create().write(mine, public)
    path = region.record("r1", bytes(range(256)) * 20, customers=(str(public),))
    with pytest.raises(KeyMissing, match="only the customer can play it"):
        region.heard("r1")
    assert asyncio.run(region.catalogue.verify("r1")).ledger.sha256  # the digest needs no key
    out = tmp_path / "call.wav"
    command = ["recordings", "decrypt", str(path), "-o", str(out), "--private-key"]
    refused = CliRunner().invoke(app, [*command, str(others)])
    assert refused.exit_code == 1 and "it is encrypted to customer-" in refused.output
    assert not out.exists()
    assert CliRunner().invoke(app, [*command, str(mine)]).exit_code == 0
    assert samples(out.read_bytes()) == 5120 and out.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(app, [*command, str(mine)])
    assert again.exit_code == 2 and "not overwritten" in again.output
