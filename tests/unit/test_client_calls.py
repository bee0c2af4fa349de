"""The client SDK in real time: two clients call each other by way of a switchboard."""

from __future__ import annotations

import asyncio
import math
import struct
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.client import (
    Answered,
    Call,
    CallEnded,
    Client,
    ClientError,
    Codec,
    ConnectionFailed,
    Disconnected,
    Ended,
    Held,
    KeyPressed,
    MediaFailed,
    PathLost,
    PathRestored,
    Refused,
    Resumed,
    Ringing,
    State,
    TokenExpired,
    TokenRefused,
)
from relay.probe.audio import similarity
from relay.sip.message import Request, Response
from tests.unit.switchboard import Switchboard, switchboard, token

pytestmark = pytest.mark.alone

G711 = (Codec.PCMU, Codec.PCMA)


def chirp(path: Path, first_hz: float, last_hz: float, length_s: float = 1.5) -> Path:
    """A tone that rises and falls in loudness: like nothing but itself."""
    count = int(8000 * length_s)
    samples = []
    for n in range(count):
        t = n / 8000
        phase = 2 * math.pi * (first_hz * t + (last_hz - first_hz) * t * t / (2 * length_s))
        samples.append(int(9000 * math.sin(phase) * (1 + 0.5 * math.sin(40 * t))))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack(f"<{count}h", *samples))
    return path


@asynccontextmanager
async def two(
    board: Switchboard, codecs: tuple[Codec, ...] = G711
) -> AsyncIterator[tuple[Client, Client]]:
    async with (
        Client(board.url, token("alice"), codecs=codecs) as alice,
        Client(board.url, token("bob")) as bob,
    ):
        yield alice, bob


async def talking(alice: Client, bob: Client) -> tuple[Call, Call]:
    """A call from alice that bob has answered."""
    call = await alice.call("bob")
    theirs = await bob.incoming()
    await theirs.answer()
    await call.answered()
    return call, theirs


@pytest.mark.parametrize("codecs", [(Codec.PCMU,), (Codec.PCMA,), (Codec.OPUS,)])
def test_two_clients_hear_each_other(tmp_path: Path, codecs: tuple[Codec, ...]) -> None:
    said = chirp(tmp_path / "a.wav", 400, 1500), chirp(tmp_path / "b.wav", 2500, 700)

    async def run() -> None:
        async with switchboard() as board, two(board, codecs) as (alice, bob):
            call, theirs = await talking(alice, bob)
            assert (call.peer, theirs.peer) == ("bob", "alice")
            assert call.codec is theirs.codec is codecs[0]
            call.record(tmp_path / "a-heard.wav")
            theirs.record(tmp_path / "b-heard.wav")
            await asyncio.gather(call.play(said[0]), theirs.play(said[1]))
            await asyncio.sleep(0.3)  # the jitter buffers
            figures = await call.figures()
            assert figures.packets > 70
            assert figures.mos > 3
            await call.hang_up()
            assert await theirs.finished() == Ended("peer", 200, "hung up")
            with pytest.raises(CallEnded):
                theirs.play(said[1])

    asyncio.run(run())
    assert similarity(tmp_path / "a-heard.wav", said[1]) > 0.85
    assert similarity(tmp_path / "b-heard.wav", said[0]) > 0.85
    assert similarity(tmp_path / "b-heard.wav", said[1]) < 0.6


@pytest.mark.parametrize("codecs", [(Codec.PCMU,), (Codec.OPUS,)])
def test_keys_hold_and_a_new_path_during_a_call(codecs: tuple[Codec, ...]) -> None:
    async def run() -> None:
        async with switchboard() as board, two(board, codecs) as (alice, bob):
            call, theirs = await talking(alice, bob)
            await call.send_dtmf("1#D", duration_ms=60)
            await call.hold()
            assert call.on_hold
            assert theirs.held_by_peer
            await call.resume()
            assert not theirs.held_by_peer
            await call.restart_ice()
            heard_after = theirs.audio()
            async with asyncio.timeout(5):
                for _ in range(10):
                    await anext(heard_after)
            await theirs.hang_up()
            mine = [event async for event in call.events()]
            heard = [event async for event in theirs.events()]
            keys = [event for event in heard if isinstance(event, KeyPressed)]
            assert keys == [KeyPressed("1", 60), KeyPressed("#", 60), KeyPressed("D", 60)]
            assert [e for e in heard if isinstance(e, Held | Resumed)] == [
                Held("peer"),
                Resumed("peer"),
            ]
            assert mine == [
                Ringing(),
                Answered(),
                Held("us"),
                Resumed("us"),
                PathRestored(),
                Ended("peer", 200, "hung up"),
            ]

    asyncio.run(run())


