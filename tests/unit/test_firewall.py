"""The boundary as text for the kernel; what it does there is `tests/interop/test_firewall`."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from relay.archive import Archive
from relay.cli import app
from relay.config import example
from relay.residency.firewall import nftables, systemd


def manifest(**sections: dict[str, Any]) -> dict[str, Any]:
    def change(data: dict[str, Any]) -> None:
        for section, keys in sections.items():
            data[section] |= keys

    return Archive(example(change)).manifest


def relay(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["boundary", *words])
    return result.exit_code, result.output


def test_networks_that_overlap_are_one_interval() -> None:
    networks = ["127.0.0.0/8", "::1/128", "192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32"]
    rules = nftables(manifest(region={"networks": networks}), "relay")
    assert "elements = { 127.0.0.0/8, 192.0.2.0/24 }" in rules
    assert "IPAddressAllow=192.0.2.0/24\n" in systemd(manifest(region={"networks": networks}))


def test_a_region_of_one_family_has_an_empty_set_for_the_other() -> None:
    rules = nftables(manifest(region={"networks": ["127.0.0.0/8"]}), "relay")
    assert "set inside6 {\n        type ipv6_addr\n        flags interval\n    }" in rules


def test_the_node_is_judged_at_the_ports_that_it_has() -> None:
    listen = ["udp:127.0.0.1:20100", "tcp:127.0.0.1:5060"]  # one beside those of the media
    rules = nftables(manifest(sip={"listen": listen}, media={"ports": "20000-20099"}), "1")
    assert "udp dport { 20000-20100 } goto judge_in" in rules
    assert "tcp dport { 5060, 8080 } goto judge_in" in rules


def test_the_policy_is_named_and_a_dry_run_drops_nothing() -> None:
    dry = manifest(region={"enforce": False})
    assert f"policy {Archive(example()).policy}" in nftables(manifest(), None)
    assert "drop" not in nftables(dry, None) and "Deny" not in systemd(dry)


@pytest.mark.parametrize("user", ["", "relay; flush ruleset", "a b", "../x", "-1", "Relay\n"])
def test_a_user_that_is_no_name_is_refused(user: str) -> None:
    code, said = relay("firewall", "--user", user)
    assert code == 2 and "no name of a user" in said


def test_the_commands() -> None:
    code, said = relay("firewall")
    assert code == 0 and "meta skuid relay goto judge_out" in said
    code, said = relay("firewall", "--whole-host")
    assert code == 0 and "skuid" not in said and said.count("nd-neighbor-solicit") == 2
    code, said = relay("firewall", "--format", "systemd")
    assert code == 0 and "IPAddressDeny=any" in said
    assert relay("check", "127.0.0.1", "[::1]") == (0, "inside   127.0.0.1\ninside   [::1] (::1)\n")
    code, said = relay("check", "--json", "127.0.0.1", "8.8.8.8")
    assert code == 1 and '"ok": false' in said
    code, said = relay("check", "nobody.invalid")
    assert code == 1 and "OUTSIDE  nobody.invalid (no address)" in said
