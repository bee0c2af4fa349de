"""A relay whose bucket is away, elsewhere or outside: calls are recorded, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.keys.ring import KeyRing
from relay.probe.certificates import Authority
from relay.probe.region import RegionSpec, TrunkSpec
from relay.recording.decryption import wav_of
from tests.interop.region import DEADLINE_S, Region, need, region
from tests.interop.sipp_run import PCAPS, answering, assert_all, call
from tests.unit.s3_server import FaultyS3

BUCKET = "s3://voice/calls"
RECORDED = {"recording": "record-from-answer-dual"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def s3(authority: Authority) -> Iterator[FaultyS3]:
    server = FaultyS3(authority.issue("s3", "127.0.0.1"))
    server.start()
    yield server
    server.stop()


def section(s3: FaultyS3, authority: Authority, **changed: str) -> dict[str, Any]:
    return {
        "endpoint": f"https://127.0.0.1:{s3.port}",
        "region": "eu-west-1",
        "access_key": "relay",
        "secret_key": "a secret",
        "ca": str(authority.file),
        **changed,
    }


def talk(r: Region) -> None:
    pcap = {"pcap": str(PCAPS / "g711a.pcap")}
    assert_all(call("pcap", r.pbx, r.relay, "-d", "1200", values=pcap))


def stored(s3: FaultyS3, path: str, directory: Path, keys: Path) -> bytes:
    """A recording of the bucket, in clear, by the region's keys."""
    key = "/" + path.removeprefix("s3://")
    audio = directory / Path(key).name
    audio.write_bytes(s3.objects[key])
    audio.with_suffix(".json").write_bytes(s3.objects[key.replace(".rec", ".json")])
    return wav_of(audio, KeyRing(keys))


def test_what_was_recorded_while_the_bucket_was_away_is_there_when_it_is_back(
    s3: FaultyS3, authority: Authority, tmp_path: Path
) -> None:
    need("sipp")
    s3.stop()
    options: dict[str, Any] = {"bucket": BUCKET, "s3": section(s3, authority)}
    with (
        region(tmp_path, pbx=RECORDED, **options) as r,
        answering("uas_pcma", r.carrier, "-rtp_echo", "-mp", "16000"),
    ):
        (away,) = r.process.find("store_away")
        assert "Connection refused" in away["problem"]
        talk(r)
        saved = r.process.wait("recording_saved", DEADLINE_S)
        assert Path(saved["path"]).read_bytes()[:4] != b"RIFF"
        s3.start()
        found = r.process.wait("recording_stored", DEADLINE_S)
        r.process.wait("store_back", DEADLINE_S)
        assert found["path"].startswith(f"{BUCKET}/20") and found["call"] == saved["call"]
        wav = stored(s3, found["path"], tmp_path, r.keys)
        assert wav[:4] == b"RIFF" and len(wav) > 8000
        assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
        assert len(r.process.find("store_away")) == 1


def test_what_an_earlier_run_left_in_the_spool_is_stored_by_the_next(
    s3: FaultyS3, authority: Authority, tmp_path: Path
) -> None:
    need("sipp")
    s3.fault = lambda method, path: 503
    options: dict[str, Any] = {"bucket": BUCKET, "s3": section(s3, authority)}
    with region(tmp_path, pbx=RECORDED, **options) as r, answering("uas_pcma", r.carrier):
        talk(r)
        r.process.wait("recording_saved", DEADLINE_S)
    assert not r.process.find("recording_stored") and s3.objects == {}
    command = (sys.executable, "-m", "relay", "store", "retry", "-c", str(tmp_path / "relay.toml"))
    refused = subprocess.run((*command, "--json"), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "503" in refused.stderr
    s3.fault = lambda method, path: None
    done = subprocess.run((*command, "--json"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (len(told["shipped"]), told["waiting"]) == (1, {})
    assert stored(s3, f"{BUCKET}/{told['shipped'][0]}", tmp_path, r.keys)[:4] == b"RIFF"


@pytest.mark.parametrize(
    ("changed", "code", "text"),
    [
        ({"region": "ap-southeast-2"}, 1, "the bucket voice is in eu-west-1; recording.s3.region"),
        ({"endpoint": "https://192.0.2.20"}, 2, "recording.s3.endpoint: 192.0.2.20 is outside"),
    ],
    ids=["elsewhere", "outside"],
)
def test_a_bucket_in_another_territory_stops_the_start_and_is_named(
    s3: FaultyS3,
    authority: Authority,
    tmp_path: Path,
    changed: dict[str, str],
    code: int,
    text: str,
) -> None:
    trunks = (
        TrunkSpec("pbx", "127.0.0.2", 5080, to="carrier", options=RECORDED),
        TrunkSpec("carrier", "127.0.0.3", 5070),
    )
    spec = RegionSpec("127.0.0.1", 5060, trunks, BUCKET, s3=section(s3, authority, **changed))
    file = spec.write(tmp_path / "relay.toml")
    command = (sys.executable, "-m", "relay", "serve", "-c", str(file))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert text in ended.stderr
    assert "a secret" not in ended.stderr
    audit = "".join(path.read_text() for path in (tmp_path / "audit").glob("*.jsonl"))
    assert ("store-refused" in audit) is (code == 1)  # a mistake in the file is none to keep
