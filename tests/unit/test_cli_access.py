"""What is kept, read by command and over the API as it is: keys, database, store and audit log."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from relay.archive import Archive
from relay.cli import app
from relay.config import load
from relay.control.access import Access
from relay.control.api import api
from relay.database.session import opened
from relay.errors import NotAuthentic, NotKept
from relay.keys.ring import KeyRing
from relay.recording import ledger, wav
from relay.recording.encryption import EncryptedSink
from relay.recording.envelope import seal
from relay.recording.ledger import Ledger
from relay.recording.sink import FileSink
from relay.residency.record import RecordingRecord
from tests.unit.access_samples import CALLER, call

EXAMPLE = (Path(__file__).parents[2] / "relay.example.toml").read_text("utf-8")
STARTED = datetime.now(UTC) - timedelta(hours=1)
AUDIO = random.Random(1).randbytes(40_000)  # 2.5 s of both sides
NAME = "2026/11/26/061500-c1.rec"


def run(*arguments: str, token: str = "") -> Result:
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "RELAY_STAFF_TOKEN": token}
    return CliRunner(env=environment).invoke(app, arguments)


def done(*arguments: str, token: str = "") -> str:
    result = run(*arguments, token=token)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, its keys, two calls and the recording of one."""
    directory = tmp_path_factory.mktemp("ie1")
    done(
        *("staff", "key", "--private", f"{directory}/staff.key.pem"),
        *("--public", f"{directory}/staff.pub.pem"),
    )
    path = directory / "region.toml"
    text = EXAMPLE
    for at in ('"', '"file:', '"sqlite:'):
        text = text.replace(f"{at}var/", f"{at}{directory}/")
    text += f"""
[audit]
directory = "{directory}/audit"

[access]
keys = [{{ id = "s1", public_key = "{directory}/staff.pub.pem" }}]
"""
    path.write_text(text)
    ring, _ = KeyRing.create(directory / "keys")
    _record(directory / "spool", ring)

    async def steps(archive: Archive) -> None:
        recording = RecordingRecord("r1", NAME, "PCMA", 2)
        other = call("c2", STARTED - timedelta(hours=1), recording=None)
        await archive.call_records.keep(call("c1", STARTED, recording=recording), other)

    with_archive(path, steps)
    return path


