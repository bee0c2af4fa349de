"""CPU per forwarded packet with SRTP on the callers' legs, alternating with rtpengine.

    python -m bench.srtp_cost [--calls 500] [--seconds 6] [--rounds 2]

AES_CM_128_HMAC_SHA1_80 on each caller's leg, plain RTP on the callee's: half of the packets
are opened, half are closed. The generator really speaks SRTP and counts only what is authentic.
Beside it ours with SRTP on both legs, each with keys of its own: every packet is opened and
closed. (rtpengine passes SRTP of one suite on as it is, so there is nothing to compare with.)
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench import common
from bench.relay_cost import measure, median_cost, our_engine, their_engine

TARGET = 0.55
SIDES = {"relay": 1, "relay_both_legs": 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SIDES, "rtpengine")}
    for _ in range(options.rounds):
        for name, sides in SIDES.items():
            with our_engine(options.calls, ["--secure-sides", str(sides)]) as (pid, host, legs):
                runs[name].append(measure(pid, host, legs, options.seconds))
        with their_engine(options.calls, secure=True) as (pid, host, legs):
            runs["rtpengine"].append(measure(pid, host, legs, options.seconds))
    cost = median_cost(runs)
    known = {"relay", "rtpengine"} <= cost.keys()
    ratio = round(cost["relay"] / cost["rtpengine"], 3) if known else None
    return common.report_ratio("srtp_cost", options.calls, cost, ratio, TARGET, runs)


if __name__ == "__main__":
    sys.exit(main())
