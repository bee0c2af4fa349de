"""Runs SIPp and tells what it counted."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.region import DEADLINE_S, Party

SCENARIOS = Path(__file__).parent / "sipp"
PCAPS = Path("/usr/share/sip-tester")  # of the Debian package


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one SIPp process. `errors` is its own list of unexpected events."""

    exit_code: int
    successful: int
    failed: int
    retransmitted: int
    errors: str


@dataclass(slots=True)
class Sipp:
    """One SIPp process at `own`; the scenario is a file of tests/interop/sipp or built in."""

    scenario: str
    own: Party
    arguments: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    directory: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="sipp-")
    )
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sipp:
        chosen = self._scenario()
        with (Path(self.directory.name) / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("sipp", *chosen, "-i", self.own.host, "-p", str(self.own.port)),
                    *("-mi", self.own.host, "-nostdin", "-trace_err", "-recv_timeout", "15000"),
                    *self.arguments,
                ],
                cwd=self.directory.name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def _scenario(self) -> tuple[str, str]:
        """A built-in scenario, or a file of ours with its @names@ filled in."""
        path = SCENARIOS / f"{self.scenario}.xml"
        if not path.exists():
            return ("-sn", self.scenario)
        text = path.read_text()
        for name, value in self.values.items():
            text = text.replace(f"@{name}@", value)
        filled = Path(self.directory.name) / path.name
        filled.write_text(text)
        return ("-sf", str(filled))

    def wait(self, deadline_s: float = DEADLINE_S) -> Result:
        """Its result; killed (and failed) at the deadline."""
        assert self.process is not None
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = -1
        self.stop()
        directory = Path(self.directory.name)
        screen = (directory / "log").read_text(errors="replace")
        errors = "\n".join(f.read_text(errors="replace") for f in directory.glob("*errors.log"))
        return Result(
            code,
            _last(r"Successful call\s*\|\s*\d+\s*\|\s*(\d+)", screen),
            _last(r"Failed call\s*\|\s*\d+\s*\|\s*(\d+)", screen),
            sum(int(n) for n in re.findall(r"[<>]-*\s+(?:E-RTD\d\s+)?\d+\s+(\d+)", screen)),
            errors or screen[-2000:],
        )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else -1


@contextmanager
def answering(scenario: str, own: Party, *arguments: str) -> Iterator[Sipp]:
    """A SIPp that waits for calls; listens when the block begins."""
    sipp = Sipp(scenario, own, arguments).start()
    try:
        wait_listening(own, sipp)
        yield sipp
    finally:
        sipp.stop()


def wait_listening(own: Party, sipp: Sipp, deadline_s: float = 10.0) -> None:
    """Until a UDP or TCP socket has this port."""
    deadline = time.monotonic() + deadline_s
    while not listens(own):
        assert sipp.process is not None
        assert sipp.process.poll() is None, sipp.wait().errors
        assert time.monotonic() < deadline, f"nothing listens at {own}"
        time.sleep(0.02)  # polls for the socket


def listens(own: Party) -> bool:
    """Is there a UDP or TCP socket with this address now?"""
    packed = ipaddress.ip_address(own.host).packed
    # The kernel prints each word of an address in the machine's own order.
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    wanted = "".join(f"{word:08X}" for word in words) + f":{own.port:04X} "
    kinds = ("udp6", "tcp6") if ":" in own.host else ("udp", "tcp")
    return any(wanted in Path(f"/proc/net/{kind}").read_text() for kind in kinds)


def call(
    scenario: str,
    own: Party,
    relay: Party,
    *arguments: str,
    calls: int = 1,
    rate: int = 10,
    values: dict[str, str] | None = None,
) -> Result:
    """Make calls through the relay and wait for their end."""
    number = () if "-s" in arguments else ("-s", "+35315550199")
    load = ("-m", str(calls), "-r", str(rate), *number, *arguments, str(relay))
    return Sipp(scenario, own, load, values or {}).start().wait(DEADLINE_S + calls / rate)


def refused(
    status: int, own: Party, relay: Party, *arguments: str, header: str = "CSeq", pattern: str = "."
) -> Result:
    """One call that must get this status, with a header that matches the pattern."""
    return call(
        "uac_refused",
        own,
        relay,
        *arguments,
        values={"status": str(status), "header": f"{header}:", "pattern": pattern},
    )


def assert_all(result: Result, calls: int = 1) -> None:
    """Every call went as the scenario says."""
    assert (result.exit_code, result.successful, result.failed) == (0, calls, 0), result.errors
