"""What the figures share: CPU and memory of processes, the relay, SIPp, the machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.relay_cost import cpu_ns, machine
from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess

ROOT = Path(__file__).resolve().parent.parent
RELAY = ("127.5.10.1", 5060)
CALLER = ("127.5.10.2", 5080)
CALLEE = ("127.5.10.3", 5070)


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its descendants, by the scheduler's own count."""
    return sum(cpu_ns(each) for each in tree(pid)) / 1e9


def resident_octets(pid: int) -> int:
    """Resident memory (RssAnon and the rest) of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(bench: str, **fields: object) -> None:
    """The one JSON line."""
    print(json.dumps({"bench": bench, **fields, "machine": machine()}))


Runs = dict[str, list[dict[str, Any]]]


def alternating(
    doc: str | None, modes: Iterable[str], measured: Callable[[str, int, float], dict[str, Any]]
) -> tuple[int, Runs]:
    """By the options of the command line: how many calls, and the runs of each mode, which take
    turns. `measured` gets a mode, the calls and the seconds of a run."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    runs: Runs = {mode: [] for mode in modes}
    for _ in range(options.rounds):
        for mode, each in runs.items():
            each.append(measured(mode, options.calls, options.seconds))
    return options.calls, runs


def report_ratio(
    bench: str,
    calls: int,
    cost: dict[str, float],
    ratio: float | None,
    target: float,
    runs: Runs,
) -> int:
    """The JSON line of a cost per packet against another one; the exit code: 0 within `target`.

    `ratio` is None when one of the two had no run worth counting.
    """
    report(bench, calls=calls, us_per_packet=cost, ratio=ratio, target_ratio=target, runs=runs)
    return 0 if ratio is not None and ratio <= target else 1


def trunks(
    recording: str = "do-not-record", more: dict[str, Any] | None = None
) -> tuple[TrunkSpec, TrunkSpec]:
    """A PBX whose every call goes to a carrier; `more` are keys of its trunk."""
    return (
        TrunkSpec("pbx", *CALLER, to="carrier", options={"recording": recording, **(more or {})}),
        TrunkSpec("carrier", *CALLEE),
    )


@contextlib.contextmanager
def relay(
    recording: str = "do-not-record",
    log_level: str = "info",
    pbx: dict[str, Any] | None = None,
    sip: dict[str, Any] | None = None,
    module: str = "relay",
) -> Iterator[RelayProcess]:
    """`relay serve`, or `module` in its place, between CALLER and CALLEE; ends without a traceback
    or raises."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        scratch = Path(directory)
        region = RegionSpec(
            *RELAY, trunks(recording, pbx), scratch / "store", log_level=log_level, sip=sip or {}
        )
        process = RelayProcess(region.write(scratch / "relay.toml"), scratch / "relay.log", module)
        try:
            process.wait("serving")
            yield process
        finally:
            process.stop()
        if "Traceback" in process.log.read_text():
            raise RuntimeError(process.tail())


class Sipp:
    """One SIPp process; its final statistics come from its last screen."""

    def __init__(self, *arguments: str) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="relay-sipp-")
        self.log = Path(self.directory.name) / "log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["sipp", *arguments, "-nostdin", "-trace_err"],
                cwd=self.directory.name,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self, deadline_s: float) -> dict[str, int]:
        """Wait for its end; cumulative counters: successful, failed, peak, retransmitted."""
        try:
            self.process.wait(deadline_s)
        finally:
            self.stop()
        text = self.log.read_text(errors="replace")
        counters = {
            "successful": _last(r"Successful call\s*\|\s*\d+\s*\|\s*(\d+)", text),
            "failed": _last(r"Failed call\s*\|\s*\d+\s*\|\s*(\d+)", text),
            "peak": _last(r"Peak was (\d+) calls", text),
        }
        if os.environ.get("BENCH_VERBOSE"):
            for errors in Path(self.directory.name).glob("*errors.log"):
                print(errors.read_text(errors="replace")[:3000], file=sys.stderr)
        self.directory.cleanup()
        return counters

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else -1


@contextlib.contextmanager
def callee() -> Iterator[Sipp]:
    """SIPp as the answering side."""
    host, port = CALLEE
    sipp = Sipp("-sf", str(ROOT / "bench/sipp/uas.xml"), "-i", host, "-p", str(port), "-mi", host)
    try:
        wait_bound(host, port)
        yield sipp
    finally:
        sipp.stop()
        sipp.directory.cleanup()


def wait_bound(host: str, port: int, deadline_s: float = 10.0) -> None:
    """Until a UDP socket has this address."""
    deadline = time.monotonic() + deadline_s
    wanted = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X} "
    while wanted not in Path("/proc/net/udp").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on UDP {host}:{port}")
        time.sleep(0.02)


def calls(
    count: int,
    rate: int,
    hold_ms: int,
    target: tuple[str, int] = RELAY,
    scenario: str = "uac",
    more: tuple[str, ...] = (),
) -> dict[str, int]:
    """Complete calls from CALLER to RELAY at a bounded rate; SIPp's counters.

    `target` is what answers: the relay itself, or who is behind a proxy. `more` are
    arguments of SIPp.
    """
    host, port = CALLER
    sipp = Sipp(
        *(
            "-sf",
            str(ROOT / f"bench/sipp/{scenario}.xml"),
            "-i",
            host,
            "-p",
            str(port),
            "-mi",
            host,
            "-s",
            "+35315550199",
        ),
        *("-m", str(count), "-r", str(rate), "-l", str(count), "-d", str(hold_ms)),
        *more,
        *("-key", "target", f"{target[0]}:{target[1]}", f"{RELAY[0]}:{RELAY[1]}"),
    )
    return sipp.wait(count / rate + hold_ms / 1000 + 60)
