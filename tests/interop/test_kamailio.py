"""Kamailio as an outbound proxy that records its route, before a SIPp or a pjsua2 callee."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.probe.audio import similarity, speak
from tests.interop.region import Party, free_port, need, parties, region
from tests.interop.sipp_run import answering, assert_all, call, listens
from tests.interop.test_pjsua2 import SAME, setups, talk

CONFIG = Path(__file__).parent / "kamailio.cfg"


@contextmanager
def kamailio(
    own: Party, callee: Party, directory: Path, template: Path = CONFIG, **values: str
) -> Iterator[None]:
    """A proxy at `own` that passes everything to `callee`; `values` fill in the @names@."""
    config = directory / "kamailio.cfg"
    text = template.read_text()
    for name, value in {"own": own, "next": callee, "host": own.host, **values}.items():
        text = text.replace(f"@{name}@", str(value))
    config.write_text(text)
    log = directory / "kamailio.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("kamailio", "-DD", "-E", "-f", str(config), "-m", "32"),
                *("-Y", str(directory), "-P", str(directory / "kamailio.pid")),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 10
        while not listens(own):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # polls for the socket
        yield
    finally:
        process.terminate()
        process.wait(10)


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
def test_both_voices_pass_when_a_proxy_stands_in_front(tmp_path: Path, transport: str) -> None:
    """The signalling takes the proxy's way, the audio does not."""
    need("kamailio", "espeak-ng")
    voices = {side: tmp_path / f"{side}.wav" for side in ("caller", "callee")}
    speak("One two three, this is what the caller says.", "en-gb", voices["caller"])
    speak("Good afternoon, and this is the answer.", "en-us+f3", voices["callee"])
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
    assert similarity(tmp_path / "callee-heard.wav", voices["caller"]) > SAME
    assert similarity(tmp_path / "caller-heard.wav", voices["callee"]) > SAME