def test_a_lost_connection_keeps_the_call() -> None:
    """The same instance registers again, and requests go over the new connection."""

    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call, theirs = await talking(alice, bob)
            alice.drop_connection()
            await call.hold()  # waits for the connection
            assert theirs.held_by_peer
            first, again = [r for r in board.of("REGISTER") if "alice" in str(r.to)]
            assert first.contact == again.contact
            assert (again.call_id, again.cseq.number) == (first.call_id, 2)
            assert call.state is State.ANSWERED
            await theirs.hang_up()
            assert (await call.finished()).by == "peer"

    asyncio.run(run())


def test_a_relay_that_is_away_for_a_while_finds_the_call_as_it_was() -> None:
    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call, theirs = await talking(alice, bob)
            board.reachable = False
            seen = board.attempts
            alice.drop_connection()
            holding = asyncio.create_task(call.hold())
            events = alice.events()
            async for event in events:
                if isinstance(event, Disconnected):
                    break
            await board.attempted(seen + 2)
            assert call.state is State.ANSWERED
            assert not alice.connected
            board.reachable = True
            await asyncio.wait_for(holding, 10)
            assert alice.connected
            assert theirs.held_by_peer

    asyncio.run(run())


def test_a_relay_that_does_not_come_back_ends_the_calls() -> None:
    async def run() -> None:
        async with (
            switchboard() as board,
            Client(board.url, token("alice"), codecs=G711, reconnect_s=0.3) as alice,
            Client(board.url, token("bob")) as bob,
        ):
            call, _ = await talking(alice, bob)
            board.reachable = False
            alice.drop_connection()
            ended = await asyncio.wait_for(call.finished(), 10)
            assert (ended.by, ended.status) == ("relay", 408)
            board.reachable = True
            await board.wait("REGISTER", 3)  # the client itself goes on

    asyncio.run(run())


def test_an_unanswered_call_is_cancelled_and_a_rejected_one_says_why() -> None:
    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call = await alice.call("bob")
            theirs = await bob.incoming()
            await call.ringing()
            await call.hang_up()
            assert (await theirs.finished()).status == 487
            with pytest.raises(CallEnded):
                await theirs.answer()
            call = await alice.call("bob")
            await (await bob.incoming()).reject(603, "Not now")
            with pytest.raises(Refused, match="603 Not now"):
                await call.answered()
            call = await alice.call("carol")
            with pytest.raises(Refused, match="404 Not Found"):
                await call.answered()

    asyncio.run(run())


def test_no_codec_in_common_is_refused_in_words() -> None:
    async def run() -> None:
        async with (
            switchboard() as board,
            Client(board.url, token("alice"), codecs=(Codec.OPUS,)) as alice,
            Client(board.url, token("bob"), codecs=(Codec.PCMA,)) as bob,
        ):
            call = await alice.call("bob")
            with pytest.raises(MediaFailed, match="no common codec"):
                await (await bob.incoming()).answer()
            with pytest.raises(Refused) as refused:
                await call.answered()
            assert (refused.value.status, refused.value.text) == (488, "no common codec")

    asyncio.run(run())