def _record(spool: Path, ring: KeyRing) -> None:
    path = spool / NAME
    path.parent.mkdir(parents=True)
    data_key, envelope = seal(ring, "ie1", "r1", 2)
    made = Ledger("r1", NAME, "PCMA", ["caller", "callee"], STARTED, envelope=envelope)
    ledger.begin(path, made)
    sink = EncryptedSink(FileSink(path), data_key, envelope.context, envelope.segment)
    sink.append(wav.header("PCMA", 2, len(AUDIO) // 2) + AUDIO)
    sink.close()
    made.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    made.octets = path.stat().st_size
    made.sealed = True
    made.close(2.5, None)
    ledger.finish(path, made)


def with_archive(path: Path, steps: Callable[[Archive], Awaitable[None]]) -> None:
    async def main() -> None:
        archive = Archive(load(path))
        async with opened(archive.database):
            await steps(archive)
        archive.audit.close()

    asyncio.run(main())


def token(region: Path, name: str, *roles: str, jurisdiction: str = "EU") -> str:
    wanted = [part for role in roles for part in ("--role", role)]
    key = str(region.parent / "staff.key.pem")
    return done(
        *("staff", "token", "-c", str(region), "--key", key, "--name", name),
        *("--jurisdiction", jurisdiction, *wanted),
    )


def entries(region: Path) -> list[dict[str, object]]:
    """Of the audit log, but for what it writes about itself."""
    found = map(json.loads, Archive(load(region)).audit.files.lines())
    return [entry for entry in found if entry["action"] not in ("audit-opened", "checkpoint")]


def test_who_runs_the_node_sees_pseudonyms_until_they_ask_for_more(region: Path) -> None:
    listed = json.loads(done("calls", "list", "-c", str(region), "--json"))
    assert [each["id"] for each in listed["calls"]] == ["c1", "c2"]
    assert CALLER not in str(listed) and listed["calls"][0]["caller_country"] == "IE"
    before = len(entries(region))
    clear = done("calls", "show", "c1", "-c", str(region), "--clear")
    assert json.loads(clear)["caller"] == CALLER
    last = entries(region)[-1]
    assert len(entries(region)) == before + 1
    assert last["action"] == "call-read" and last["actor"]["kind"] == "host"  # type: ignore[index]
    found = done("calls", "list", "-c", str(region), "--clear", "--number", CALLER, "--limit", "1")
    assert CALLER in found and "c2" not in found
    assert CALLER not in str(entries(region))


def test_a_grant_from_the_request_to_its_end(region: Path) -> None:
    jane = token(region, "jane", "reviewer", jurisdiction="US")
    aoife = token(region, "aoife", "approver")
    show = ("calls", "show", "c1", "-c", str(region), "--clear")
    refused = run(*show, token=jane)
    assert refused.exit_code == 1 and "from US you may read call records by a grant only" in (
        refused.stderr
    )
    ask = ("grants", "request", "-c", str(region), "--reason", "ticket 7", "--record", "c1")
    made = json.loads(done(*ask, "--until", "2h", "--json", token=jane))
    for who in (jane, ""):  # outside, and who runs the node
        assert run("grants", "approve", made["id"], "-c", str(region), token=who).exit_code == 1
    done("grants", "approve", made["id"], "-c", str(region), token=aoife)
    assert json.loads(done(*show, token=jane))["caller"] == CALLER
    assert run("calls", "show", "c2", "-c", str(region), "--clear", token=jane).exit_code == 1
    listed = done("grants", "list", "-c", str(region))
    assert "jane (US)" in listed and "ticket 7" in listed and "aoife" in listed
    done("grants", "revoke", made["id"], "-c", str(region))
    assert run(*show, token=jane).exit_code == 1
    grants = [
        entry["action"] for entry in entries(region) if str(entry["action"]).startswith("grant-")
    ]
    assert grants == ["grant-requested", "grant-approved", "grant-revoked"]


def test_over_the_api_with_all_that_is_real(region: Path) -> None:
    maeve, una = token(region, "maeve", "reviewer"), token(region, "una", "auditor")

    async def steps(archive: Archive) -> None:
        access = Access(
            *(archive.staff_tokens(), archive.reading, archive.granting, archive.audit),
            *(lambda: datetime.now(UTC), lambda bug: None),
        )
        transport = httpx.ASGITransport(api(access))
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
            headers = {"authorization": f"Bearer {maeve}"}
            whole = await client.get("/recordings/r1/audio", headers=headers)
            assert whole.status_code == 200, whole.text
            assert whole.content[-len(AUDIO) :] == AUDIO and whole.content[:4] == b"RIFF"
            part = await client.get(
                "/recordings/r1/audio", headers={**headers, "range": "bytes=10000-30000"}
            )
            assert part.status_code == 206 and part.content == whole.content[10000:30001]
            for form, begins in (("flac", b"fLaC"), ("ogg", b"OggS"), ("wav-pcm", b"RIFF")):
                made = await client.get(f"/recordings/r1/audio?format={form}", headers=headers)
                assert made.content.startswith(begins)
            counted = await client.get("/counts", headers=headers)
            assert counted.json()["recorded"] == 1
            log = await client.get("/audit", headers={"authorization": f"Bearer {una}"})
            lines = [line for line in log.text.splitlines() if '"action":"seal"' not in line]
            assert sum('"audit-exported"' in line for line in lines) == 1
            assert sum('"recording-played"' in line for line in lines) == 5
            digests = [hashlib.sha256(line.encode()).hexdigest() for line in lines]
            assert [json.loads(line)["previous"] for line in lines[1:]] == digests[:-1]

    with_archive(region, steps)


def test_a_recording_is_exported_by_who_may_hear_it(region: Path) -> None:
    output = region.parent / "out.wav"
    command = ("recordings", "export", "r1", "-c", str(region), "-o", str(output))
    jane = token(region, "jane", "reviewer", jurisdiction="US")
    refused = run(*command, token=jane)
    assert refused.exit_code == 1 and "by a grant only" in refused.stderr
    assert not output.exists()
    done(*command, token=token(region, "maeve", "reviewer"))
    assert output.read_bytes().endswith(AUDIO) and output.stat().st_mode & 0o777 == 0o600
    last = entries(region)[-1]
    assert (last["action"], last["subject"]) == ("recording-played", "r1")
    assert run(*command).exit_code == 2  # it is there already
    path = region.parent / "spool" / NAME
    stored = path.read_bytes()
    middle = len(stored) // 2
    path.write_bytes(stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :])
    half = region.parent / "half.wav"
    assert run(*command[:-1], str(half)).exit_code == 1 and not half.exists()
    path.write_bytes(stored)


def test_a_recording_that_is_gone_and_one_that_was_changed(region: Path) -> None:
    path = region.parent / "spool" / NAME
    stored = path.read_bytes()

    async def steps(archive: Archive) -> None:
        path.write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))
        with pytest.raises(NotAuthentic):
            await archive.recordings.open("r1")
        path.rename(path.with_suffix(".gone"))
        with pytest.raises(NotKept):
            await archive.recordings.open("r1")
        with pytest.raises(NotKept):
            await archive.recordings.open("r2")

    with_archive(region, steps)


