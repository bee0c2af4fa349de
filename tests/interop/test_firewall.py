"""The second lock: the kernel, with the ruleset of `relay boundary firewall`, in a namespace.

    node (relay's rules) ── veth ── peer, with an address inside the region and one outside

Packets are forced past the relay's own checks: a plain socket sends them. What the peer gets, and
the rules' counters, show which of them the kernel let through. Nothing of this machine's own
network is touched; where namespaces may not be made, that is said (`need`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.archive import Archive
from relay.config import example
from relay.residency.firewall import TABLE, nftables, systemd
from tests.interop.region import need

DEADLINE_S = 30
UNSHARE = ("unshare", "--net", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
INSIDE, OUTSIDE = "192.0.2.9", "203.0.113.9"
NODE = Path(__file__).with_name("firewall_node.py")


def manifest(enforce: bool = True) -> dict[str, Any]:
    def change(data: dict[str, Any]) -> None:
        data["region"] |= {"networks": ["127.0.0.0/8", "::1/128", "192.0.2.0/25"]}
        data["region"] |= {"enforce": enforce}
        data["region"]["networks"] += ["192.0.2.0/24", "2001:db8::/48"]  # they overlap

    return Archive(example(change)).manifest


def run(tmp_path: Path, ruleset: str) -> dict[str, Any]:
    """What happened in the namespace, as `firewall_node` tells it."""
    file = tmp_path / "boundary.nft"
    file.write_text(ruleset)
    done = subprocess.run(
        [*UNSHARE, sys.executable, NODE, file],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(autouse=True)
def namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    need("nft", "ip", "unshare", "nsenter")
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        problem = "no network namespace may be made here"
        if os.environ.get("RELAY_NO_SKIPS"):
            pytest.fail(problem)
        pytest.skip(problem)


@pytest.mark.parametrize("user", ["0", None], ids=["user", "whole host"])
def test_a_forced_packet_to_the_outside_is_dropped_by_the_kernel(
    tmp_path: Path, user: str | None
) -> None:
    found = run(tmp_path, nftables(manifest(), user))
    assert found["received"] == {INSIDE: 3, "2001:db8::9": 3}  # nothing came to the others
    assert found["sent"][OUTSIDE] == found["sent"]["2001:db8:1::9"] == "EPERM"
    counters = found["counters"]
    assert counters["outside_out"] >= 6
    assert counters["inside_out"] >= 6


@pytest.mark.parametrize("user", ["0", None], ids=["user", "whole host"])
def test_a_packet_from_the_outside_does_not_reach_a_port_of_the_node(
    tmp_path: Path, user: str | None
) -> None:
    found = run(tmp_path, nftables(manifest(), user))
    assert found["heard"] == [INSIDE, "2001:db8::9"]
    assert found["counters"]["outside_in"] >= 6
    assert found["counters"]["inside_in"] >= 6


def test_nobody_else_is_judged(tmp_path: Path) -> None:
    found = run(tmp_path, nftables(manifest(), "4711"))
    assert found["received"][OUTSIDE] == 3
    assert found["counters"]["outside_out"] == found["counters"]["inside_out"] == 0


def test_a_dry_run_counts_and_drops_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, nftables(manifest(enforce=False), "0"))
    assert found["received"] == dict.fromkeys((INSIDE, OUTSIDE, "2001:db8::9", "2001:db8:1::9"), 3)
    assert found["counters"]["outside_out"] >= 6
    assert "IPAddressDeny" not in systemd(manifest(enforce=False))


def test_the_rules_replace_themselves_and_nothing_else(tmp_path: Path) -> None:
    """Loaded twice, beside a table of somebody else's."""
    ruleset = nftables(manifest(), "0")
    found = run(tmp_path, f"table inet others {{ }}\n{ruleset}\n{ruleset}")
    assert sorted(found["tables"]) == sorted(["others", TABLE])
    assert OUTSIDE not in found["received"]
