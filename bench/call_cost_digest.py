"""(b) with digest: CPU per complete call whose INVITE is challenged, beside the plain call.

    python -m bench.call_cost_digest [--calls 600] [--rate 40] [--rounds 2]

The two alternate in one run. SIPp is challenged in every call, as a caller is that keeps no
nonce, and answers with MD5, the only algorithm that it knows.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from bench import common
from bench.call_cost import HOLD_MS, WARM_UP

SECRET = {"username": "acme", "password": "open sesame"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "digest": {"pbx": {"credentials": [SECRET]}, "sip": {"digest_algorithms": ["MD5"]}},
}
CALLERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("uac", ()),
    "digest": ("uac_digest", ("-au", SECRET["username"], "-ap", SECRET["password"])),
}


def measure(kind: str, calls: int, rate: int) -> dict[str, float]:
    """One run: milliseconds of CPU per call, and what SIPp counted."""
    scenario, more = CALLERS[kind]
    with common.callee(), common.relay(**KINDS[kind]) as process:
        common.calls(WARM_UP, rate, HOLD_MS, common.RELAY, scenario, more)
        before = common.cpu_s(process.pid)
        counters = common.calls(calls, rate, HOLD_MS, common.RELAY, scenario, more)
        used = common.cpu_s(process.pid) - before
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
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind, found in runs.items():
            found.append(measure(kind, options.calls, options.rate))
    cost = {
        kind: statistics.median(r["ms_per_call"] for r in found) for kind, found in runs.items()
    }
    common.report(
        "call_cost_digest",
        ms_per_call=cost,
        ratio_to_plain=round(cost["digest"] / cost["plain"], 3),
        rate=options.rate,
        runs=runs,
    )


if __name__ == "__main__":
    main()
