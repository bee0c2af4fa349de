"""Kamailio as an outbound proxy that records its route, before a SIPp or a pjsua2 callee."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.phones import assert_heard, setups, talk
from tests.interop.region import Party, free_port, need, parties, region
from tests.interop.servers import kamailio
from tests.interop.sipp_run import answering, assert_all, call


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("callee_scenario", "caller_scenario"),
    [("uas_strict", "uac_route"), ("uas_bye", "uac_gets_bye"), ("uas_busy", "uac_refused")],
)
def test_the_recorded_route_is_followed(
    tmp_path: Path, transport: str, callee_scenario: str, caller_scenario: str
) -> None:
    """ACK and BYE go through the proxy, which refuses what has no route set."""
    need("sipp", "kamailio")
    everyone = parties()
    carrier = everyone[2]
    proxy = Party(carrier.host, free_port(carrier.host))
    kind = ("-t", "t1" if transport == "tcp" else "u1")
    with (
        region(tmp_path, transport, outbound=proxy, everyone=everyone) as r,
        kamailio(proxy, carrier, tmp_path, transport=transport),
        answering(callee_scenario, carrier, "-m", "1", *kind) as callee,
    ):
        values = {"status": "486", "header": "CSeq:", "pattern": "."}
        assert_all(call(caller_scenario, r.pbx, r.relay, *kind, values=values))
        assert_all(callee.wait())
        r.ended()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_both_voices_pass_when_a_proxy_stands_in_front(
    tmp_path: Path, voices: dict[str, Path], transport: str
) -> None:
    """The signalling takes the proxy's way, the audio does not."""
    need("kamailio", "espeak-ng")
    everyone = parties()
    carrier = everyone[2]
    proxy = Party(carrier.host, free_port(carrier.host))
    with (
        region(tmp_path, transport, outbound=proxy, everyone=everyone) as r,
        kamailio(proxy, carrier, tmp_path, transport=transport),
    ):
        asyncio.run(
            talk(r, *(replace(s, transport=transport) for s in setups(r, tmp_path, voices)))
        )
        r.ended()
    assert_heard(tmp_path, voices)
