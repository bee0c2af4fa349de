"""(i) 20,000 calls with random events in them: nothing may stay behind.

    python -m bench.soak [--calls 20000] [--rate 30] [--seed 1] [--short]

PBX, office (with a password, recorded) and a carrier of two addresses call each other through
one `relay serve` over loopback; `bench/soak_plan.py` has what happens in a call. Datagrams are
lost and repeated, and a stranger sends rubbish all the while. Memory, descriptors and ports are
compared while nothing goes on: 64*T1 after a call its transactions are gone (RFC 3261). At 30
calls/s the first 2,000 take longer than that, so that memory has come to its level by then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from bench import common
from bench.soak_peer import Peer
from bench.soak_phone import Phone
from bench.soak_plan import Plan, draw
from relay.probe.region import RegionSpec, TrunkSpec
from relay.probe.relay_process import RelayProcess

FIRST = 2000  # calls before memory is measured for the first time
MOST_GROWTH = 1.05
DATABASE = "relay.db"  # and SQLite's two files beside it
MOST_OF_THE_DATABASE = 15  # five connections that are kept
QUIET_S = 200.0  # after the last call: half a session, its refresh unanswered, 64*T1 twice
FORGET_S = 90.0
IDLE_S = 15.0
NET = f"127.6.{os.getpid() % 250 + 1}."  # two may run at once
RELAY = (NET + "1", 5060)
PBX, CARRIER, SECOND = (NET + "2", 5080), (NET + "3", 5070), (NET + "4", 5070)
OFFICE, STRANGER = (NET + "5", 5080), (NET + "9", 5060)
PASSWORD = "soak"


def write_region(scratch: Path) -> Path:
    """The relay's configuration; returns its file."""
    both = [
        {"uri": f"sip:{host}:{port}", "priority": priority}
        for priority, (host, port) in enumerate((CARRIER, SECOND))
    ]
    login = {"username": "office", "password": PASSWORD}
    # Short sessions: on hold without voice, only they show that both ends have gone.
    anything = {"transfer": "enable-all", "session_expires_s": 90}
    office = {"credentials": [login], "recording": "record-from-answer-dual", **anything}
    trunks = (
        TrunkSpec("pbx", *PBX, to="carrier", options=anything, numbers=("+*",)),
        TrunkSpec(
            "carrier",
            *CARRIER,
            to="pbx",
            options={
                "allow": [f"{CARRIER[0]}/32", f"{SECOND[0]}/32"],
                "origination": both,
                **anything,
            },
            numbers=("+*",),
        ),
        TrunkSpec("office", *OFFICE, to="carrier", options=office, numbers=("+*",)),
    )
    region = RegionSpec(*RELAY, trunks, scratch / "store", idle_timeout_s=IDLE_S)
    return region.write(scratch / "relay.toml")


class Watch:
    """The relay as its status and the kernel tell of it."""

    def __init__(self, process: RelayProcess) -> None:
        self._process = process
        self._log = process.log.open("rb")

    async def status(self) -> dict[str, Any]:
        """A fresh `status` event. Raises TimeoutError."""
        self._log.seek(0, os.SEEK_END)
        self._process.process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(20):
            while True:
                line = self._log.readline()
                if not line.endswith(b"\n"):
                    self._log.seek(-len(line), os.SEEK_CUR)
                    await asyncio.sleep(0.05)
                elif b'"status"' in line and (found := json.loads(line))["event"] == "status":
                    return dict(found)

    async def quiet(self, peers: list[Peer]) -> dict[str, Any]:
        """Waits until nothing goes on; the last status, whatever it says by the deadline."""
        deadline = time.monotonic() + QUIET_S
        while True:
            found = await self.status()
            busy = sum(found[name] for name in ("active", "dialogs", "transactions"))
            if (not busy and not any(peer.busy for peer in peers)) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(1.0)

    def measure(self, status: dict[str, Any]) -> dict[str, Any]:
        media, pid = status["media"], self._process.pid
        free = media.get("port_pairs_free", 0) + media.get("port_pairs_resting", 0)
        return {
            "resident_mib": round(common.resident_octets(pid) / 2**20, 2),
            **_descriptors(pid),
            "port_pairs_in_use": media["port_pairs"] - free,
            **{name: status[name] for name in ("active", "dialogs", "transactions")},
        }


def _descriptors(pid: int) -> dict[str, int]:
    """Those of the database apart: connections to it are kept for the next use."""
    files = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            files.append(os.readlink(each))
    database = sum(Path(file).name.startswith(DATABASE) for file in files)
    return {"descriptors": len(files) - database, "of_the_database": database}


