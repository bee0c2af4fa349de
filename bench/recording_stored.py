"""What encryption and storage add to the CPU of a relay that records: at most 10 %.

    python -m bench.recording_stored [--calls 500] [--seconds 8] [--rounds 2]

Standing calls, both ends sending 50 packets/s, all of them recorded; alternating with a relay that
writes the same in clear (`bench.plain_recorder`). The calls then end all at once, and every
recording must be stored whole: each packet in it, no gap. What ending and storing them costs is
spread over the packets of a call of three minutes.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

from bench import common
from bench.callers import Callers
from bench.relay_cost import measure, median_cost
from relay.recording import ledger
from relay.recording.ledger import Ledger

MODES = {"plain": "bench.plain_recorder", "stored": "relay"}
TARGET = 1.1
PACKETS = 180 * 100  # of a call of three minutes, both ways


def measured(mode: str, calls: int, seconds: float) -> dict[str, Any]:
    """One run: microseconds of CPU per packet forwarded; the recordings and their gaps."""
    sip = {"drain_s": 0.0}
    with common.relay("record-from-answer-dual", sip=sip, module=MODES[mode]) as relay:
        callers = Callers(calls)
        try:
            callers.set_up(calls)
            figures = measure(relay.pid, common.RELAY[0], callers.legs, seconds)
        finally:
            callers.close()
        before, ended = common.cpu_s(relay.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
        relay.stop(60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - ended.ru_utime - ended.ru_stime - before
        kept = relay.log.parent / ("store" if mode == "stored" else "spool")
        figures |= counted([ledger.read(path) for path in kept.rglob("*.json")])
    figures["end_ms_per_recording"] = round(1000 * used / calls, 3)
    figures["media_us_per_packet"] = figures["us_per_packet"]
    figures["us_per_packet"] = round(figures["us_per_packet"] + 1e6 * used / calls / PACKETS, 3)
    return figures


def counted(ledgers: list[Ledger]) -> dict[str, int]:
    """What the ledgers say of all recordings together."""
    sides = [side for each in ledgers for side in (each.caller, each.callee)]
    return {
        "recordings": len(ledgers),
        "complete": sum(each.complete for each in ledgers),
        "gaps": sum(side.gaps for side in sides),
        "not_recorded": sum(each.dropped for each in ledgers),
    }


def main() -> int:
    calls, runs = common.alternating(__doc__, MODES, measured)
    cost = median_cost(runs)
    ratio = round(cost["stored"] / cost["plain"], 3) if len(cost) == 2 else None
    exit_code = common.report_ratio("recording_stored", calls, cost, ratio, TARGET, runs)
    whole = all(
        run["complete"] == calls and not run["gaps"]
        for run in runs["stored"]
        if "saturated" not in run
    )
    return exit_code if whole else 1


if __name__ == "__main__":
    sys.exit(main())
