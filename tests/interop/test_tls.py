"""SIP over TLS between pjsua2 phones, and what OpenSSL's own client sees of the listener."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from relay.probe.audio import similarity
from relay.probe.certificates import Authority, Pair
from relay.probe.remote import Endpoint, Setup
from tests.interop.phones import NUMBER, SAME, assert_heard, setups, talk
from tests.interop.region import Party, Region, free_port, need, need_pjsua2, parties, region
from tests.interop.servers import kamailio
from tests.interop.sipp_run import answering, assert_all, call

CONFIG = Path(__file__).parent / "kamailio_tls.cfg"
DEADLINE_S = 10.0


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    need_pjsua2()


@dataclass(slots=True)
class Secure:
    """A region that is reached over TLS, its authority and its certificate."""

    region: Region
    relay: Party
    authority: Authority
    pair: Pair


@contextmanager
def secure_region(
    tmp_path: Path, everyone: list[Party] | None = None, **options: Any
) -> Iterator[Secure]:
    """Both trunks are called over TLS; the relay listens on a port of its own."""
    everyone = everyone or parties()
    here = everyone[0].host
    relay = Party(here, free_port(here))
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("relay", here)
    sip = {"tls": {**pair.tls, "ca": str(authority.file)}}
    with region(
        tmp_path, "tls", everyone=everyone, listen=(f"tls:{relay}",), sip=sip, **options
    ) as r:
        yield Secure(r, relay, authority, pair)


def phones(s: Secure, tmp_path: Path, voices: dict[str, Path]) -> tuple[Setup, Setup]:
    """PBX and carrier with a certificate each, for their addresses."""
    made = []
    for setup in setups(s.region, tmp_path, voices):
        pair = s.authority.issue(setup.name, setup.bind)
        made.append(
            replace(
                setup,
                transport="tls",
                certificate=pair.certificate,
                key=pair.key,
                ca=s.authority.file,
            )
        )
    return made[0], made[1]


def to_tls(s: Secure) -> Region:
    """The same region, called at its TLS port."""
    return replace(s.region, relay=s.relay)


@pytest.mark.parametrize("secure", [False, True], ids=["tls", "secure trunks, SRTP"])
def test_both_voices_arrive_over_tls(tmp_path: Path, voices: dict[str, Path], secure: bool) -> None:
    """Both sides verify each other; the call stays on two connections from INVITE to BYE."""
    keys = {"secure": True} if secure else {}
    with secure_region(tmp_path, pbx=keys, carrier=keys) as s:
        caller, callee = phones(s, tmp_path, voices)
        if secure:
            caller, callee = (replace(each, srtp="required") for each in (caller, callee))
        asyncio.run(talk(to_tls(s), caller, callee))
        ended = s.region.ended()
    assert_heard(tmp_path, voices)
    assert (ended["caller"]["lost"], ended["callee"]["lost"]) == (0, 0)


def test_a_call_between_sips_addresses(tmp_path: Path, voices: dict[str, Path]) -> None:
    """The phones insist on `sips:` in every Contact; audio passes, and the callee hangs up."""

    async def steps(s: Secure) -> None:
        caller_setup, callee_setup = phones(s, tmp_path, voices)
        callee = await Endpoint.start(callee_setup)
        caller = await Endpoint.start(caller_setup)
        try:
            await caller.send("call", uri=f"sips:{NUMBER}@{s.relay}")
            await caller.wait("state", state="confirmed")
            assert "sips:" in (await callee.wait("incoming"))["to"]
            await asyncio.gather(caller.wait("played", 30), callee.wait("played", 30))
            await callee.send("hangup")
            await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
        finally:
            await caller.stop()
            await callee.stop()

    everyone = parties()
    origination = {"origination": [{"uri": f"sips:{everyone[2]}"}]}
    with secure_region(tmp_path, everyone=everyone, carrier=origination) as s:
        asyncio.run(steps(s))
        assert s.region.ended()["cause"] == "callee hung up"
    assert_heard(tmp_path, voices)


def test_a_callee_with_another_name_gets_no_call(tmp_path: Path, voices: dict[str, Path]) -> None:
    """503 to the caller, one line for the operator, and not an octet of SIP for the impostor."""

    async def steps(s: Secure) -> None:
        caller_setup, callee_setup = phones(s, tmp_path, voices)
        wrong = s.authority.issue("impostor", "127.9.9.9")
        callee = await Endpoint.start(
            replace(callee_setup, certificate=wrong.certificate, key=wrong.key)
        )
        caller = await Endpoint.start(caller_setup)
        try:
            await caller.send("call", uri=f"sip:{NUMBER}@{s.relay};transport=tls")
            await caller.wait("state", state="disconnected", status=503)
            assert callee.find("incoming") is None
        finally:
            await caller.stop()
            await callee.stop()

    with secure_region(tmp_path) as s:
        asyncio.run(steps(s))
        refused = s.region.process.wait("tls_peer_refused")
        assert refused["expected"] == s.region.carrier.host
        assert refused["found"] == ["127.9.9.9"]


def test_plain_signalling_on_a_secure_trunk_is_refused_with_the_reason(tmp_path: Path) -> None:
    with (
        secure_region(tmp_path, pbx={"secure": True}) as s,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx,
    ):
        pbx.bind((s.region.pbx.host, 0))
        pbx.settimeout(DEADLINE_S)
        here = f"{s.region.pbx.host}:{pbx.getsockname()[1]}"
        lines = (
            f"OPTIONS sip:{s.region.relay} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bKplain",
            f"From: <sip:a@{here}>;tag=1",
            f"To: <sip:{s.region.relay}>",
            "Call-ID: plain",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
        )
        message = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        pbx.sendto(message, (s.region.relay.host, s.region.relay.port))
        answer = pbx.recv(4096).decode()
    assert answer.startswith("SIP/2.0 403")
    assert "trunk pbx is secure: signal over TLS (sips, port 5061)" in answer


@pytest.mark.parametrize(
    ("callee_scenario", "caller_scenario"),
    [("uas_strict", "uac_route"), ("uas_bye", "uac_gets_bye"), ("uas_busy", "uac_refused")],
)
def test_kamailio_takes_calls_over_mutual_tls(
    tmp_path: Path, callee_scenario: str, caller_scenario: str
) -> None:
    """It wants our certificate and proves its own; ACK and BYE follow its Record-Route."""
    need("sipp", "kamailio")
    everyone = parties()
    relay, carrier = everyone[0], everyone[2]
    proxy = Party(carrier.host, free_port(carrier.host))
    secured = Party(relay.host, free_port(relay.host))
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("relay", relay.host)
    theirs = authority.issue("proxy", proxy.host)
    files = {**theirs.tls, "ca": str(authority.file)}
    with (
        region(
            tmp_path,
            outbound=proxy,
            everyone=everyone,
            listen=(f"tls:{secured}",),
            sip={"tls": {**pair.tls, "ca": str(authority.file)}},
            carrier={"origination": [{"uri": f"sip:{proxy};transport=tls"}]},
        ) as r,
        kamailio(proxy, carrier, tmp_path, CONFIG, **files),
        answering(callee_scenario, carrier, "-m", "1", "-t", "u1") as callee,
    ):
        values = {"status": "486", "header": "CSeq:", "pattern": "."}
        assert_all(call(caller_scenario, r.pbx, r.relay, "-t", "u1", values=values))
        assert_all(callee.wait())
        r.ended()


def serial_seen(relay: Party, ca: Path, source: str = "", **versions: Any) -> str:
    """The serial number that a new handshake shows."""
    context = ssl.create_default_context(cafile=str(ca))
    for key, value in versions.items():
        setattr(context, key, value)
    with (
        socket.create_connection(
            (relay.host, relay.port), DEADLINE_S, source_address=(source, 0)
        ) as plain,
        context.wrap_socket(plain, server_hostname=relay.host) as secured,
    ):
        certificate = secured.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"]).lower().lstrip("0")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_new_versions_are_spoken(tmp_path: Path) -> None:
    with secure_region(tmp_path) as s:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            seen = serial_seen(
                s.relay, s.authority.file, minimum_version=version, maximum_version=version
            )
            assert seen == s.pair.serial
        with pytest.raises((ssl.SSLError, ConnectionError)):
            serial_seen(
                s.relay,
                s.authority.file,
                minimum_version=ssl.TLSVersion.TLSv1,
                maximum_version=ssl.TLSVersion.TLSv1_1,
            )


def test_a_flood_of_strangers_handshakes_leaves_trunks_alone(tmp_path: Path) -> None:
    """While 400 strangers shake hands, a trunk's handshakes are answered."""

    async def stranger(s: Secure, context: ssl.SSLContext) -> bool:
        try:
            _, writer = await asyncio.open_connection(
                s.relay.host, s.relay.port, ssl=context, local_addr=(s.region.stranger.host, 0)
            )
        except OSError:
            return False
        writer.close()
        return True

    async def steps(s: Secure) -> list[bool]:
        context = ssl.create_default_context(cafile=str(s.authority.file))
        flood = asyncio.gather(*(stranger(s, context) for _ in range(400)))
        for _ in range(5):
            seen = await asyncio.to_thread(
                serial_seen, s.relay, s.authority.file, s.region.pbx.host
            )
            assert seen == s.pair.serial
        async with asyncio.timeout(DEADLINE_S):
            return await flood

    with secure_region(tmp_path) as s:
        welcome = asyncio.run(steps(s))
    assert 0 < sum(welcome) < 400
    stopped = s.region.process.find("stopped")[0]
    assert stopped["sip"]["tls_refused_too_many"] > 0
    assert sum(welcome) + stopped["sip"]["tls_refused_too_many"] <= 400


