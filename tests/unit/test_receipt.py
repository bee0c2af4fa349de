"""Receipts of calls: what they say, and that no field of one can be changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.keys.ring import KeyRing
from relay.keys.signing import pem
from relay.residency.receipt import receipt_of, verify
from relay.residency.record import CallRecord, Seen
from relay.residency.signing import signed
from tests.unit.record_samples import CALLED, CALLER, ended, final, ongoing

RECORD = final(ended(ongoing(), recorded=True))
REFUSED = Seen("media", "203.0.113.9", 4000, False, False)
DRY_RUN = Seen("contact", "203.0.113.8", 5060, False, True)


def seeing(*seen: Seen) -> CallRecord:
    caller, callee = RECORD.legs
    return replace(RECORD, legs=(replace(caller, seen=(*caller.seen, *seen)), callee))


def made(keys: KeyRing, record: CallRecord = RECORD) -> dict[str, Any]:
    """As a file has it."""
    return json.loads(json.dumps(signed(receipt_of(record), keys.signer), indent=1))


def test_it_names_addresses_codecs_keys_digest_and_packets(keyring: KeyRing) -> None:
    receipt = made(keyring)
    caller = receipt["legs"][0]
    assert (caller["codec"], caller["encryption"]) == ("PCMA", "AES_CM_128_HMAC_SHA1_80")
    assert (caller["packets"], caller["relayed"]) == (3000, 2999)
    assert caller["addresses"] == [
        {"use": "media", "host": "192.0.2.77", "port": 40000, "inside": True, "allowed": True}
    ]
    recording = receipt["recording"]
    assert (recording["keys"], recording["sha256"]) == (["k1"], "ab" * 32)
    assert (recording["relayed"], recording["recorded"]) == (5998, 5998)
    assert receipt["policy"] == "sha256:00"
    found = verify(receipt, keyring.public_keys)
    assert found.contained and found.addresses == 1 and found.call == "c1"


def test_no_number_identity_or_call_id_of_sip_is_in_it(keyring: KeyRing) -> None:
    text = json.dumps(made(keyring))
    for personal in (CALLER, CALLED, "alice", "secret-call-id"):
        assert personal not in text


def test_what_was_refused_is_told_and_what_was_used_outside_is_no_proof(keyring: KeyRing) -> None:
    refused = verify(made(keyring, seeing(REFUSED)), keyring.public_keys)
    assert refused.contained and refused.refused == ("203.0.113.9 (media)",)
    used = verify(made(keyring, seeing(DRY_RUN)), keyring.public_keys)
    assert not used.contained and used.used_outside == ("203.0.113.8 (contact)",)


@pytest.mark.parametrize("record", [ongoing(), ended(ongoing(), recorded=True)])
def test_a_call_that_is_not_final_has_none(record: CallRecord) -> None:
    with pytest.raises(ValueError, match="c1 is not over, or its recording is not closed"):
        receipt_of(record)


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value and every container of a document."""
    if path:
        yield path
    if isinstance(part, dict):
        for name, value in part.items():
            yield from places(value, (*path, name))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from places(value, (*path, index))


def changed(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value[:-1] + ("0" if value[-1:] != "0" else "1")
        case None:
            return 0
        case _:
            return [*value, "x"] if isinstance(value, list) else {**value, "x": 1}


def test_no_field_can_be_changed_or_left_out(keyring: KeyRing) -> None:
    receipt = made(keyring, seeing(REFUSED))
    tried = 0
    for path in places(receipt):
        for remove in (False, True):
            copy = json.loads(json.dumps(receipt))
            at = copy
            for name in path[:-1]:
                at = at[name]
            if remove:
                del at[path[-1]]
            else:
                at[path[-1]] = changed(at[path[-1]])
            found = verify(copy, keyring.public_keys)
            assert found.problem and not found.contained, path
            tried += 1
    assert tried > 120


def test_another_signed_document_is_no_receipt(keyring: KeyRing, tmp_path: Path) -> None:
    other = signed({"kind": "erasure", "version": 1}, keyring.signer)
    assert verify(other, keyring.public_keys).problem == "it is no call-receipt of version 1"
    strangers, _ = KeyRing.create(tmp_path / "keys")
    found = verify(made(strangers), keyring.public_keys)
    assert found.problem.endswith("which is none of the given keys")
    assert verify({}, keyring.public_keys).problem == "it is not signed"
    assert verify({"signature": {"key": []}}, keyring.public_keys).problem == "it is not signed"


def test_the_command_verifies_offline(keyring: KeyRing, tmp_path: Path) -> None:
    run = CliRunner().invoke
    audio = tmp_path / "audio.bin"
    audio.write_bytes(b"encrypted")
    assert RECORD.recording is not None
    digest = hashlib.sha256(b"encrypted").hexdigest()
    record = replace(RECORD, recording=replace(RECORD.recording, sha256=digest))
    file, key = tmp_path / "receipt.json", tmp_path / "region.pem"
    file.write_text(json.dumps(made(keyring, record), indent=2))
    key.write_bytes(b"".join(pem(each) for each in keyring.public_keys.values()))
    command = ["receipt", "verify", str(file), "--key", str(key)]
    good = run(app, [*command, "--recording", str(audio)])
    assert good.exit_code == 0 and "verified" in good.output
    audio.write_bytes(b"another")
    bad = run(app, [*command, "--recording", str(audio), "--json"])
    assert bad.exit_code == 1 and "another digest" in json.loads(bad.stdout)["problem"]
    file.write_text(file.read_text().replace("192.0.2.77", "192.0.2.78"))
    assert run(app, command).exit_code == 1
    file.write_text(json.dumps(made(keyring, record)).replace("{", '{"status": 486, ', 1))
    twice = run(app, command)
    assert twice.exit_code == 2 and "twice" in twice.stderr  # others would read the first one
    file.write_text("no receipt")
    assert run(app, command).exit_code == 2
