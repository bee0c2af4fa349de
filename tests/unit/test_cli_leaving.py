"""`relay erase`, `hold`, `retention`, `export` and `report` on a region with what it keeps."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from relay.archive import Archive
from relay.cli import app
from relay.commands.report import actions
from relay.config import load
from relay.database.session import opened
from relay.keys.ring import KeyRing
from relay.residency.record import CallRecord
from relay.residency.signing import is_signed_by
from relay.upkeep import Upkeep
from tests.unit.kept_records import CALLED, CALLER, call, month

EXAMPLE = Path(__file__).parents[2] / "relay.example.toml"
OTHER = "+33140205000"


class Kept:
    """A region in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "region.toml"
        text = EXAMPLE.read_text("utf-8")
        for old, new in (
            ('id = "ie1"', 'id = "ie1"\nentity = "Example Voice Ireland Ltd"'),
            ('name = "acme" ', 'name = "acme"\nretention_days = 30.0\n#'),
        ):
            assert old in text
            text = text.replace(old, new, 1)
        self.config.write_text(text)
        self.archive = Archive(load(self.config))
        KeyRing.create(self.archive.config.keys.directory)
        self.recordings = directory / "var/recordings"

    def keep(self, records: Iterable[CallRecord]) -> None:
        async def main() -> None:
            archive = Archive(self.archive.config)
            async with opened(archive.database):
                await archive.call_records.keep(*records)

        asyncio.run(main())

    def record(self, *names: str) -> None:
        """Audio and ledger of these calls, in their place."""
        for name in names:
            audio = self.recordings / f"2026/11/{name}.rec"
            audio.parent.mkdir(parents=True, exist_ok=True)
            audio.write_bytes(b"encrypted")
            audio.with_suffix(".json").write_text("{}")

    def run(self, *arguments: str) -> Result:
        environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        found = CliRunner(env=environment).invoke(app, [*arguments, "-c", str(self.config)])
        assert not isinstance(found.exception, Exception), found.exception
        return found

    def audited(self) -> str:
        return b"\n".join(Archive(self.archive.config).audit.files.lines()).decode()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.chdir(tmp_path)
    return Kept(tmp_path)


def test_erasing_a_number(kept: Kept) -> None:
    kept.keep([call(), call("c2", OTHER, "+33140205999")])
    kept.record("c1", "c2")
    would = kept.run("erase", "--number", CALLER, "--dry-run")
    assert (
        json.loads(would.stdout)["recordings"] == 1
        and (kept.recordings / "2026/11/c1.rec").exists()
    )
    done = kept.run("erase", "--number", CALLER, "--reference", "DSR-17")
    certificate = json.loads(done.stdout)
    assert done.exit_code == 0 and certificate["complete"], done.output
    assert is_signed_by(certificate, kept.archive.keys.public_keys)
    assert sorted(file.name for file in kept.recordings.rglob("*.*")) == ["c2.json", "c2.rec"]
    shown = json.loads(kept.run("erasure", "show", certificate["id"]).stdout)
    assert shown["recordings"] == certificate["recordings"]
    said = done.output + kept.audited()
    assert "erasure-done" in said and certificate["id"] in said
    for number in (CALLER, CALLED):
        assert number.lstrip("+") not in said


def test_a_certificate_is_verified_offline(kept: Kept) -> None:
    kept.keep([call()])
    kept.record("c1")
    kept.run("erase", "--number", CALLER, "-o", "certificate.json")
    kept.run("keys", "public", "-o", "region.pub.pem")
    text = Path("certificate.json").read_text()
    Path("changed.json").write_text(text.replace('"removed"', '"pending"', 1))
    Path("list.json").write_text("[]")

    def verify(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["erasure", "verify", *arguments])

    good = verify("certificate.json", "--key", "region.pub.pem")
    assert good.exit_code == 0 and "complete: calls redacted: 1" in good.stdout, good.output
    for file in ("changed.json", "list.json"):
        bad = verify(file, "--key", "region.pub.pem")
        assert bad.exit_code == 1 and f"✗ {file}: it" in bad.stderr
    assert verify("absent.json", "--key", "region.pub.pem").exit_code == 2
    assert verify("certificate.json", "--key", "certificate.json").exit_code == 2


