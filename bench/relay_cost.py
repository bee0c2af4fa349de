"""(a) CPU of the relay per forwarded packet, alternating with rtpengine in userspace.

    python -m bench.relay_cost [--calls 500] [--seconds 6] [--rounds 2] [--alone] [--record]

Every leg sends 50 packets/s of 172 octets over loopback. CPU is that of the relaying
process with all its threads, from the scheduler's own count (nanoseconds), divided by the
packets that arrived at the other end. Prints one JSON line.

A run in which the generator or the relay had to wait for a CPU says nothing about the
relay's cost or loss: it carries `saturated` with the reasons and is left out of the result.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.rtpengine import rtpengine

ROOT = Path(__file__).resolve().parent.parent
PEER = "127.1.10.1"  # the generator
OURS = "127.1.10.2"
THEIRS = "127.1.10.3"
FIRST_PEER_PORT = 10000
PORTS = (16000, 32000)
MOST_WAITED = 20.0  # percent of the time that a relay may be ready without a CPU
MOST_LOST = 0.1  # percent of the packets
# (the generator's port, the relay's port, SRTP session keys as the generator reads them or "")
Legs = list[tuple[int, int, str]]


def generator() -> Path:
    """Build the load generator if its source is newer."""
    source, program = ROOT / "bench/native/generator.c", ROOT / "build/bench/generator"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O2", "-Wall", "-o", str(program), str(source)]
        command += ["-lpthread", "-lcrypto"]
        subprocess.run(command, check=True)
    return program


def cpu_ns(pid: int) -> int:
    """CPU that all threads of a process have used so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0])
    return total


def waited_ns(pid: int) -> int:
    """How long the busiest thread of a process was ready and had no CPU, so far."""
    waits = [0]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            ran, waited = (task / "schedstat").read_text().split()[:2]
            waits.append(int(waited) if int(ran) else 0)
    return max(waits)


def saturated(figures: dict[str, float], legs: int, seconds: float) -> list[str]:
    """Why a run says nothing about the relay: the machine had no CPU for its load."""
    reasons = []
    wanted = legs * 50 * seconds
    if figures["sent"] < 0.99 * wanted:
        reasons.append(f"the generator sent {figures['sent']:.0f} of {wanted:.0f} packets")
    if figures["late"] > 0.02 * wanted:
        reasons.append(f"the generator sent {figures['late']:.0f} packets over 5 ms late")
    if figures["unread"]:
        reasons.append(f"the generator did not read {figures['unread']:.0f} packets in time")
    # A process that had to wait and still forwarded everything is measured well.
    if figures["waited_percent"] > MOST_WAITED and figures["loss_percent"] > MOST_LOST:
        reasons.append(f"the relay waited for a CPU {figures['waited_percent']} % of the time")
    return reasons


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def serve(calls: int, record: bool, nap_us: int, secure_sides: int, webrtc: str) -> None:
    """Our engine in this process: prints the legs, relays until stdin ends.

    `webrtc` is a suite: then the callers are voice clients whose ICE and DTLS are done.
    """
    from bench.srtp_keys import SUITE, fresh_keys, session_text
    from relay.call.ports import LegMedia, MediaAddress, Side
    from relay.media.engine import Engine
    from relay.sdp.description import IceDtls

    region = [ipaddress.ip_network("127.0.0.0/8")]
    engine = Engine(OURS, None, PORTS, 1, 60.0, nap_us=nap_us, latch_networks=region)
    engine.start()
    legs: Legs = []
    open_calls = []
    for index in range(calls):
        call = engine.open(f"bench-{index}", False, False)
        for side in (Side.CALLER, Side.CALLEE):
            port = FIRST_PEER_PORT + 2 * index + side.value
            remote = MediaAddress(PEER, port, port + 1)
            keys = fresh_keys(webrtc or SUITE) if side.value < secure_sides else None
            if webrtc and side is Side.CALLER:
                ice = IceDtls("ours", "p" * 24, "theirs", "q" * 24, ())
                call.update(side, LegMedia(None, frozenset({0}), webrtc=ice))
                call.select(side, (PEER, port))
                call.secure(side, keys)
            else:
                call.update(side, LegMedia(remote, frozenset({0}), srtp=keys))
            legs.append((port, call.local(side).port, session_text(keys)))
        if record:
            call.record(True)
        open_calls.append(call)
    print(json.dumps(legs), flush=True)
    sys.stdin.read()
    print(json.dumps(dict(engine.counters())), flush=True)
    engine.close()


