"""(b) CPU per complete call (INVITE … BYE), alternating with sippy and with Kamailio.

    python -m bench.call_cost [--calls 600] [--rate 40] [--rounds 2] [--only relay]

SIPp calls SIPp through each at a bounded rate. The relay opens its media ports for every
call, the others carry no media. CPU is that of the process and its children.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench import common, peers

HOLD_MS = 200
WARM_UP = 40
TARGET_OF_SIPPY = 0.25


@contextlib.contextmanager
def relay() -> Iterator[int]:
    with common.relay() as process:
        yield process.pid


PEERS: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "relay": relay,
    "sippy": peers.sippy,
    "kamailio": peers.kamailio,
}


def measure(peer: str, calls: int, rate: int) -> dict[str, float]:
    """One run: milliseconds of CPU per call, and what SIPp counted."""
    target = common.CALLEE if peer == "kamailio" else common.RELAY
    with common.callee(), PEERS[peer]() as pid:
        common.calls(WARM_UP, rate, HOLD_MS, target)
        before = common.cpu_s(pid)
        counters = common.calls(calls, rate, HOLD_MS, target)
        used = common.cpu_s(pid) - before
    return {
        "ms_per_call": round(used * 1000 / max(1, counters["successful"]), 3),
        "successful": counters["successful"],
        "failed": counters["failed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--rate", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=PEERS, action="append")
    options = parser.parse_args()
    names = options.only or list(PEERS)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            runs[name].append(measure(name, options.calls, options.rate))
    cost = {name: statistics.median(r["ms_per_call"] for r in rs) for name, rs in runs.items()}
    ratios = {
        f"ratio_to_{name}": round(cost["relay"] / cost[name], 3)
        for name in cost
        if name != "relay" and "relay" in cost
    }
    common.report(
        "call_cost",
        ms_per_call=cost,
        **ratios,
        target_ratio_to_sippy=TARGET_OF_SIPPY,
        rate=options.rate,
        runs=runs,
    )


if __name__ == "__main__":
    main()