def test_what_is_erased_is_recorded_no_more(kept: Kept) -> None:
    kept.keep([call()])
    kept.record("c1")
    assert "yes" in kept.run("calls", "list").stdout
    kept.run("erase", "--number", CALLER)
    for arguments in ((), ("--clear",)):
        listed = kept.run("calls", "list", *arguments).stdout
        assert "c1" in listed and "yes" not in listed
    assert "c1" not in kept.run("calls", "list", "--recorded").stdout


def test_a_hold_says_why_nothing_is_erased(kept: Kept) -> None:
    kept.keep([call()])
    kept.record("c1")
    hold = kept.run("hold", "set", "--number", CALLED, "--reason", "case 4711").stdout.strip()
    held = kept.run("erase", "--number", CALLER)
    assert held.exit_code == 1 and hold in held.stderr and "it stays" in held.stderr
    listed = kept.run("hold", "list")
    assert "in force" in listed.stdout and "case 4711" in listed.stdout
    assert CALLED.lstrip("+") not in listed.stdout
    assert kept.run("hold", "release", hold).exit_code == 0
    assert not (kept.recordings / "2026/11/c1.rec").exists()  # it was to be erased
    again = kept.run("hold", "release", hold)
    assert again.exit_code == 1 and hold in again.stderr
    assert "released" in kept.run("hold", "list", "--json").stdout


def test_retention_is_per_trunk(kept: Kept) -> None:
    now = datetime.now(UTC)
    old, older = (now - timedelta(days=days) for days in (31, 99))
    kept.keep(
        [
            call("c1", started=old),
            call("c2", started=older, account="other"),
            call("c3", started=now),
        ]
    )
    kept.record("c1", "c2", "c3")
    done = kept.run("retention", "run", "--json")
    assert json.loads(done.stdout) == {"calls": 1, "recordings": 1, "held": 0}
    names = sorted(file.stem for file in kept.recordings.rglob("*.rec"))
    assert names == ["c2", "c3"]
    assert json.loads(kept.run("retention", "run", "--json").stdout)["calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("erase",), "whose data"),
        (("erase", "--number", "0151 2345"), "written in full"),
        (("erase", "--identity", "alice"), "whose data"),
        (("erase", "--number", CALLER, "--reference", "for " + CALLER), "kept in clear"),
        (("hold", "set", "--reason", "case 1"), "what is held"),
        (("hold", "set", "--reason", "he is 353155501", "--call", "c1"), "kept in clear"),
        (("report", "--quarter", "2026Q5"), "not a quarter"),
        (("export", "usage", "--recipient", "b", "--period", "2026", "-o", "x"), "not a month"),
        (("export", "usage", "--recipient", "../b", "--period", "2026-11", "-o", "x"), "short"),
    ],
)
def test_a_mistake_is_told(kept: Kept, arguments: tuple[str, ...], expected: str) -> None:
    result = kept.run(*arguments)
    assert result.exit_code == 2 and expected in result.stderr
    assert not Path("x").exists()


def exported(kept: Kept, recipient: str, form: str) -> dict[str, Any]:
    done = kept.run(
        *("export", "usage", "--recipient", recipient, "--period", "2026-11"),
        *("--format", form, "-o", recipient),
    )
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(Path(recipient, "export.json").read_bytes())
    return found


def test_usage_leaves_under_pseudonyms_only(kept: Kept) -> None:
    records = month(900, 60)
    december = call("december", started=datetime(2026, 12, 1, tzinfo=UTC))
    kept.keep([*records, december])
    billing, support = exported(kept, "billing", "jsonl"), exported(kept, "support", "parquet")
    assert is_signed_by(billing, kept.archive.keys.public_keys)
    assert sum(account["calls"] for account in billing["accounts"]) == len(records)
    lines = [json.loads(line) for line in Path("billing/calls.jsonl").read_text().splitlines()]
    table = pq.read_table("support/calls.parquet").to_pylist()
    assert len(lines) == billing["calls"] == len(table) == support["calls"] > 500
    assert list(lines[0]) == list(table[0])
    assert {row["call"] for row in lines}.isdisjoint(row["call"] for row in table)
    assert {row["entity"] for row in lines} == {"Example Voice Ireland Ltd"}

    left = b"".join(
        file.read_bytes() for place in ("billing", "support") for file in Path(place).iterdir()
    )
    words = set(re.findall(rb"[0-9a-z@.+]{6,}", left))
    for record in records:
        numbers = {record.caller, record.called, *(leg.number for leg in record.legs)}
        theirs = {record.id, *numbers, *(number.lstrip("+") for number in numbers)}
        theirs |= {leg.sip_call_id for leg in record.legs}
        assert words.isdisjoint(value.encode() for value in theirs)
    assert "export-made" in kept.audited()


