"""`relay keys`: what it makes, changes and tells; each step is in the audit log first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from typer.testing import CliRunner

from relay.cli import app
from relay.keys.ring import PURPOSES, KeyRing
from relay.recording.encryption import EncryptedSink
from relay.recording.envelope import seal
from relay.recording.ledger import Ledger
from relay.recording.sink import FileSink
from relay.recording.wav import WavFile, header


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example region has its files below the working directory."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["keys", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def listed() -> dict[str, str]:
    return {key["id"]: key["state"] for key in json.loads(run("list", "--json"))["keys"]}


def audited() -> list[dict[str, object]]:
    lines = [path.read_text() for path in sorted(Path("var/audit").rglob("*.jsonl"))]
    return [json.loads(line) for line in "".join(lines).splitlines()]


def test_the_life_of_keys() -> None:
    assert "relay keys create" in run("check", code=1)
    made = json.loads(run("create", "--json"))["made"]
    assert [name.rpartition("-")[0] for name in made] == list(PURPOSES)
    assert "No key was missing" in run("create") and "every key" in run("check")
    first = made[0]
    second = run("rotate", "recordings").strip()
    assert (listed()[first], listed()[second]) == ("enabled", "primary")
    assert "rotate recordings first" in run("retire", second, code=1)
    run("retire", first)
    assert listed()[first] == "retired"
    run("retire", first, "--undo")
    assert listed()[first] == "enabled"
    assert "--yes" in run("retire", first, "--destroy", code=2)
    run("retire", first, "--destroy", "--yes")
    assert listed()[first] == "destroyed"
    actions = [(entry["action"], entry["subject"]) for entry in audited() if "subject" in entry]
    assert actions == [
        ("keys-create", ",".join(PURPOSES)),
        ("keys-created", ",".join(made)),
        ("keys-rotate", "recordings"),
        ("keys-rotated", second),
        *[("keys-retire", key) for key in (second, first, first, first)],
    ]


def test_the_public_key_is_what_receipts_are_verified_by(tmp_path: Path) -> None:
    run("create")
    run("rotate", "signing")
    ring = KeyRing("var/keys")
    run("public", "-o", "region.pub.pem")
    assert (
        load_pem_public_key(Path("region.pub.pem").read_bytes())
        == list(ring.public_keys.values())[-1]
    )
    assert run("public", "--all").count("BEGIN PUBLIC KEY") == 2


def test_a_key_that_others_may_read_is_told(tmp_path: Path) -> None:
    run("create")
    Path("var/keys/personal.json").chmod(0o644)
    assert json.loads(run("check", "--json", code=1)) == {
        "ok": False,
        "problem": "var/keys/personal.json: others may read it (mode 0644), so no key in it is "
        "used: chmod 600 var/keys/personal.json",
    }


def test_without_an_audit_log_nothing_is_changed() -> None:
    run("create")
    before = Path("var/keys/recordings.json").read_bytes()
    for path in Path("var/audit").iterdir():
        path.unlink()
    Path("var/audit").rmdir()
    Path("var/audit").write_text("in its place")
    run("rotate", "recordings", code=1)
    assert Path("var/keys/recordings.json").read_bytes() == before


def test_a_customers_pair_is_made_and_not_overwritten() -> None:
    key = run("customer", "--private", "acme.json", "--public", "acme.pub.json").strip()
    assert key.startswith("customer-")
    run("customer", "--private", "acme.json", "--public", "other.pub.json", code=2)
    assert not Path("other.pub.json").exists()


def test_a_customer_decrypts_what_was_recorded_for_them(keyring: KeyRing) -> None:
    run("customer", "--private", "acme.json", "--public", "acme.pub.json")
    run("customer", "--private", "other.json", "--public", "other.pub.json")
    started = datetime(2026, 7, 3, tzinfo=UTC)
    data_key, envelope = seal(keyring, "t1", "c1", 1, ["acme.pub.json"])
    sink = EncryptedSink(FileSink(Path("c1.rec")), data_key, envelope.context, envelope.segment)
    container = WavFile(sink, "PCMA", 1)
    container.write(b"\x55" * 9001)
    container.close()
    entry = Ledger("c1", "c1.rec", "PCMA", ["mixed"], started, envelope=envelope, sealed=True)
    Path("c1.json").write_bytes(entry.encode())

    def decrypted(key: str, code: int = 0) -> str:
        arguments = ["recordings", "decrypt", "c1.rec", "--private-key", key, "-o", "clear.wav"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return done.output

    assert "not to customer-" in decrypted("other.json", 1)
    assert "acme.pub.json: is no private key" in decrypted("acme.pub.json", 1)
    decrypted("acme.json")
    assert Path("clear.wav").read_bytes() == header("PCMA", 1, 9001) + b"\x55" * 9001 + b"\0"
    assert Path("clear.wav").stat().st_mode & 0o777 == 0o600
    assert "not overwritten" in decrypted("acme.json", 2)
    Path("clear.wav").unlink()
    Path("c1.rec").write_bytes(Path("c1.rec").read_bytes()[:-1])
    decrypted("acme.json", 1)
    assert not Path("clear.wav").exists()
