"""Passwords both ways: SIPp and pjsua2 are challenged by us, Kamailio challenges us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.probe.remote import Endpoint, Setup
from tests.interop.phones import hold_and_resume
from tests.interop.region import (
    Party,
    Region,
    free_port,
    need,
    need_pjsua2,
    parties,
    region,
)
from tests.interop.servers import kamailio
from tests.interop.sipp_run import answering, assert_all, call

ACME = {"username": "acme", "password": "open sesame"}
OURS = ("-au", "acme", "-ap", "open sesame")
MD5 = {"digest_algorithms": ["MD5"]}  # SIPp 3.6 knows no other, and takes the first


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("sipp")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("more", [{}, {"allow": []}], ids=["and its address", "alone"])
def test_sipp_calls_with_a_password(tmp_path: Path, transport: str, more: dict[str, Any]) -> None:
    """A trunk known by its address and its password, or by its user name alone."""
    kind = ("-t", "t1" if transport == "tcp" else "u1")
    pbx = {"credentials": [ACME], **more}
    with (
        region(tmp_path, transport, pbx=pbx, sip=MD5) as r,
        answering("uas", r.carrier, *kind),
    ):
        assert_all(call("uac_digest", r.pbx, r.relay, *kind, *OURS, calls=20), 20)
        assert r.ended(20)["cause"] == "caller hung up"
    sip = r.process.wait("stopped", 1)["sip"]
    assert sip["digest_missing"] == 20
    assert "digest_wrong" not in sip and "digest_stale" not in sip


@pytest.mark.parametrize(
    ("user", "password"), [("acme", "wrong"), ("nobody", "open sesame"), ("acme", "")]
)
def test_sipp_with_a_wrong_password_is_challenged_again(
    tmp_path: Path, user: str, password: str
) -> None:
    with region(tmp_path, pbx={"credentials": [ACME]}, sip=MD5) as r:
        wrong = ("-au", user, "-ap", password)
        assert_all(call("uac_digest_wrong", r.pbx, r.relay, *wrong, values={"status": "407"}))
        told = r.process.wait("authentication_failed", 10)
        assert (told["trunk"], told["source"]) == ("pbx", r.pbx.host)
    assert r.process.wait("stopped", 1)["sip"]["digest_wrong"] == 1


@pytest.mark.parametrize("algorithms", [["SHA-256", "MD5"], ["MD5"]])
@pytest.mark.parametrize("more", [{}, {"allow": []}], ids=["and its address", "alone"])
def test_pjsua2_calls_with_a_password(
    tmp_path: Path, algorithms: list[str], more: dict[str, Any]
) -> None:
    """A PBX that is challenged; a re-INVITE (hold) and BYE are not."""
    need_pjsua2()
    pbx = {"credentials": [ACME], **more}
    with region(tmp_path, pbx=pbx, sip={"digest_algorithms": algorithms}) as r:
        caller = Setup("caller", r.pbx.host, r.pbx.port, **ACME)
        callee = Setup("callee", r.carrier.host, r.carrier.port)
        asyncio.run(_hold_resume_and_hang_up(caller, callee, f"sip:+35315550199@{r.relay}"))
        r.ended()
    sip = r.process.wait("stopped", 1)["sip"]
    assert sip["digest_missing"] == 1 and "digest_wrong" not in sip


async def _hold_resume_and_hang_up(caller_setup: Setup, callee_setup: Setup, uri: str) -> None:
    callee = await Endpoint.start(callee_setup)
    caller = await Endpoint.start(caller_setup)
    try:
        await caller.send("call", uri=uri)
        await caller.wait("state", state="confirmed")
        await hold_and_resume(caller, callee)
        await caller.send("hangup")
        await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
    finally:
        await caller.stop()
        await callee.stop()


def test_pjsua2_with_a_wrong_password_gives_up(tmp_path: Path) -> None:
    need_pjsua2()
    with region(tmp_path, pbx={"credentials": [ACME]}) as r:
        caller = Setup("caller", r.pbx.host, r.pbx.port, username="acme", password="wrong")

        async def refused() -> None:
            endpoint = await Endpoint.start(caller)
            try:
                await endpoint.send("call", uri=f"sip:+35315550199@{r.relay}")
                await endpoint.wait("state", state="disconnected", status=407)
            finally:
                await endpoint.stop()

        asyncio.run(refused())
        r.process.wait("authentication_failed", 10)


REGISTRAR = Path(__file__).parent / "kamailio_registrar.cfg"
RELAY = {"username": "ie1", "password": "far too easy"}


@contextmanager
def carrier_that_asks(
    tmp_path: Path, algorithm: str, password: str = RELAY["password"], min_expires: int = 60
) -> Iterator[tuple[Region, Party]]:
    """The relay, and Kamailio before the carrier, which challenges all that we send."""
    need("kamailio")
    everyone = parties()
    carrier = everyone[2]
    proxy = Party(carrier.host, free_port(carrier.host))
    keys = {
        "outbound_credentials": RELAY,
        "register": {"registrar": f"sip:{proxy}", "user": "ie1", "expires_s": 600},
    }
    values = {"relay": everyone[0].host, "algorithm": algorithm, "password": password}
    with (
        kamailio(proxy, carrier, tmp_path, REGISTRAR, min=str(min_expires), **values),
        region(tmp_path, outbound=proxy, everyone=everyone, carrier=keys) as r,
    ):
        yield r, proxy


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize(
    ("callee_scenario", "caller_scenario"),
    [("uas_strict", "uac_route"), ("uas_bye", "uac_gets_bye"), ("uas_hold", "uac_hold")],
)
def test_a_carrier_that_asks_gets_our_credentials(
    tmp_path: Path, algorithm: str, callee_scenario: str, caller_scenario: str
) -> None:
    """REGISTER, INVITE, re-INVITE and BYE: Kamailio lets nothing pass without."""
    with carrier_that_asks(tmp_path, algorithm) as (r, _):
        assert r.process.wait("registration", 10)["state"] == "registered"
        with answering(callee_scenario, r.carrier, "-m", "1") as callee:
            assert_all(call(caller_scenario, r.pbx, r.relay))
            assert_all(callee.wait())
            r.ended()
    assert r.process.wait("registration", 1, 2)["state"] == "unregistered"
    assert "credentials_refused" not in r.process.log.read_text()


def test_a_call_to_the_name_that_we_registered_reaches_the_pbx(tmp_path: Path) -> None:
    with carrier_that_asks(tmp_path, "MD5") as (r, proxy):
        r.process.wait("registration", 10)
        with answering("uas", r.pbx):
            assert_all(call("uac_route", r.carrier, proxy, "-s", "ie1"))
            r.ended()


def test_a_registrar_that_wants_longer_gets_it(tmp_path: Path) -> None:
    """Kamailio answers a shorter time with 423 or with the one that it wants."""
    with carrier_that_asks(tmp_path, "MD5", min_expires=1200) as (r, _):
        told = r.process.wait("registration", 10)
        assert (told["state"], told["expires_s"]) == ("registered", 1200)


def test_a_carrier_that_does_not_take_our_password_is_told_of(tmp_path: Path) -> None:
    with carrier_that_asks(tmp_path, "MD5", password="another") as (r, _):
        told = r.process.wait("registration", 10)
        assert (told["state"], told["problem"]) == ("failed", "401")
        values = {"status": "502", "header": "CSeq:", "pattern": "."}
        assert_all(call("uac_refused", r.pbx, r.relay, values=values))
        told = r.process.wait("credentials_refused", 10, 2)
        assert (told["trunk"], told["method"], told["status"]) == ("carrier", "INVITE", 407)
    assert RELAY["password"] not in r.process.log.read_text()
