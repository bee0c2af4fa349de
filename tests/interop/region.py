"""A relay of its own for one test: an address in 127.5.0.0/16, free ports, its log."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.probe.region import RegionSpec, TrunkSpec, host_port
from relay.probe.relay_process import RelayProcess

_counter = itertools.count(os.getpid() % 200)
DEADLINE_S = 20.0


def need(*programs: str) -> None:
    """Skip when a program is missing; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("RELAY_NO_SKIPS"):
        pytest.fail(f"not installed: {', '.join(missing)} (make test installs them)")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (make test installs them)")


def need_pjsua2() -> None:
    """As `need`, for the library that the probe endpoints use."""
    if importlib.util.find_spec("pjsua2") is None:
        problem = "pjsua2 is not installed (make test installs it)"
        if os.environ.get("RELAY_NO_SKIPS"):
            pytest.fail(problem)
        pytest.skip(problem)


def free_port(host: str) -> int:
    """A port that is free for UDP and TCP at this address now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with (
            socket.socket(family, socket.SOCK_DGRAM) as udp,
            socket.socket(family, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((host, 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind((host, port))
            except OSError:
                continue
            return port


@dataclass(frozen=True, slots=True)
class Party:
    """Where one of the test's own programs is."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


@dataclass(slots=True)
class Region:
    """Where everybody is, and the running relay."""

    relay: Party
    pbx: Party
    carrier: Party
    stranger: Party
    process: RelayProcess
    store: Path
    keys: Path

    def ended(self, count: int = 1) -> dict[str, Any]:
        """The log line of the `count`-th call that ended."""
        return self.process.wait("call_ended", DEADLINE_S, count)


def parties() -> list[Party]:
    """Four addresses that no other test uses: relay, PBX, carrier, stranger."""
    net = next(_counter) % 250 + 1
    hosts = [f"127.5.{net}.{last}" for last in range(1, 5)]
    return [Party(host, free_port(host)) for host in hosts]


@contextmanager
def region(
    tmp_path: Path,
    transport: str = "udp",
    pbx: dict[str, Any] | None = None,
    carrier: dict[str, Any] | None = None,
    outbound: Party | None = None,
    everyone: list[Party] | None = None,
    numbers: tuple[str, ...] = ("+*", "*"),
    bucket: str | None = None,
    **options: Any,
) -> Iterator[Region]:
    """A relay between a PBX and a carrier; fails when its log holds a traceback.

    `pbx` and `carrier` are more keys of their trunks. `outbound` is a proxy that stands
    for the carrier's address. Two parties at one address are one trunk, which calls itself.
    """
    relay, caller, callee, stranger = everyone or parties()
    store = tmp_path / "recordings"
    target = outbound or callee
    trunks: tuple[TrunkSpec, ...]
    if caller.host == callee.host:
        trunks = (TrunkSpec("pbx", target.host, target.port, transport, "pbx", pbx or {}, numbers),)
    else:
        trunks = (
            TrunkSpec("pbx", caller.host, caller.port, transport, "carrier", pbx or {}, numbers),
            TrunkSpec("carrier", target.host, target.port, transport, "pbx", carrier or {}),
        )
    spec = RegionSpec(relay.host, relay.port, trunks, bucket or store, **options)
    process = RelayProcess(spec.write(tmp_path / "relay.toml"), tmp_path / "relay.log")
    try:
        process.wait("serving", DEADLINE_S)
        yield Region(relay, caller, callee, stranger, process, store, tmp_path / "keys")
    finally:
        code = process.stop()
    log = process.log.read_text()
    assert "Traceback" not in log, log
    assert code == 0, log
