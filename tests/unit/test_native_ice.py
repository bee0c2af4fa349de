"""What of STUN and DTLS reaches Python: every drop code, and floods."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from aioice import stun as aioice
from hypothesis import given
from hypothesis import strategies as st

from relay import _native
from relay.call.ports import Side
from relay.media.engine_call import EngineCall
from relay.sdp.description import IceCredentials
from tests.unit.media_rig import DEADLINE_S, Peer, Rig, rig, until
from tests.unit.webrtc_rig import (
    DTLS,
    LOOPBACK,
    UFRAG,
    Browser,
    at,
    attribute,
    check,
    ice,
    secured_caller,
    stun,
    waiting,
    webrtc_caller,
)

A_SECOND = 50  # what a leg may send up of one kind


def wanted(data: bytes, *ufrags: str) -> str:
    return _native.stun_wanted(data, [ufrag.encode() for ufrag in ufrags or (UFRAG,)])


def username(text: str) -> bytes:
    return attribute(0x0006, text.encode())


@pytest.mark.parametrize(
    "data",
    [
        check(),
        check(theirs=""),
        stun(username(UFRAG + ":x") + attribute(0x0008, bytes(20))),
        stun(attribute(0x7F01, b"abc") + username(UFRAG + ":x")),  # padded to a word
    ],
)
def test_a_check_for_this_leg_goes_up(data: bytes) -> None:
    assert wanted(data) == "none"


@pytest.mark.parametrize(
    "data",
    [
        stun(username(UFRAG + ":x"), kind=0x0101),
        stun(username(UFRAG + ":x"), kind=0x0111),
        stun(username(UFRAG + ":x"), kind=0x0011),
        stun(username(UFRAG + ":x"), kind=0x0003),
        check()[:19],
        check()[:-1],
        check() + b"\0",
        check()[:4] + b"\0\0\0\0" + check()[8:],
        b"\0",
    ],
    ids=["response", "error", "indication", "allocate", "head", "cut", "more", "cookie", "octet"],
)
def test_what_is_no_binding_request(data: bytes) -> None:
    assert wanted(data) == "stun_not_a_request"


@pytest.mark.parametrize(
    "data",
    [
        stun(),
        check("Ab3"),
        check("Ab3+x"),
        check("ab3+"),
        stun(username(UFRAG)),
        stun(username("")),
        stun(attribute(0x0008, bytes(20)) + username(UFRAG + ":x")),
        stun(b"\x00\x06\x00\x40" + f"{UFRAG}:x".encode() + bytes(2)),
        stun(b"\x7f\x01\xff\xff" + username(UFRAG + ":x")),
    ],
    ids=["none", "part", "longer", "case", "no colon", "empty", "late", "too long", "beyond"],
)
def test_a_check_with_another_user(data: bytes) -> None:
    assert wanted(data) == "stun_unknown_user"


def test_after_restarts_the_ufrag_of_the_path_is_known_still() -> None:
    """Two or three before any is through: consent is what the first one's checks prove."""
    ours = ["first", "second", "second", "third", "fourth", "fifth"]
    for ufrag in ours[:5]:
        assert wanted(check(ufrag), *ours[:5]) == "none"
    assert wanted(check("fifth"), *ours) == "none"
    assert wanted(check("first"), *ours) == "stun_unknown_user"