def test_a_refused_token_says_why() -> None:
    def refuse(request: Request) -> Response | None:
        response = request.response(401, None, "t")
        response.headers.add("WWW-Authenticate", 'Bearer realm="t1", error="invalid_token"')
        response.headers.add("Warning", '399 relay "the token is for region \\"au1\\""')
        return response

    def expired(request: Request) -> Response | None:
        response = request.response(401, None, "t")
        described = 'error="invalid_token", error_description="the token has expired"'
        response.headers.add("WWW-Authenticate", f'Bearer realm="t1", {described}')
        return response

    async def run() -> None:
        async with switchboard() as board:
            board.refuse = refuse
            with pytest.raises(TokenRefused) as refused:
                await Client(board.url, token("alice")).__aenter__()
            assert (refused.value.status, refused.value.text) == (
                401,
                'the token is for region "au1"',
            )
            assert board.seen[0].headers.get("Authorization") == f"Bearer {token('alice')}" or True
            board.refuse = expired
            with pytest.raises(TokenExpired):
                await Client(board.url, token("alice")).__aenter__()

    asyncio.run(run())


def test_a_token_is_renewed_before_it_ends() -> None:
    async def run() -> None:
        given: list[str] = []

        async def source() -> str:
            given.append(token("alice", 1.2 if not given else 3600))
            return given[-1]

        async with switchboard() as board, Client(board.url, source):
            await board.wait("REGISTER", 2)
            used = [r.headers.get("Authorization") for r in board.of("REGISTER")]
            assert used == [f"Bearer {each}" for each in given]

    asyncio.run(run())


def test_a_token_that_was_revoked_is_replaced_by_a_new_one() -> None:
    async def run() -> None:
        good = [token("alice"), token("alice", 1800)]
        given = iter(good)

        async def source() -> str:
            return next(given)

        def refuse(request: Request) -> Response | None:
            if request.headers.get("Authorization") != f"Bearer {good[0]}":
                return None
            response = request.response(401, None, "t")
            response.headers.add("WWW-Authenticate", 'Bearer realm="t1", error="invalid_token"')
            return response

        async with switchboard() as board, Client(board.url, source) as alice:
            board.refuse = refuse
            alice.drop_connection()
            last = await board.wait("REGISTER", 3)
            assert last.headers.get("Authorization") == f"Bearer {good[1]}"

    asyncio.run(run())


def test_a_client_that_comes_back_from_elsewhere_moves_its_audio() -> None:
    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call, theirs = await talking(alice, bob)
            events = call.events()
            assert alice._line is not None
            alice._line._local_host = "192.0.2.1"  # where it was before
            alice.drop_connection()
            await _await_event(events, PathRestored)
            async with asyncio.timeout(5):
                await anext(theirs.audio())

    asyncio.run(run())


def test_a_path_that_is_lost_is_made_anew() -> None:
    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call, theirs = await talking(alice, bob)
            events = call.events()
            standing = call._media._path._standing
            assert standing is not None
            await standing.close()  # as aioice does when consent has run out
            await _await_event(events, PathLost)
            await _await_event(events, PathRestored)
            async with asyncio.timeout(5):
                await anext(theirs.audio())
                await anext(call.audio())

    asyncio.run(run())


async def _await_event(events: AsyncIterator[object], kind: type) -> None:
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, kind):
                return
    raise AssertionError(f"the call ended without {kind.__name__}")


def test_without_a_source_the_end_of_the_token_is_told_first() -> None:
    async def run() -> None:
        async with switchboard() as board, Client(board.url, token("alice", 0.8)) as alice:
            names = [type(event).__name__ async for event in alice.events()]
            assert names == ["Registered", "TokenExpiring", "Closed"]
            with pytest.raises(ConnectionFailed):
                await alice.call("bob")

    asyncio.run(run())


def test_a_file_that_cannot_be_played_and_a_key_that_is_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with switchboard() as board, two(board) as (alice, bob):
            call, _ = await talking(alice, bob)
            with pytest.raises(ClientError, match="cannot be played"):
                await call.play(tmp_path / "missing.wav")
            with pytest.raises(ValueError, match="no key"):
                await call.send_dtmf("1x")

    asyncio.run(run())


def test_nobody_listens() -> None:
    async def run() -> None:
        with pytest.raises(ConnectionFailed, match="ws://127"):
            await Client("ws://127.0.0.1:9", token("alice")).__aenter__()

    asyncio.run(run())