def test_a_certificate_is_renewed_under_a_call(tmp_path: Path, voices: dict[str, Path]) -> None:
    """New handshakes see the new one; the old call talks on and gets its BYE through. Files
    that do not belong together are refused in between."""

    async def steps(s: Secure) -> None:
        caller_setup, callee_setup = phones(s, tmp_path, voices)
        callee = await Endpoint.start(callee_setup)
        caller = await Endpoint.start(caller_setup)
        process = s.region.process
        try:
            await caller.send("call", uri=f"sip:{NUMBER}@{s.relay};transport=tls")
            await caller.wait("state", state="confirmed")
            renewed = s.authority.issue("renewed", s.relay.host)
            stranger = s.authority.issue("stranger", s.relay.host)
            shutil.copy(s.pair.key, tmp_path / "kept.key")
            os.replace(stranger.key, s.pair.key)
            await asyncio.to_thread(process.wait, "tls_certificate_refused")
            seen = await asyncio.to_thread(serial_seen, s.relay, s.authority.file)
            assert seen == s.pair.serial
            os.replace(renewed.key, s.pair.key)
            os.replace(renewed.certificate, s.pair.certificate)
            loaded = await asyncio.to_thread(process.wait, "tls_certificate_loaded")
            assert loaded["serial"] == renewed.serial
            seen = await asyncio.to_thread(serial_seen, s.relay, s.authority.file)
            assert seen == renewed.serial
            await caller.send("hangup")
            await asyncio.gather(caller.wait("bye"), callee.wait("bye"))
        finally:
            await caller.stop()
            await callee.stop()

    with secure_region(tmp_path) as s:
        asyncio.run(steps(s))
        assert s.region.ended()["cause"] == "caller hung up"


def test_a_certificate_alone_makes_a_trunk(tmp_path: Path, voices: dict[str, Path]) -> None:
    """A PBX without `allow` is known by its certificate alone."""
    with secure_region(tmp_path, pbx={"tls_names": ["127.0.0.77"], "allow": []}) as s:
        caller, callee = phones(s, tmp_path, voices)
        named = s.authority.issue("named", "127.0.0.77", caller.bind)
        caller = replace(caller, certificate=named.certificate, key=named.key)
        asyncio.run(talk(to_tls(s), caller, callee))
        s.region.ended()
    assert similarity(tmp_path / "callee-heard.wav", voices["caller"]) > SAME
