"""SDK clients and pjsua2 phones call each other through a running relay."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.client import (
    Call,
    Client,
    ClientEvent,
    Codec,
    Disconnected,
    Held,
    KeyPressed,
    PathRestored,
    Refused,
    Registered,
    Resumed,
    TokenExpired,
    TokenRefused,
)
from relay.probe.audio import RATE_HZ, read_wav, resample, similarity
from relay.probe.remote import Endpoint
from tests.interop.region import need, need_pjsua2
from tests.interop.voice_clients import NUMBERS, SECRET, VoiceRegion, token, voice_region

OUTSIDE = "+35315550199"  # a number of the carrier's
SAME = 0.8  # another voice gives about 0.1; a phone on a busy machine drops a frame now and then
# PESQ of a quiet machine: G.711 4.0 to 4.4, Opus 4.5, transcoded 3.5 to 4.0; another voice 1.3.
PASSED, TRANSCODED = 3.4, 2.6
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("espeak-ng")
    need_pjsua2()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE_S))


def assert_heard(heard: Path, said: Path, same: float = SAME, pesq: float = 0.0) -> None:
    found = similarity(heard, said)
    assert found > same, f"{heard.name} has {found:.2f} of {said.name}"
    if pesq:
        score = pesq_of(heard, said)
        assert score > pesq, f"{heard.name} is {said.name} with a PESQ of {score:.2f}"


def pesq_of(heard: Path, said: Path) -> float:
    """ITU-T P.862, narrow band: 4.5 is as it was said, 1 is none of it."""
    score = importlib.import_module("pesq").pesq
    sounds = [read_wav(path) for path in (said, heard)]
    samples = [resample(sound.samples[0], sound.rate_hz, RATE_HZ) for sound in sounds]
    return float(score(RATE_HZ, *samples, "nb"))


async def until_back(client: Client, events: AsyncIterator[ClientEvent]) -> None:
    """Until it has registered over another connection."""
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, Registered) and client.connected:
                return


async def speak(call: Call, other: Call | Endpoint, voices: dict[str, Path]) -> None:
    """Both say what they have to say."""
    theirs = other.play(voices["callee"]) if isinstance(other, Call) else other.wait("played", 30)
    await asyncio.gather(call.play(voices["caller"]), theirs)
    await asyncio.sleep(0.5)  # what is in the jitter buffers


async def between(r: VoiceRegion, alice: Client, bob: Client) -> tuple[Call, Call]:
    """alice calls bob by name, who answers."""
    call = await alice.call("bob")
    theirs = await bob.incoming()
    await asyncio.gather(theirs.answer(), call.answered())
    return call, theirs


# --- who may come in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"region": "au1"}, "region"),
        ({"exp": int(time.time()) - 3600}, "expired"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"secret": SECRET[::-1]}, "signature"),
        ({"iss": "other"}, ""),
    ],
)
def test_a_token_that_is_not_good_is_refused_in_words(
    tmp_path: Path, claims: dict[str, Any], text: str
) -> None:
    with voice_region(tmp_path) as r:

        async def test() -> None:
            with pytest.raises(TokenRefused) as refused:
                await Client(r.url, token("alice", **claims), trust=r.trust).__aenter__()
            assert text in refused.value.text
            assert isinstance(refused.value, TokenExpired) == (text == "expired")

        run(test)


def test_a_client_that_may_not_call_out_is_told_so(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:

        async def test() -> None:
            held = token("alice", out=False)
            async with Client(r.url, held, trust=r.trust) as alice:
                call = await alice.call(OUTSIDE)
                with pytest.raises(Refused) as refused:
                    await call.answered()
                assert refused.value.status == 403
                assert refused.value.text

        run(test)


def test_a_client_that_is_not_there(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with r.client("alice") as alice:
                call = await alice.call("bob")
                with pytest.raises(Refused) as refused:
                    await call.answered()
                assert refused.value.status == 480

        run(test)


# --- to a trunk and from one ----------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_a_client_calls_a_trunk(tmp_path: Path, voices: dict[str, Path], codec: str) -> None:
    """Speech and keys both ways, G.711 passed through."""
    with voice_region(tmp_path) as r:
        phone = r.phone("carrier", voices, tmp_path, codec=codec)

        async def test() -> None:
            carrier = await Endpoint.start(phone)
            try:
                async with r.client("alice", (Codec[codec],)) as alice:
                    call = await alice.call(OUTSIDE)
                    call.record(tmp_path / "alice-heard.wav")
                    events = call.events()
                    await call.answered()
                    assert NUMBERS["alice"] in (await carrier.wait("incoming"))["uri"]
                    await speak(call, carrier, voices)
                    await call.send_dtmf("17#")
                    await carrier.wait("dtmf", key="#")
                    await carrier.send("dtmf", digits="25")
                    keys: list[str] = []
                    while len(keys) < 2:
                        event = await asyncio.wait_for(anext(events), 10)
                        keys += [event.key] if isinstance(event, KeyPressed) else []
                    assert keys == ["2", "5"]
                    figures = await call.figures()
                    assert figures.lost == 0
                    await call.hang_up()
                    await carrier.wait("bye")
                heard = "".join(e["key"] for e in carrier.events if e["event"] == "dtmf")
                assert heard == "17#"
            finally:
                await carrier.stop()

        run(test)
        r.region.ended()
    assert_heard(tmp_path / "alice-heard.wav", voices["callee"], pesq=PASSED)
    assert_heard(tmp_path / "carrier-heard.wav", voices["caller"])


def test_a_trunk_calls_a_client(tmp_path: Path, voices: dict[str, Path]) -> None:
    with voice_region(tmp_path) as r:
        phone = r.phone("pbx", voices, tmp_path)

        async def test() -> None:
            pbx = await Endpoint.start(phone)
            try:
                async with r.client("bob") as bob:
                    await pbx.send("call", uri=f"sip:{NUMBERS['bob']}@{r.region.relay}")
                    call = await bob.incoming()
                    call.record(tmp_path / "bob-heard.wav")
                    await pbx.wait("state", state="early")
                    await call.answer()
                    await speak(call, pbx, voices)
                    await pbx.send("hangup")
                    assert (await call.finished()).by == "peer"
                    await pbx.wait("bye")
            finally:
                await pbx.stop()

        run(test)
        r.region.ended()
    assert_heard(tmp_path / "bob-heard.wav", voices["callee"])
    assert_heard(tmp_path / "pbx-heard.wav", voices["caller"])


@pytest.mark.alone
def test_opus_to_a_trunk_that_knows_only_g711(tmp_path: Path, voices: dict[str, Path]) -> None:
    """The relay transcodes; keys are mapped from 48000 Hz to 8000 Hz and back."""
    with voice_region(tmp_path) as r:
        phone = r.phone("carrier", voices, tmp_path)

        async def test() -> None:
            carrier = await Endpoint.start(phone)
            try:
                async with r.client("alice", (Codec.OPUS,)) as alice:
                    call = await alice.call(OUTSIDE)
                    call.record(tmp_path / "alice-heard.wav")
                    events = call.events()
                    await call.answered()
                    assert call.codec is Codec.OPUS
                    await speak(call, carrier, voices)
                    await call.send_dtmf("9")
                    await carrier.wait("dtmf", key="9")
                    await carrier.send("dtmf", digits="4")
                    async with asyncio.timeout(10):
                        async for event in events:
                            if isinstance(event, KeyPressed):
                                assert event.key == "4"
                                break
                    await call.hang_up()
                    await carrier.wait("bye")
            finally:
                await carrier.stop()

        run(test)
        r.region.ended()
    assert_heard(tmp_path / "alice-heard.wav", voices["callee"], pesq=TRANSCODED)
    assert_heard(tmp_path / "carrier-heard.wav", voices["caller"])


# --- between clients ------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("PCMU", "PCMU"), ("OPUS", "OPUS"), ("OPUS", "PCMA"), ("PCMU", "OPUS")],
)
def test_clients_call_each_other(
    tmp_path: Path, voices: dict[str, Path], ours: str, theirs: str
) -> None:
    """Passed through with a codec in common, transcoded without."""
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with (
                r.client("alice", (Codec[ours],)) as alice,
                r.client("bob", (Codec[theirs],)) as bob,
            ):
                call, other = await between(r, alice, bob)
                assert call.codec is Codec[ours]
                assert other.codec is Codec[theirs]
                call.record(tmp_path / "alice-heard.wav")
                other.record(tmp_path / "bob-heard.wav")
                await speak(call, other, voices)
                await call.hang_up()
                assert (await other.finished()).by == "peer"

        run(test)
        r.region.ended()
    least = PASSED if ours == theirs else TRANSCODED
    assert_heard(tmp_path / "alice-heard.wav", voices["callee"], pesq=least)
    assert_heard(tmp_path / "bob-heard.wav", voices["caller"], pesq=least)


def test_hold_and_resume_between_clients(tmp_path: Path, voices: dict[str, Path]) -> None:
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with r.client("alice") as alice, r.client("bob") as bob:
                call, other = await between(r, alice, bob)
                events = other.events()
                await call.hold()
                await call.resume()
                found = []
                while len(found) < 2:
                    event = await asyncio.wait_for(anext(events), 10)
                    found += [event] if isinstance(event, Held | Resumed) else []
                assert found == [Held("peer"), Resumed("peer")]
                other.record(tmp_path / "bob-heard.wav")
                await speak(call, other, voices)
                await call.hang_up()

        run(test)
    assert_heard(tmp_path / "bob-heard.wav", voices["caller"])


def test_the_callee_hangs_up_rejects_and_is_given_up(tmp_path: Path) -> None:
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with r.client("alice") as alice, r.client("bob") as bob:
                call, other = await between(r, alice, bob)
                await other.hang_up()
                assert (await call.finished()).by == "peer"
                call = await alice.call("bob")
                await (await bob.incoming()).reject(486)
                with pytest.raises(Refused, match="486"):
                    await call.answered()
                call = await alice.call("bob")
                other = await bob.incoming()
                await call.ringing()
                await call.hang_up()
                assert (await other.finished()).status == 487

        run(test)


# --- networks that change -------------------------------------------------------------------


def test_a_lost_connection_keeps_the_call(tmp_path: Path, voices: dict[str, Path]) -> None:
    """Audio goes on meanwhile; afterwards both sides can still change and end the call."""
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with r.client("alice") as alice, r.client("bob") as bob:
                call, other = await between(r, alice, bob)
                other.record(tmp_path / "bob-heard.wav")
                said = call.play(voices["caller"])
                events = alice.events()
                alice.drop_connection()
                while not isinstance(await asyncio.wait_for(anext(events), 10), Disconnected):
                    pass
                await other.hold()  # reaches alice over her next connection
                assert call.held_by_peer
                await other.resume()
                await until_back(alice, events)
                await said
                await asyncio.sleep(0.5)  # what is in the jitter buffer
                await call.hold()
                assert other.held_by_peer
                await other.hang_up()
                assert (await call.finished()).by == "peer"

        run(test)
    assert_heard(tmp_path / "bob-heard.wav", voices["caller"], 0.7)  # held for a moment


def test_a_new_path_moves_the_audio(tmp_path: Path, voices: dict[str, Path]) -> None:
    """An ICE restart: other sockets of the client, the same keys."""
    with voice_region(tmp_path) as r:

        async def test() -> None:
            async with r.client("alice") as alice, r.client("bob") as bob:
                call, other = await between(r, alice, bob)
                await call.restart_ice()
                await other.restart_ice()
                assert any(isinstance(e, PathRestored) for e in await seen(call))
                call.record(tmp_path / "alice-heard.wav")
                other.record(tmp_path / "bob-heard.wav")
                await speak(call, other, voices)
                await call.hang_up()

        run(test)
    assert_heard(tmp_path / "alice-heard.wav", voices["callee"])
    assert_heard(tmp_path / "bob-heard.wav", voices["caller"])


async def seen(call: Call) -> list[Any]:
    """The events of a call until now."""
    events, found = call.events(), []
    try:
        while True:
            found.append(await asyncio.wait_for(anext(events), 0.1))
    except TimeoutError:
        return found
