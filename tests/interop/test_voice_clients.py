"""Calls of and to voice clients through a running relay: signalling over real WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.client import Client, Codec
from relay.probe.audio import similarity, speak
from relay.probe.remote import Endpoint, Setup
from relay.signalling.parking import MOST_FORMER
from relay.sip.message import Request
from tests.interop.phones import SAME
from tests.interop.region import (
    DEADLINE_S,
    Party,
    Region,
    free_port,
    need,
    need_pjsua2,
    parties,
    region,
)
from tests.interop.sipp_run import Sipp, answering, assert_all
from tests.interop.web_phone import SECRET, WebPhone, token

ALICE, CARRIERS = "+35315550111", "+35315550199"
ROUTES = (
    ("app", "+*", "carrier", ""),
    ("app", "*", "app", ""),
    ("pbx", ALICE, "app", "alice"),
    ("carrier", ALICE, "app", "alice"),
)
G711 = (Codec.PCMU, Codec.PCMA)


def account(reconnect_s: float) -> str:
    lines = ["[[account]]", 'name = "app"', f"reconnect_s = {reconnect_s}"]
    lines += [f'keys = [{{ id = "k1", secret = "{SECRET}" }}]', f'caller_number = "{ALICE}"']
    for source, number, to, identity in ROUTES:
        lines += ["[[route]]", f'from = "{source}"', f'number = "{number}"', f'to = "{to}"']
        lines += [f'identity = "{identity}"'] if identity else []
    return "\n".join(lines)


@contextmanager
def voice(tmp_path: Path, reconnect_s: float = 30.0) -> Iterator[tuple[Region, str]]:
    """A region with voice clients, and where they connect."""
    everyone = parties()
    at = Party(everyone[0].host, free_port(everyone[0].host))
    more = account(reconnect_s)
    carrier = {"transfer": "enable-all"}
    with region(tmp_path, everyone=everyone, listen=(f"ws:{at}",), more=more, carrier=carrier) as r:
        yield r, f"ws://{at}"


def rings(phone: WebPhone) -> None:
    def on_request(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            phone.invite, phone.invite_tx = request, tx
            phone.ring(tx, request)
        else:
            phone.reply(tx, request, 200)

    phone.on_request = on_request


def pick_up(phone: WebPhone) -> None:
    phone.answer(phone.invite_tx, phone.invite)
    phone.settle()


def test_two_devices_ring_and_one_answers(tmp_path: Path) -> None:
    """… and the other one misses no call."""

    async def calls(url: str) -> None:
        async with (
            WebPhone(url, "alice") as alice,
            WebPhone(url, "bob") as first,
            WebPhone(url, "bob") as second,
        ):
            rings(first)
            rings(second)
            alice.call("bob")
            await first.until(lambda: bool(first.got("INVITE")))
            await second.until(lambda: bool(second.got("INVITE")))
            await alice.until(lambda: 180 in alice.statuses())
            assert first.requests[0].from_.uri.user == "alice"
            pick_up(second)
            await first.until(lambda: bool(first.cancelled))
            assert "Call completed elsewhere" in (first.cancelled[0].headers.get("Reason") or "")
            await second.until(lambda: bool(second.acks))
            await alice.until(lambda: alice.dialog is not None)
            alice.bye()
            await second.until(lambda: bool(second.got("BYE")))

    with voice(tmp_path) as (r, url):
        asyncio.run(calls(url))
        ended = r.ended()
        assert ended["cause"] == "caller hung up"
        log = r.process.log.read_text()
        assert '"alice"' not in log
        assert '"bob"' not in log


def test_a_client_calls_a_trunk_and_is_called_by_one(tmp_path: Path) -> None:
    need("sipp")

    async def calls_out(url: str) -> None:
        async with WebPhone(url, "alice") as alice:
            alice.call(CARRIERS)
            await alice.until(lambda: alice.dialog is not None)
            alice.bye()
            await alice.until(lambda: 200 in alice.statuses("BYE"))

    async def is_called(url: str, sipp: Sipp) -> None:
        async with WebPhone(url, "alice") as alice:
            sipp.start()
            await alice.until(lambda: bool(alice.got("BYE")))

    with voice(tmp_path) as (r, url):
        with answering("uas", r.carrier):
            asyncio.run(calls_out(url))
        sipp = Sipp("uac", r.pbx, ("-m", "1", "-d", "300", "-s", ALICE, str(r.relay)))
        asyncio.run(is_called(url, sipp))
        assert_all(sipp.wait())
        r.ended(2)


def test_a_call_goes_on_over_another_connection(tmp_path: Path) -> None:
    """What was sent meanwhile has waited, and both sides reach each other."""

    async def calls(url: str, r: Region) -> None:
        async with WebPhone(url, "alice") as alice, WebPhone(url, "bob") as bob:
            alice.call("bob")
            await bob.until(lambda: bool(bob.acks))
            await alice.until(lambda: alice.dialog is not None)
            bob.cut()
            alice.in_dialog("INFO", b"Signal=5\r\nDuration=160\r\n")
            await asyncio.to_thread(r.process.wait, "dtmf", DEADLINE_S)
            await bob.connect()
            await bob.register()
            await bob.until(lambda: bool(bob.got("INFO")))
            await alice.until(lambda: 200 in alice.statuses("INFO"))
            bob.bye()
            await alice.until(lambda: bool(alice.got("BYE")))

    with voice(tmp_path) as (r, url):
        asyncio.run(calls(url, r))
        assert r.ended()["cause"] == "callee hung up"


def test_a_client_comes_back_again_and_again(tmp_path: Path) -> None:
    """A day in a train: more often than one connection stands for earlier ones."""

    async def calls(url: str) -> None:
        async with WebPhone(url, "alice") as alice, WebPhone(url, "bob") as bob:
            alice.call("bob")
            await bob.until(lambda: bool(bob.acks))
            await alice.until(lambda: alice.dialog is not None)
            for _ in range(MOST_FORMER + 5):
                bob.cut()
                await bob.connect()
                await bob.register()
            alice.bye()
            await bob.until(lambda: bool(bob.got("BYE")))
            await alice.until(lambda: 200 in alice.statuses("BYE"))

    with voice(tmp_path) as (r, url):
        asyncio.run(calls(url))
        assert r.ended()["cause"] == "caller hung up"


def test_a_client_that_does_not_come_back_has_left_the_call(tmp_path: Path) -> None:
    async def calls(url: str) -> None:
        async with WebPhone(url, "alice") as alice, WebPhone(url, "bob") as bob:
            alice.call("bob")
            await bob.until(lambda: bool(bob.acks))
            bob.cut()
            await alice.until(lambda: bool(alice.got("BYE")))
            reason = alice.got("BYE")[0].headers.get("Reason") or ""
            assert "the callee's connection was lost and did not come back" in reason

    with voice(tmp_path, reconnect_s=1.0) as (r, url):
        asyncio.run(calls(url))
        assert r.ended()["cause"] == "the callee's connection was lost and did not come back"


def test_a_call_is_transferred_to_the_device_that_answers(tmp_path: Path) -> None:
    """Speech between a plain phone and a voice client that came into the call later; of its two
    devices only the one that answered is heard."""
    need("espeak-ng")
    need_pjsua2()
    said = {name: tmp_path / f"{name}.wav" for name in ("caller", "alice")}
    speak("One two three, four five six. I was transferred to you.", "en-gb", said["caller"])
    speak("Hello? This is Alice, who takes the call now.", "en-us+f3", said["alice"])
    heard = {name: tmp_path / f"{name}-heard.wav" for name in said}

    async def calls(r: Region, url: str) -> None:
        phone = Setup("caller", r.pbx.host, r.pbx.port, play=said["caller"], record=heard["caller"])
        caller = await Endpoint.start(phone)
        desk = await Endpoint.start(Setup("desk", r.carrier.host, r.carrier.port))
        try:
            async with (
                Client(url, token("alice"), codecs=G711) as first,
                Client(url, token("alice"), codecs=G711) as second,
            ):
                await caller.send("call", uri=f"sip:{CARRIERS}@{r.relay}")
                await caller.wait("played", 30)
                await desk.send("transfer", uri=f"sip:{ALICE}@{r.relay}")
                missed, call = await first.incoming(), await second.incoming()
                await call.answer()
                assert (await missed.finished()).status == 487
                await desk.wait("bye")
                call.record(heard["alice"])
                caller.events.clear()
                await caller.send("play")
                await asyncio.gather(call.play(said["alice"]), caller.wait("played", 30))
                await asyncio.sleep(0.5)  # what is in the jitter buffers
                await call.hang_up()
                await caller.wait("bye")
        finally:
            await caller.stop()
            await desk.stop()

    with voice(tmp_path) as (r, url):
        asyncio.run(asyncio.wait_for(calls(r, url), 60))
        r.ended()
    assert similarity(heard["alice"], said["caller"]) > SAME
    assert similarity(heard["caller"], said["alice"]) > SAME
