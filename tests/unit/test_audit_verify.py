"""The offline verifier: whatever is done to an export, to whichever field, is seen and named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.database.audit_files import AuditFiles
from relay.keys.ring import KeyRing
from relay.residency import audit
from relay.residency.audit import Actor, Draft, digest_of, line_of
from relay.residency.audit_verify import Findings, verify
from relay.residency.signing import signed

ANNA = Actor("staff", "anna", "IE", "g-1")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Log:
    """Twelve entries: 1 opens it, 5 and 12 are checkpoints; a seal."""

    def __init__(self, directory: Path, keys: KeyRing) -> None:
        self.keys = keys
        self.files = AuditFiles(directory, "ie1", "node1", lambda: NOON)
        self.add(3)
        self.anchors = [line_of(self.files.checkpoint(keys.signer))]
        self.add(6)
        self.lines = list(self.files.export(keys.signer))
        self.anchors.append(self.lines[11])

    def add(self, count: int) -> None:
        self.files.append([Draft("read", ANNA, f"rec-{i}", {"octets": i}) for i in range(count)])

    def verify(self, lines: list[bytes], anchors: list[bytes] | None = None) -> Findings:
        return verify(lines, self.keys.public_keys, anchors or [])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, keyring: KeyRing) -> Log:
    return Log(tmp_path_factory.mktemp("audit"), keyring)


def told(found: Findings, text: str) -> bool:
    return not found.ok and any(text in problem for problem in found.problems)


def rechained(log: Log, entries: list[dict[str, Any]]) -> list[bytes]:
    """As somebody without the key would write it anew: the digests fit, signatures stay."""
    lines, previous = [], audit.NO_ENTRY
    for number, entry in enumerate(entries, 1):
        line = line_of({**entry, "n": number, "previous": previous})
        previous = digest_of(line)
        lines.append(line + b"\n")
    return lines


def test_what_was_written_verifies_to_its_last_entry(log: Log) -> None:
    found = log.verify(log.lines, log.anchors)
    assert found.ok, found.problems
    assert (found.first, found.last, found.signed) == (1, 12, 12)
    assert (found.checkpoints, found.anchors, found.region) == (2, 2, "ie1")


def test_an_export_may_begin_later_and_still_be_anchored(log: Log) -> None:
    found = log.verify(list(log.files.export(log.keys.signer, 4)), log.anchors)
    assert found.ok and (found.first, found.last, found.anchors) == (4, 12, 2)


def test_a_retired_key_still_verifies(tmp_path: Path) -> None:
    keys, _ = KeyRing.create(tmp_path / "keys")
    log = Log(tmp_path / "audit", keys)
    keys.rotate("signing")
    log.add(1)
    assert log.verify(list(log.files.export(keys.signer))).ok
    last = {keys.signer.key_id: keys.public_keys[keys.signer.key_id]}
    assert told(verify(log.files.export(keys.signer), last), "which is none of the given keys")


def fields(document: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from fields(value, (*path, name))
        else:
            yield (*path, name)


def flipped(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy with another value there."""
    copy = json.loads(json.dumps(document))
    at = copy
    for name in path[:-1]:
        at = at[name]
    value = at[path[-1]]
    if isinstance(value, bool):
        at[path[-1]] = not value
    elif isinstance(value, (int, float)):
        at[path[-1]] = value + 1
    else:
        at[path[-1]] = ("x" if not value or value[0] != "x" else "y") + (value or "")[1:]
    return copy


@pytest.mark.parametrize("place", range(13))
def test_no_field_of_any_line_can_be_changed_or_left_out(log: Log, place: int) -> None:
    entry = json.loads(log.lines[place])
    tried = 0
    for path in fields(entry):
        changed = [*log.lines]
        changed[place] = line_of(flipped(entry, path)) + b"\n"
        assert not log.verify(changed).ok, path
        without = json.loads(log.lines[place])
        at = without
        for name in path[:-1]:
            at = at[name]
        del at[path[-1]]
        changed[place] = line_of(without) + b"\n"
        assert not log.verify(changed).ok, path
        tried += 1
    assert tried >= 6