def test_one_recipients_export_is_never_put_beside_anothers(kept: Kept) -> None:
    kept.keep([call()])
    exported(kept, "billing", "jsonl")
    again = ("export", "usage", "--recipient", "support", "--period", "2026-11", "-o", "billing")
    result = kept.run(*again, "--format", "parquet")
    assert result.exit_code == 2 and "not overwritten" in result.stderr
    assert json.loads(Path("billing/export.json").read_bytes())["recipient"] == "billing"
    assert not Path("billing/calls.parquet").exists()


def test_without_an_entry_in_the_audit_log_nothing_leaves(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep([call()])
    Path("var/audit").parent.mkdir(exist_ok=True)
    Path("var/audit").write_text("no directory")
    for command in (
        ("export", "usage", "--recipient", "billing", "--period", "2026-11", "-o", "out"),
        ("report", "--quarter", "2026Q4", "-o", "out"),
        ("erase", "--number", CALLER),
        ("hold", "set", "--call", "c1", "--reason", "case 1"),
    ):
        result = kept.run(*command)
        assert result.exit_code == 1 and "audit" in result.stderr, command
    assert not Path("out").exists()


def test_the_report_of_a_quarter(kept: Kept) -> None:
    now = datetime.now(UTC)
    quarter = f"{now.year}Q{(now.month + 2) // 3}"
    kept.keep([call("c1", started=now), call("c2", OTHER, "+33140205999", started=now)])
    kept.run("erase", "--number", CALLER)
    done = kept.run("report", "--quarter", quarter, "-o", "out")
    assert done.exit_code == 0, done.output
    report = json.loads(Path(f"out/report-ie1-{quarter}.json").read_bytes())
    this = f"{now:%Y-%m}"
    assert report["calls"]["all"][this] == 2 and report["recordings"]["erased_since"][this] == 1
    assert report["erasures"]["requested"][this] == 1
    assert report["erasures"]["calls_redacted"][this] == 1
    assert {place["what"] for place in report["places"]} >= {"recordings", "database", "keys"}
    page = Path(f"out/report-ie1-{quarter}.html").read_text("utf-8")
    assert "Example Voice Ireland Ltd" in page and "acme" not in page


def test_a_node_does_it_by_itself(kept: Kept) -> None:
    """A call that is too old, and a recording that was in a spool when its caller was erased."""
    now = datetime.now(UTC)
    young = call("c2", OTHER, started=now)
    assert young.recording is not None
    spooled = replace(young.recording, object="2026/11/26/c2.rec")
    kept.keep([call("c1", started=now - timedelta(days=31)), replace(young, recording=spooled)])
    kept.record("c1", "26/c2")
    assert kept.run("erase", "--number", OTHER).exit_code == 0
    waiting = Path("var/spool/2026/11/26/c2.rec")
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b"encrypted")
    waiting.with_suffix(".json").write_text("{}")

    async def main() -> None:
        archive = Archive(kept.archive.config)
        try:
            await Upkeep(archive).once(0.0)
        finally:
            archive.audit.close()
            await archive.database.close()

    asyncio.run(main())
    assert not waiting.exists() and list(kept.recordings.rglob("*.rec")) == []
    assert "retention-done" in kept.audited()


def test_a_report_counts_calls_where_they_are_counted_and_not_named() -> None:
    """The entry of a read has the ids of its calls, that of an erasure their number."""
    entries = (
        ("calls-read", {"calls": "c1,c2", "count": 2}),
        ("retention-done", {"calls": 3, "recordings": 1}),
    )
    lines = [
        json.dumps(
            {"n": n, "at": "2026-11-26T08:00:00Z", "action": action, "actor": {}, "details": told}
        ).encode()
        for n, (action, told) in enumerate(entries, 1)
    ]
    found = actions(lines)
    assert found["calls-read"]["2026-11"] == 1 and "calls-read:calls" not in found
    assert found["retention-done:calls"]["2026-11"] == 3
