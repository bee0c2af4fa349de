"""What stops `relay serve` from starting, or is told at its start. Real processes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess
from tests.interop.region import DEADLINE_S, Party, parties

ELSEWHERE = "192.0.2.9"  # RFC 5737: no machine has it


def _config(tmp_path: Path, relay: Party, *changes: tuple[str, str], **options: Any) -> Path:
    trunk = TrunkSpec("pbx", relay.host, relay.port, to="pbx", **options)
    path = RegionSpec(relay.host, relay.port, (trunk,), tmp_path / "store").write(
        tmp_path / "relay.toml"
    )
    text = path.read_text().replace('"::1/128"', '"::1/128", "192.0.2.0/24"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def _refusal(config: Path, log: Path) -> str:
    """Why it did not start; its exit code must be 1."""
    process = RelayProcess(config, log)
    try:
        line = process.wait("cannot_start", DEADLINE_S)
        assert process.process.wait(DEADLINE_S) == 1
    finally:
        process.stop()
    assert "Traceback" not in log.read_text()
    return str(line["problem"])


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, kind: str) -> None:
    relay = parties()[0]
    config = _config(tmp_path, relay)
    holds = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, holds) as other:
        other.bind((relay.host, relay.port))
        if kind == "tcp":
            other.listen()
        said = _refusal(config, tmp_path / "log")
    assert f"{kind}:{relay}" in said
    assert "ss -" in said


@pytest.mark.parametrize("key", ["address", "address_ipv6"])
def test_a_media_address_of_another_machine_is_named(tmp_path: Path, key: str) -> None:
    """Else it would serve, and refuse every call with 503."""
    relay = parties()[0]
    line = f'address = "{relay.host}"'
    if key == "address":
        config = _config(tmp_path, relay, (line, f'address = "{ELSEWHERE}"'))
        said = _refusal(config, tmp_path / "log")
        assert f"media.address {ELSEWHERE}" in said
    else:
        other = "2001:db8::9"
        config = _config(
            tmp_path,
            relay,
            (line, f'{line}\naddress_ipv6 = "{other}"'),
            ('"::1/128"', '"::1/128", "2001:db8::/32"'),
        )
        said = _refusal(config, tmp_path / "log")
        assert f"media.address_ipv6 {other}" in said


def test_a_store_that_cannot_be_written_stops_the_start_only_where_it_is_needed(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").write_text("a file, not a directory")
    relay = parties()[0]
    config = _config(tmp_path, relay, options={"recording": "record-from-answer-dual"})
    assert str(tmp_path / "store") in _refusal(config, tmp_path / "log")
    process = RelayProcess(_config(tmp_path, relay), tmp_path / "second.log")
    try:
        process.wait("serving", DEADLINE_S)
    finally:
        assert process.stop() == 0