def test_what_a_peer_wrote_does_nothing_to_a_terminal(region: Path) -> None:
    before = STARTED - timedelta(days=30)
    evil = "\x1b]0;x\x07\x9b31m\u202e[red]"

    async def steps(archive: Archive) -> None:
        await archive.call_records.keep(call("c4", before, caller=evil, recording=None))

    with_archive(region, steps)
    until = (before + timedelta(hours=1)).isoformat()
    page = ("calls", "list", "-c", str(region), "--until", until, "--limit", "1", "--clear")
    for shown in (done(*page), done(*page, "--json"), done("calls", "show", "c4", *page[2:4])):
        assert "c4" in shown
        assert shown.replace("\n", "").isprintable(), repr(shown)
    assert "[red]" in done(*page)


def test_who_runs_the_node_is_not_who_the_environment_says(
    region: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "aoife")
    done("calls", "show", "c1", "-c", str(region), "--clear")
    actor = entries(region)[-1]["actor"]
    assert actor["kind"] == "host" and not actor["name"].startswith("aoife")  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (("grants", "approve", "g9"), "there is no such grant", 1),
        (("calls", "show", "c9"), "there is no such call", 1),
        (("calls", "list", "--since", "yesterday"), "--since: 'yesterday' is no time", 2),
        (("calls", "list", "--until", "9999-12-31T23:59-12:00"), "is no time", 2),
        (("calls", "list", "--since", "-99999d"), "is no time", 2),
        (("calls", "list", "--token", "/nowhere"), "cannot be read", 2),
        (("grants", "request", "--reason", "x", "--until", "1h"), "a grant is for some calls", 1),
    ],
)
def test_what_cannot_be_done_is_told(
    region: Path, arguments: tuple[str, ...], text: str, code: int
) -> None:
    result = run(*arguments, "-c", str(region))
    assert result.exit_code == code and text in result.stderr, result.output


def test_a_token_that_proves_nobody_is_refused(region: Path) -> None:
    good = token(region, "maeve", "reviewer")
    for bad in (good[:-4] + "AAAA", "x"):
        result = run("calls", "list", "-c", str(region), token=bad)
        assert result.exit_code == 1 and "c1" not in result.stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--name", "Maeve Byrne"), "--name"),
        (("--ttl", "2d"), "--ttl"),
        (("--kid", "s2"), "[access] keys has no such key (keys: s1)"),
        (("--region", "us1"), None),
    ],
)
def test_a_staff_token_that_nobody_would_take(
    region: Path, options: tuple[str, str], text: str | None
) -> None:
    key = str(region.parent / "staff.key.pem")
    result = run(
        *("staff", "token", "-c", str(region), "--key", key, "--name", "m", "--role", "support"),
        *options,
    )
    if text is None:  # the configuration says which region
        assert result.exit_code == 0
    else:
        assert result.exit_code == 2 and text in result.stderr and result.stdout == ""


def test_a_staff_token_without_a_configuration(region: Path) -> None:
    key = str(region.parent / "staff.key.pem")
    ask = ("staff", "token", "--key", key, "--name", "m", "--role", "auditor", "--region", "ie1")
    assert "--kid is needed" in run(*ask).stderr
    made = json.loads(done(*ask, "--kid", "s1", "--jurisdiction", "US", "--json"))
    assert made["claims"]["jurisdiction"] == "US" and made["claims"]["roles"] == ["auditor"]


def test_a_key_is_never_overwritten(region: Path) -> None:
    private, public = region.parent / "staff.key.pem", region.parent / "staff.pub.pem"
    result = run("staff", "key", "--private", str(private), "--public", str(public))
    assert result.exit_code == 2 and "not overwritten" in result.stderr
    assert private.stat().st_mode & 0o777 == 0o600