@given(st.binary(max_size=200))
def test_no_octets_harm_the_filter(noise: bytes) -> None:
    head = stun(noise)
    for data in (noise, head, head[: len(head) // 2]):
        assert wanted(data) in ("none", "stun_not_a_request", "stun_unknown_user")


@given(st.text("abc+/:", min_size=1, max_size=9), st.binary(max_size=40))
def test_the_filter_agrees_with_aioice(name: str, software: bytes) -> None:
    message = aioice.Message(aioice.Method.BINDING, aioice.Class.REQUEST)
    message.attributes["SOFTWARE"] = software.decode("latin-1")
    message.attributes["USERNAME"] = name
    message.attributes["PRIORITY"] = 1
    message.add_message_integrity(b"secret")
    expected = "none" if name.startswith("ab:") else "stun_unknown_user"
    assert wanted(bytes(message), "ab") == expected


def test_drops_of_a_running_leg_have_their_codes() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        other = Peer(r.caller.host)
        r.call.select(Side.CALLER, at(r.caller))
        for peer, data, code in (
            (other, stun(kind=0x0101), "stun_not_a_request"),
            (other, check("nobody"), "stun_unknown_user"),
            (other, DTLS, "dtls_wrong_source"),
            (r.caller, check() + bytes(4), "stun_not_a_request"),
            (r.caller, DTLS + bytes(1500), "packets_waiting"),
            (r.caller, DTLS + bytes(2048), "oversized"),
        ):
            before = r.call.figures(Side.CALLER).drops.get(code, 0)
            peer.send(r.at_caller, data)
            r.wait_for_drop(code, count=before + 1)
        r.caller.rtcp.sendto(check(), (r.at_caller.host, r.at_caller.rtcp_port))
        r.wait_for_drop("stun")
        r.caller.rtcp.sendto(DTLS, (r.at_caller.host, r.at_caller.rtcp_port))
        r.wait_for_drop("dtls")
        assert waiting(r) == []
        other.close()


def test_dtls_before_a_path_is_selected_goes_up() -> None:
    """It may be from where the path will be: Python knows who has checked."""
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        in_step(r, r.caller, DTLS, 1)
        assert waiting(r) == [(1, 0, DTLS, at(r.caller))]
        other = Peer(r.caller.host)
        r.call.select(Side.CALLER, at(other))
        r.caller.send(r.at_caller, DTLS)
        r.wait_for_drop("dtls_wrong_source")
        other.close()


def test_a_plain_leg_takes_neither() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        r.callee.send(r.at_callee, check())
        r.wait_for_drop("stun", Side.CALLEE)
        r.callee.send(r.at_callee, DTLS)
        r.wait_for_drop("dtls", Side.CALLEE)
        assert waiting(r) == []


def test_from_outside_the_region_nothing_goes_up() -> None:
    with rig(("127.1.0.0/16",)) as r:
        webrtc_caller(r)
        abroad = Peer("127.2.0.1")
        abroad.send(r.at_caller, check())
        r.wait_for_drop("outside_region")
        abroad.send(r.at_caller, DTLS)
        r.wait_for_drop("outside_region", count=2)
        abroad.close()


def wait_for_received(r: Rig, count: int) -> None:
    """Until the engine has dealt with so many datagrams."""
    until(lambda: r.engine.counters()["received"] >= count)


def in_step(r: Rig, peer: Peer, data: bytes, count: int, call: EngineCall | None = None) -> None:
    """Send so many, each after the one before was dealt with."""
    before = r.engine.counters()["received"]
    for number in range(1, count + 1):
        peer.send((call or r.call).local(Side.CALLER), data)
        wait_for_received(r, before + number)


def test_a_budget_a_second_and_another_for_the_path() -> None:
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        r.call.select(Side.CALLER, at(r.caller))
        stranger = Peer(r.caller.host)
        in_step(r, stranger, check(), A_SECOND + 10)
        r.wait_for_drop("stun_too_many", count=10)
        in_step(r, r.caller, check(), 1)
        assert waiting(r)[-1][3] == at(r.caller)
        in_step(r, r.caller, DTLS, A_SECOND + 10)
        r.wait_for_drop("dtls_too_many", count=10)
        in_step(r, r.caller, check(), A_SECOND + 9)
        r.wait_for_drop("stun_too_many", count=20)
        assert r.engine.counters()["handed_up"] <= 3 * A_SECOND

        def again() -> bool:
            stranger.send(r.at_caller, check())
            return bool(waiting(r))

        waiting(r)
        until(again)  # in the next second
        stranger.close()


def test_the_ring_is_bounded_and_keeps_room_for_those_who_are_known() -> None:
    with rig(LOOPBACK) as r:
        calls = [r.call, *(r.engine.open(f"call-{n}", False, False) for n in range(2, 8))]
        stranger = Peer(r.caller.host)
        for call in calls:
            call.update(Side.CALLER, r.caller.leg(remote=None, webrtc=ice()))
            call.select(Side.CALLER, at(r.caller))
        for call in calls:
            in_step(r, stranger, check(), 30, call)
        counters = r.engine.counters()
        assert (counters["handed_up"], counters["drop_packets_waiting"]) == (192, 18)
        for call in calls:
            in_step(r, r.caller, check(), 20, call)
        counters = r.engine.counters()
        assert (counters["handed_up"], counters["drop_packets_waiting"]) == (256, 94)
        taken = waiting(r)
        while more := waiting(r):
            taken += more
        assert [source for *_, source in taken] == [at(stranger)] * 192 + [at(r.caller)] * 64
        in_step(r, r.caller, check(), 1)
        assert waiting(r) == [(1, 0, check(), at(r.caller))]
        stranger.close()


@pytest.mark.alone
def test_live_audio_is_unharmed_by_floods() -> None:
    """Checks with the right and with wrong users, and DTLS, at a leg that talks all the while."""
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        stop = threading.Event()
        flooded = r.engine.open("flooded", False, False)
        flooded.update(Side.CALLER, r.caller.leg(remote=None, webrtc=ice()))
        stranger = Peer(r.caller.host)

        def flood() -> None:
            while not stop.is_set():
                for data in (check(), check("x"), DTLS, stun(kind=0x0101)):
                    stranger.send(flooded.local(Side.CALLER), data)

        flooder = threading.Thread(target=flood)
        flooder.start()
        try:
            for _ in range(200):
                for data in (check(), check("x"), DTLS, bytes(40)):
                    stranger.send(r.at_caller, data)
                sent = browser.send(r.at_caller)
                assert r.callee.rtp.recv(4096) == sent
                back = r.callee.send(r.at_callee)
                assert browser.hear() == back
        finally:
            stop.set()
            flooder.join()
        until(lambda: r.engine.counters()["relayed"] == 400)
        figures = r.call.figures(Side.CALLER)
        assert (figures.relayed, figures.lost) == (200, 0)
        assert figures.reason_for_silence is None
        assert r.engine.counters()["handed_up"] <= 256  # nobody took one
        stranger.close()


FLOOD = """
import socket, sys, time
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flood.bind((sys.argv[1], 0))
data = bytes.fromhex(sys.argv[3])
print("begun", flush=True)
while True:
    for _ in range(20):
        flood.sendto(data, (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.001)
"""


@contextlib.contextmanager
def flood(r: Rig, data: bytes) -> Iterator[None]:
    """Some 15,000 packets a second at the caller's port, from another process."""
    command = [sys.executable, "-c", FLOOD, r.at_caller.host, str(r.at_caller.port), data.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.alone
@pytest.mark.parametrize("data", [check("x"), DTLS, bytes(40)], ids=["stun", "dtls", "noise"])
def test_audio_is_not_stuck_behind_a_flood_at_its_own_port(data: bytes) -> None:
    """A third of it was lost when a socket had one packet a turn."""
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        with flood(r, data):
            begun = time.monotonic()
            for number in range(100):
                until(lambda at=begun + 0.01 * number: time.monotonic() >= at)
                browser.send(r.at_caller)
        until(lambda: r.call.figures(Side.CALLER).relayed >= 90)
        assert sum(r.call.figures(Side.CALLER).drops.values()) > 1000


@pytest.mark.alone
def test_commands_come_before_the_packets_after_them_in_a_flood_too() -> None:
    with rig(LOOPBACK) as r:
        browser = secured_caller(r)
        r.callee.rtp.settimeout(0.5)
        with flood(r, check("x")):
            for _ in range(300):
                r.call.secure(Side.CALLER, None)
                r.call.secure(Side.CALLER, browser.keys())
                browser.send(r.at_caller)
                with contextlib.suppress(TimeoutError):  # the kernel's queue was full
                    r.callee.rtp.recv(4096)
            r.call.close()
        figures = r.call.figures(Side.CALLER)
        assert figures.relayed > 200
        assert set(figures.drops) == {"stun_unknown_user"}


def test_packets_of_a_closed_call_are_nobodys() -> None:
    seen: list[bytes] = []
    with rig(LOOPBACK, on_packet=lambda call, side, data, source: seen.append(data)) as r:
        webrtc_caller(r)
        in_step(r, r.caller, check(), 1)
        r.call.close()
        r.engine.drain()
        assert seen == []


def test_packets_reach_the_loop_a_few_at_a_time() -> None:
    """The loop goes on between two lots: a handshake costs it most of a millisecond."""
    lots: list[int] = []
    seen: list[tuple[str, Side, bytes, tuple[str, int]]] = []

    def take(call: EngineCall, side: Side, data: bytes, source: tuple[str, int]) -> None:
        seen.append((call.call_id, side, data, source))

    async def scenario(r: Rig) -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def drain() -> None:
            before = len(seen)
            r.engine.drain()
            lots.append(len(seen) - before)
            if len(seen) >= 40:
                over.set()

        loop.add_reader(r.engine._wake, drain)
        await asyncio.wait_for(over.wait(), DEADLINE_S)
        loop.remove_reader(r.engine._wake)

    with rig(LOOPBACK, on_packet=take) as r:
        webrtc_caller(r)
        in_step(r, r.caller, check(), 40)
        asyncio.run(scenario(r))
        assert seen == [("call-1", Side.CALLER, check(), at(r.caller))] * 40
        assert lots[:5] == [8] * 5


def test_a_bug_with_one_packet_does_not_lose_the_others() -> None:
    seen: list[bytes] = []
    bugs: list[object] = []

    def take(call: EngineCall, side: Side, data: bytes, source: tuple[str, int]) -> None:
        seen.append(data)
        if len(seen) == 1:
            raise RuntimeError("a bug")

    async def scenario(r: Rig) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: bugs.append(str(context["exception"])))
        r.engine.start(loop)
        r.engine.drain()
        loop.remove_reader(r.engine._wake)
        r.engine._loop = None

    with rig(LOOPBACK, on_packet=take) as r:
        webrtc_caller(r)
        in_step(r, r.caller, check(), 3)
        asyncio.run(scenario(r))
        assert (seen, bugs) == ([check()] * 3, ["a bug"])


def test_a_check_before_the_answer_goes_up_once_the_leg_is_offered() -> None:
    """Who answers our offer checks at once: its answer takes longer, through SIP."""
    with rig(LOOPBACK) as r:
        r.caller.send(r.at_caller, check())
        r.wait_for_drop("stun")
        r.call.offer(Side.CALLER, IceCredentials(UFRAG, "p" * 24))
        in_step(r, r.caller, check(), 1)
        in_step(r, r.caller, DTLS, 1)
        assert [data for _, _, data, _ in waiting(r)] == [check(), DTLS]
        r.caller.send(r.at_caller, check("other"))
        r.wait_for_drop("stun_unknown_user")
        r.caller.send(r.at_caller)
        r.wait_for_drop("not_described")
        r.call.update(Side.CALLER, Browser(r.caller).leg("other"))  # the answer of another offer
        in_step(r, r.caller, check(), 1)
        in_step(r, r.caller, check("other"), 1)
        assert [data for _, _, data, _ in waiting(r)] == [check(), check("other")]


def test_a_check_before_the_answer_from_outside_of_the_region_goes_nowhere() -> None:
    with rig(("10.0.0.0/8",)) as r:
        r.call.offer(Side.CALLER, IceCredentials(UFRAG, "p" * 24))
        for count, data in enumerate((check(), DTLS), 1):
            r.caller.send(r.at_caller, data)
            r.wait_for_drop("outside_region", count=count)
        assert r.engine.counters()["handed_up"] == 0


def test_a_plain_leg_goes_on_while_it_is_offered_to_a_browser() -> None:
    """As during a transfer; a description of a plain leg ends the offer."""
    with rig(LOOPBACK) as r:
        r.describe()
        r.call.offer(Side.CALLER, IceCredentials(UFRAG, "p" * 24))
        other = Peer(r.caller.host)
        in_step(r, other, check(), 1)
        assert waiting(r) == [(1, 0, check(), at(other))]
        r.caller.send(r.at_caller)
        r.wait_for_relayed(1)
        r.callee.send(r.at_callee)
        r.wait_for_relayed(1, Side.CALLEE)
        other.send(r.at_caller, DTLS)
        r.wait_for_drop("dtls_wrong_source")
        r.describe()
        other.send(r.at_caller, check())
        r.wait_for_drop("stun")
        other.close()


def test_dtls_before_a_path_has_a_budget_of_its_own() -> None:
    """Whoever floods before there is a path has not used up what is for the path."""
    with rig(LOOPBACK) as r:
        webrtc_caller(r)
        other = Peer(r.caller.host)
        in_step(r, other, DTLS, A_SECOND + 10)
        r.wait_for_drop("dtls_too_many", count=10)
        r.call.select(Side.CALLER, at(r.caller))
        in_step(r, r.caller, DTLS, 1)
        assert waiting(r)[A_SECOND:] == [(1, 0, DTLS, at(r.caller))]
        other.close()