@contextlib.contextmanager
def our_engine(calls: int, options: list[str]) -> Iterator[tuple[int, str, Legs]]:
    command = [sys.executable, "-m", "bench.relay_cost", "--serve", "--calls", str(calls)]
    process = subprocess.Popen(
        [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        legs = [(local, port, keys) for local, port, keys in json.loads(process.stdout.readline())]
        yield process.pid, OURS, legs
    finally:
        process.stdin.close()
        counters = process.stdout.read()
        if os.environ.get("BENCH_VERBOSE"):
            print({k: v for k, v in json.loads(counters).items() if v}, file=sys.stderr)
        process.wait(10)


@contextlib.contextmanager
def their_engine(calls: int, secure: bool = False) -> Iterator[tuple[int, str, Legs]]:
    with rtpengine(THEIRS, PORTS) as (pid, client):
        legs: Legs = []
        for call in range(calls):
            ports = (FIRST_PEER_PORT + 2 * call, FIRST_PEER_PORT + 2 * call + 1)
            legs += client.call(f"bench-{call}", PEER, ports, secure)
        yield pid, THEIRS, legs


def measure(pid: int, host: str, legs: Legs, seconds: float) -> dict[str, Any]:
    """Load the relay; its CPU per packet, loss and latency."""
    load = subprocess.Popen(
        [str(generator()), PEER, "1500", str(int(seconds * 1000))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write("".join(f"{local} {host} {port} {keys}\n" for local, port, keys in legs))
    load.stdin.close()
    if load.stdout.readline() != "begin\n":
        raise RuntimeError("the generator did not start")
    before, waited = cpu_ns(pid), waited_ns(pid)
    load.stdout.readline()
    used, waited = cpu_ns(pid) - before, waited_ns(pid) - waited
    figures: dict[str, Any] = json.loads(load.stdout.readline())
    load.wait(10)
    figures["us_per_packet"] = round(used / 1000 / max(1, figures["received"]), 3)
    figures["loss_percent"] = round(100 * (1 - figures["received"] / figures["sent"]), 4)
    figures["cores"] = round(used / 1e9 / seconds, 3)
    figures["resident_kib"] = resident_kib(pid)
    figures["waited_percent"] = round(waited / 1e7 / seconds, 1)
    if reasons := saturated(figures, len(legs), seconds):
        figures["saturated"] = reasons
    return figures


def median_cost(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Microseconds of CPU per packet by name, of those that had a run worth counting."""
    return {
        name: statistics.median(run["us_per_packet"] for run in usable)
        for name, results in runs.items()
        if (usable := [run for run in results if "saturated" not in run])
    }


def machine() -> dict[str, object]:
    """Where and what was measured."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": commit.stdout.strip(),
    }


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Alternating runs of ours and of rtpengine."""
    options = ["--nap-us", str(arguments.nap_us)] + (["--record"] if arguments.record else [])
    runs: dict[str, list[dict[str, Any]]] = {"relay": [], "rtpengine": []}
    for _ in range(arguments.rounds):
        with our_engine(arguments.calls, options) as (pid, host, legs):
            runs["relay"].append(measure(pid, host, legs, arguments.seconds))
        if not arguments.alone:
            with their_engine(arguments.calls) as (pid, host, legs):
                runs["rtpengine"].append(measure(pid, host, legs, arguments.seconds))
    cost = median_cost(runs)
    ratio = round(cost["relay"] / cost["rtpengine"], 3) if len(cost) == 2 else None
    return {
        "bench": "relay_cost",
        "calls": arguments.calls,
        "recording": arguments.record,
        "us_per_packet": cost,
        "ratio": ratio,
        "target_ratio": 0.65,
        "runs": {name: results for name, results in runs.items() if results},
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="without rtpengine")
    parser.add_argument("--record", action="store_true", help="copy everything to the tap")
    parser.add_argument("--nap-us", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--secure-sides", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--webrtc", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(
            arguments.calls,
            arguments.record,
            arguments.nap_us,
            arguments.secure_sides,
            arguments.webrtc,
        )
    else:
        print(json.dumps(compare(arguments)))


if __name__ == "__main__":
    main()