class Soak:
    """The peers, and the calls that they make."""

    def __init__(self, random: Random, short: bool) -> None:
        self.random = random
        self.counts: Counter[str] = Counter()
        self._short = short
        self._plans: dict[str, Plan] = {}

        def peer(name: str, own: tuple[str, int], password: str = "") -> Peer:
            return Peer(name, own, RELAY, random, self._plans, self.counts, password)

        self._callers = [
            peer("+35315550100", PBX),
            peer("+35315550200", CARRIER),
            peer("office", OFFICE, PASSWORD),
        ]
        self.peers = [*self._callers, peer("+35315550200", SECOND)]
        self._index = 0

    async def calls(self, count: int, rate: float) -> None:
        """At a bounded rate; returns when the last one has been placed."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(STRANGER)
            for number in range(count):
                wait_s = start + number / rate - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                elif number % 20 == 0:
                    await asyncio.sleep(0)  # late: the answers must be read all the same
                self._one()
                if number % 10 == 0:
                    stranger.sendto(self.random.randbytes(200), RELAY)

    def _one(self) -> None:
        plan = draw(self.random, self._index, not self._short)
        self._index += 1
        self._plans[plan.number] = plan
        asyncio.get_running_loop().call_later(FORGET_S, self._plans.pop, plan.number)
        caller = self.random.choices(self._callers, (50, 35, 15))[0]
        self.counts[f"planned: {plan.outcome}"] += 1
        Phone(caller, plan, 0).place("12" if plan.outcome == "bad number" else plan.number)
        caller.settle()


async def run(options: argparse.Namespace, process: RelayProcess) -> dict[str, Any]:
    watch = Watch(process)
    soak = Soak(Random(options.seed), options.short)
    for peer in soak.peers:
        await peer.start()
    marks = [watch.measure(await watch.status())]
    cpu, begun = common.cpu_s(process.pid), time.monotonic()
    first = 0 if options.short else min(FIRST, options.calls // 2)
    for count in (first, options.calls - first):
        await soak.calls(count, options.rate)
        status = await watch.quiet(soak.peers)
        marks.append(watch.measure(status))
    for peer in soak.peers:
        peer.close()
    start, early, end = marks
    counters = {group: status[group] for group in ("sip", "calls", "guard")}
    return {
        "calls": options.calls,
        "rate": options.rate,
        "seed": options.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_ms_per_call": round((common.cpu_s(process.pid) - cpu) * 1000 / options.calls, 3),
        "start": start,
        f"after_{first}": early,
        "end": end,
        "growth": round(end["resident_mib"] / early["resident_mib"], 4),
        "bugs": counters["sip"].get("bugs", 0),
        "relay": counters,
        "peers": dict(sorted(soak.counts.items())),
    }


def verdict(found: dict[str, Any], short: bool) -> list[str]:
    """What was not as it must be; empty when all held."""
    start, end = found["start"], found["end"]
    problems = [
        f"{name} is {end[name]}"
        for name in ("active", "dialogs", "transactions", "port_pairs_in_use")
        if end[name]
    ]
    if end["descriptors"] != start["descriptors"]:
        problems.append(f"descriptors: {start['descriptors']} became {end['descriptors']}")
    if end["of_the_database"] > MOST_OF_THE_DATABASE:
        problems.append(f"{end['of_the_database']} descriptors of the database")
    if found["bugs"]:
        problems.append(f"{found['bugs']} bugs in the log")
    if not short and found["growth"] > MOST_GROWTH:
        problems.append(f"resident memory grew to {found['growth']} of what it was")
    if not found["peers"].get("answered"):
        problems.append("no call was answered")
    return problems


def table(found: dict[str, Any]) -> str:
    """The three moments side by side."""
    moments = [name for name in found if isinstance(found[name], dict) and "active" in found[name]]
    rows = [["", *moments]]
    rows += [[name, *(str(found[m][name]) for m in moments)] for name in found["end"]]
    return "\n".join(f"{row[0]:<20}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20000)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--short", action="store_true", help="without what takes 32 s to end; memory not compared"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-soak-") as directory:
        scratch = Path(directory)
        process = RelayProcess(write_region(scratch), scratch / "relay.log")
        try:
            process.wait("serving")
            process.wait("records_flow")  # until then its database is not open
            found = uvloop.run(run(options, process))
        finally:
            code = process.stop()
            text = process.log.read_text(errors="replace")
        problems = verdict(found, options.short)
        if "Traceback" in text or code != 0:
            at = max(text.find("Traceback"), 0)
            problems.append(f"exit code {code}; the log has: {text[at : at + 3000]}")
    print(table(found), *problems, sep="\n", file=sys.stderr)
    common.report("soak", **found, held=not problems)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
