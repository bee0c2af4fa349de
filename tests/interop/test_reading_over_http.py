"""A call that was really recorded, played over HTTP: from outside by a grant only."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.keys.ring import KeyRing
from relay.recording import wav
from relay.recording.decryption import wav_of
from tests.interop.region import DEADLINE_S, free_port, need, parties, region
from tests.interop.sipp_run import PCAPS, answering, assert_all, call
from tests.interop.test_call_records import until

PCAP = {"pcap": str(PCAPS / "g711a.pcap")}


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_recorded_call_is_played_outside_by_a_grant_only(tmp_path: Path) -> None:
    private, public = tmp_path / "staff.key.pem", tmp_path / "staff.pub.pem"
    command("staff", "key", "--private", str(private), "--public", str(public))
    everyone = parties()
    listen = f"{everyone[0].host}:{free_port(everyone[0].host)}"
    more = f"""
[http]
listen = "{listen}"
[access]
keys = [{{ id = "s1", public_key = "{public}" }}]
"""
    config = tmp_path / "relay.toml"

    def staff(name: str, role: str, jurisdiction: str) -> dict[str, str]:
        token = command(
            *("staff", "token", "-c", str(config), "--key", str(private), "--name", name),
            *("--role", role, "--jurisdiction", jurisdiction),
        )
        return {"authorization": f"Bearer {token}"}

    recorded = {"recording": "record-from-answer-dual"}
    with (
        region(tmp_path, pbx=recorded, everyone=everyone, more=more) as r,
        answering("uas_pcma", r.carrier),
        httpx.Client(base_url=f"http://{listen}/v1", timeout=10) as http,
    ):
        assert_all(call("pcap", r.pbx, r.relay, "-d", "1500", values=PCAP))
        r.process.wait("recording_stored", DEADLINE_S)
        [record] = until(config, lambda found: bool(found) and found[0].final)
        assert record.recording is not None
        jane = staff("jane", "reviewer", "US")
        [seen] = _recorded_calls(http, jane)
        assert seen["view"] == "pseudonyms" and "35315550199" not in str(seen)
        audio = f"/recordings/{seen['id']}/audio"
        for before in (jane, staff("joe", "reviewer", "US")):
            refused = http.get(audio, headers=before)
            assert refused.status_code == 403 and refused.json()["error"]["rule"] == "grant"

        end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        wish = {"reason": "ticket 7", "scope": {"records": [seen["id"]]}, "until": end}
        grant = http.post("/grants", json=wish, headers=jane).json()["id"]
        assert http.get(audio, headers=jane).status_code == 403
        aoife = staff("aoife", "approver", "EU")
        assert http.post(f"/grants/{grant}/approve", headers=aoife).status_code == 200

        played = http.get(audio, headers=jane)
        assert played.status_code == 200 and played.headers["content-type"] == "audio/wav"
        recording = r.store / record.recording.object
        said = wav_of(recording, KeyRing(r.keys))[wav.HEADER_OCTETS :]
        assert played.content[:4] == b"RIFF" and played.content[wav.HEADER_OCTETS :] == said
        assert len(said) > 2 * wav.RATE_HZ and len(set(said[::2])) > 8  # left: what SIPp played
        assert said[: wav.RATE_HZ] not in recording.read_bytes()
        assert http.get(audio, headers=staff("joe", "reviewer", "US")).status_code == 403
        assert http.post(f"/grants/{grant}/revoke", headers=aoife).status_code == 200
        assert http.get(audio, headers=jane).status_code == 403
    [log] = (tmp_path / "audit").glob("*.jsonl")
    entries = map(json.loads, log.read_text().splitlines())
    reads = [entry for entry in entries if entry["action"] == "recording-played"]
    assert [entry["actor"]["grant"] for entry in reads] == [grant]


def _recorded_calls(http: httpx.Client, who: dict[str, str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = http.get(
        "/calls", params={"recorded": True}, headers=who
    ).json()["calls"]
    return found
