"""The page's opinion score is the relay's own."""

from __future__ import annotations

import json
import subprocess

import pytest

from relay.rtp.stats import mos
from tests.browser.driver import ROOT
from tests.interop.region import need

SCRIPT = """
import { score } from "%s";
const { loss, delay } = JSON.parse(process.argv[1]);
console.log(score(loss, delay));
"""


@pytest.mark.parametrize(("lost", "jitter_ms"), [(0, 0), (0, 12), (1, 30), (5, 90), (40, 200)])
def test_the_page_scores_as_the_relay_does(lost: int, jitter_ms: float) -> None:
    need("node")
    given = json.dumps({"loss": lost / 100, "delay": 20 + max(2 * jitter_ms, 20)})
    script = SCRIPT % (ROOT / "web/src/quality.js").as_uri()
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, given],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(mos(lost, 100, jitter_ms))