def test_no_octet_can_be_changed(log: Log) -> None:
    octets = b"".join(log.lines)
    for place in range(0, len(octets) - 1, 7):
        changed = octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]
        assert not log.verify(changed.splitlines()).ok, place


def test_a_change_names_the_entry(log: Log) -> None:
    changed = [*log.lines]
    changed[6] = changed[6].replace(b"anna", b"otto")
    assert told(log.verify(changed), "entry 7 or 8 was changed")


@pytest.mark.parametrize("place", range(12))
def test_deletion_is_seen_wherever(log: Log, place: int) -> None:
    lines = log.lines[:place] + log.lines[place + 1 :]
    found = log.verify(lines)
    if 0 < place < 11:
        assert told(found, f"entries {place + 1} to {place + 1} are not before entry {place + 2}")
    else:
        assert told(found, "the seal is over entries 1 to 12")


@pytest.mark.parametrize("kept", range(13))
def test_an_end_that_was_cut_off_is_seen(log: Log, kept: int) -> None:
    assert told(log.verify(log.lines[:kept]), "the end was cut off")
    if kept < 12:
        assert told(log.verify([*log.lines[:kept], log.lines[-1]]), "the seal is over")


@pytest.mark.parametrize("place", range(11))
def test_another_order_is_seen(log: Log, place: int) -> None:
    lines = [*log.lines]
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    assert told(log.verify(lines), "re-ordered")


@pytest.mark.parametrize("place", range(1, 13))
def test_an_entry_that_was_put_in_or_replayed_is_seen(log: Log, place: int) -> None:
    for extra in (log.lines[4], log.lines[1]):  # a checkpoint, another one
        found = log.verify([*log.lines[:place], extra, *log.lines[place:]])
        assert not found.ok
    assert told(log.verify([*log.lines, log.lines[3]]), "after the seal")


def test_a_log_that_was_chained_anew_fails_at_its_checkpoints(log: Log) -> None:
    entries = [json.loads(line) for line in log.lines[:12]]
    entries[2]["actor"]["name"] = "otto"
    found = log.verify([*rechained(log, entries), log.lines[-1]])
    assert told(found, "checkpoint 5: its signature does not fit")
    assert told(found, "the seal is over another entry 12")
    del entries[2]
    assert told(log.verify([*rechained(log, entries), log.lines[-1]]), "checkpoint 4")
    unsigned = [entry for entry in entries if entry["action"] != "checkpoint"]
    assert told(log.verify([*rechained(log, unsigned), log.lines[-1]]), "the seal is over entries")


def test_checkpoint_and_seal_of_another_log_are_no_good(log: Log, tmp_path: Path) -> None:
    other = Log(tmp_path, log.keys)
    found = log.verify([*log.lines[:12], other.lines[12]])
    assert told(found, "the seal is of another log")
    lines = [*log.lines[:4], other.lines[4], *log.lines[5:]]
    assert told(log.verify(lines), "checkpoint 5 is of another log")


def test_a_signature_of_another_document_makes_no_checkpoint(log: Log) -> None:
    other = signed({"call": "c1"}, log.keys.signer)
    changed = [*log.lines]
    changed[4] = line_of({**json.loads(changed[4]), "signature": other["signature"]}) + b"\n"
    assert told(log.verify(changed), "checkpoint 5: its signature does not fit")


def test_an_anchor_shows_a_log_that_was_cut_back_and_sealed_with_the_key(
    log: Log, tmp_path: Path
) -> None:
    [path] = log.files.directory.glob("*.jsonl")
    (tmp_path / path.name).write_bytes(b"".join(path.read_bytes().splitlines(True)[:8]))
    cut = AuditFiles(tmp_path, "ie1", "node1", lambda: NOON)
    lines = list(cut.export(log.keys.signer))
    assert log.verify(lines).ok  # nothing in it says so
    assert told(log.verify(lines, log.anchors), "entry 12 was anchored")
    cut.append([Draft("read", ANNA, "another")] * 9)
    lines = list(cut.export(log.keys.signer))
    assert log.verify(lines).ok
    found = log.verify(lines, log.anchors)
    assert told(found, "entry 12 is not the checkpoint that was anchored: rewritten")
    assert found.anchors == 1


