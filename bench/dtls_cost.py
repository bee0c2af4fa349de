"""CPU per packet between voice clients' DTLS-SRTP and plain RTP, alternating with plain relay.

    python -m bench.dtls_cost [--calls 500] [--seconds 6] [--rounds 3]

The callers are WebRTC legs whose ICE and DTLS are done (path and keys are put in by hand), the
callees plain RTP: half of the packets are opened, half are closed, as between a browser and a
trunk. Once with each suite that we agree to; the generator really speaks SRTP and counts only
what is authentic. The target is for the dearer of the two.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench import common
from bench.relay_cost import measure, median_cost, our_engine
from bench.srtp_keys import GCM, SUITE

TARGET = 1.5
OPTIONS = {
    "plain": [],
    **{suite: ["--secure-sides", "1", "--webrtc", suite] for suite in (GCM, SUITE)},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in OPTIONS}
    for _ in range(options.rounds):
        for name, more in OPTIONS.items():
            with our_engine(options.calls, more) as (pid, host, legs):
                runs[name].append(measure(pid, host, legs, options.seconds))
    cost = median_cost(runs)
    known = cost.keys() >= OPTIONS.keys()
    ratio = round(max(cost[GCM], cost[SUITE]) / cost["plain"], 3) if known else None
    return common.report_ratio("dtls_cost", options.calls, cost, ratio, TARGET, runs)


if __name__ == "__main__":
    sys.exit(main())
