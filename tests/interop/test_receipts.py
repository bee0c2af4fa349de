"""The proof of a real call: its receipt and the audit log of its node, verified offline."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from relay.cli import app
from relay.database.audit_files import AuditFiles
from relay.keys.ring import KeyRing
from relay.residency.audit_verify import verify
from tests.interop.region import need, region
from tests.interop.sipp_run import PCAPS, answering, assert_all, call

RECORDED = {"recording": "record-from-answer-dual"}
PCAP = {"pcap": str(PCAPS / "g711a.pcap")}
NUMBER = "35315550199"
WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from relay.database.audit_files import AuditFiles
from relay.residency.audit import Draft

files = AuditFiles(Path(sys.argv[1]), "ie1", "node1", lambda: datetime.now(UTC), 4096)
while True:
    print(*files.append([Draft("read", subject="r" * 40)] * 3), flush=True)
"""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_recorded_call_has_a_receipt_and_the_log_of_its_node_verifies(tmp_path: Path) -> None:
    need("sipp")
    with region(tmp_path, pbx=RECORDED) as r, answering("uas_pcma", r.carrier):
        assert_all(call("pcap", r.pbx, r.relay, "-d", "500", values=PCAP))
        r.ended()
    config, key = tmp_path / "relay.toml", tmp_path / "region.pem"
    run("keys", "public", "-c", config, "-o", key)
    [found] = json.loads(run("calls", "list", "-c", config, "--json"))["calls"]
    file = tmp_path / "receipt.json"
    file.write_text(run("receipt", "show", found["id"], "-c", config))
    assert NUMBER not in file.read_text()
    receipt = json.loads(file.read_text())
    hosts = {each["host"] for leg in receipt["legs"] for each in leg["addresses"]}
    assert hosts == {r.pbx.host, r.carrier.host}
    audio = r.store / receipt["recording"]["object"]
    assert "verified" in run("receipt", "verify", file, "--key", key, "--recording", audio)
    run("audit", "export", "-c", config, "-o", tmp_path / "audit.jsonl")
    log = (tmp_path / "audit.jsonl").read_text()
    for action in ("relay-started", "relay-stopped", "receipt-read", "audit-exported"):
        assert f'"{action}"' in log, action
    assert NUMBER not in log
    assert "verified" in run("audit", "verify", tmp_path / "audit.jsonl", "--key", key)


def test_two_writers_that_are_killed_lose_nothing_that_they_acknowledged(tmp_path: Path) -> None:
    keys, _ = KeyRing.create(tmp_path / "keys")
    log = tmp_path / "audit"
    chance = random.Random(5)
    acknowledged: set[int] = set()
    for _ in range(4):
        writers = [writer(log) for _ in range(2)]
        for each in writers:
            assert each.stdout is not None
            for _ in range(chance.randrange(5, 60)):
                acknowledged.update(map(int, each.stdout.readline().split()))
        for each in writers:
            each.send_signal(signal.SIGKILL)
            octets, _ = each.communicate()
            whole = octets[: octets.rfind("\n") + 1]
            acknowledged.update(map(int, whole.split()))
    files = AuditFiles(log, "ie1", "node1", lambda: datetime.now(UTC))
    lines = list(files.export(keys.signer))
    found = verify(lines, keys.public_keys)
    assert found.ok, found.problems
    numbers = {json.loads(line)["n"] for line in lines[:-1] if b'"read"' in line}
    assert len(acknowledged) > 100 and acknowledged <= numbers


def writer(directory: Path) -> subprocess.Popen[Any]:
    command = [sys.executable, "-c", WRITER, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