def test_a_log_under_another_name_is_not_taken_for_anchored(log: Log, tmp_path: Path) -> None:
    other = AuditFiles(tmp_path, "ie1", "node2", lambda: NOON)
    other.append([Draft("read", ANNA, "another")] * 20)
    lines = list(other.export(log.keys.signer))
    assert log.verify(lines).ok
    assert told(log.verify(lines, log.anchors), "none of the anchors is of these entries")


def test_anchors_that_were_changed_are_told(log: Log) -> None:
    changed = log.anchors[0].replace(b"node1", b"node2")
    found = log.verify(log.lines, [changed])
    assert told(found, "checkpoint 5 of the anchors: its signature does not fit")
    assert told(log.verify(log.lines, [b"{}"]), "line 1 of the anchors is no checkpoint")


def test_a_clock_that_went_back_is_counted_and_no_fault(tmp_path: Path, keyring: KeyRing) -> None:
    clock = iter(NOON + timedelta(hours=hours) for hours in (0, 1, -2, 3, 3, 3))
    files = AuditFiles(tmp_path, "ie1", "node1", lambda: next(clock))
    for _ in range(2):
        files.append([Draft("read", ANNA)])
    found = verify(files.export(keyring.signer), keyring.public_keys)
    assert found.ok and found.clock_steps == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]",
        b"{",
        b'{"n":1}',
        b"\xff",
        b"null",
        b"[" * 100_000,
        b'{"a":NaN}',
        b"9" * 9999,
    ],
)
def test_nothing_that_a_line_holds_breaks_it(log: Log, line: bytes) -> None:
    found = log.verify([*log.lines[:3], line, *log.lines[3:]])
    assert found.problems == ["line 4 is no entry in its one form: it was changed"]
    assert not log.verify([line]).ok and not log.verify(log.lines, [line + b"x"]).ok


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which the example region has keys and a log; verify needs neither."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["keys", "create"]).exit_code == 0
    assert CliRunner().invoke(app, ["keys", "public", "-o", "region.pem"]).exit_code == 0
    return tmp_path


def test_the_commands_export_and_verify(region: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["audit", "export", "-o", "audit.jsonl"]).exit_code == 0
    assert (region / "audit.jsonl").stat().st_mode & 0o077 == 0
    for path in [*(region / "var/keys").iterdir()]:
        path.unlink()
    good = run(app, ["audit", "verify", "audit.jsonl", "--key", "region.pem"])
    assert good.exit_code == 0 and "verified" in good.output
    lines = (region / "audit.jsonl").read_bytes().splitlines(True)
    (region / "audit.jsonl").write_bytes(b"".join(lines[:-1]))
    bad = run(app, ["audit", "verify", "audit.jsonl", "--key", "region.pem", "--json"])
    assert bad.exit_code == 1 and "cut off" in json.loads(bad.stdout)["problems"][0]
    for arguments in (["gone.jsonl", "--key", "region.pem"], ["audit.jsonl", "--key", "gone.pem"]):
        assert run(app, ["audit", "verify", *arguments]).exit_code == 2


def test_the_commands_show_and_sign(region: Path) -> None:
    run = CliRunner().invoke
    assert "keys-created" in run(app, ["audit", "tail"]).output
    made = run(app, ["audit", "checkpoint", "--json"])
    assert made.exit_code == 0 and json.loads(made.stdout)["checkpoint"]["action"] == "checkpoint"
    assert json.loads(run(app, ["audit", "tail", "-n", "1", "--json"]).stdout)["signature"]
    (region / "var/keys/signing.json").unlink()
    failed = run(app, ["audit", "export"])
    assert failed.exit_code == 1 and "signing.json" in failed.stderr
