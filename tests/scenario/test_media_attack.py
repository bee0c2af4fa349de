"""Descriptions that lie: audio that would leave the region, loop, or be readable (virtual time)."""

from __future__ import annotations

import pytest

from relay.call.ports import LegMedia, MediaAddress, Side
from relay.errors import NotAcceptable
from relay.sip.message import Request
from tests.scenario.test_attack import assert_clean
from tests.scenario.test_transfer import Transferred
from tests.scenario.world import CARRIER, PBX, FakeCallMedia, World, sdp

AWAY = "203.0.113.66"  # no network of the region
OUTSIDE = "the media address (c=) is outside this region's networks"


def remotes(world: World, side: Side) -> set[MediaAddress | None]:
    return {leg.remote for media in world.media.calls for leg in media.updates[side]}


def answers_with(world: World, body: bytes, status: int = 200) -> None:
    """The carrier answers each INVITE with this description."""

    def on_request(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.reply(tx, request, 200)
        elif status == 200:
            world.carrier.answer(tx, request, body=body)
        else:
            world.carrier.reply(tx, request, status, body=body)

    world.carrier.on_request = on_request


def warning(world: World) -> str:
    return world.pbx.responses[-1].headers.get("Warning") or ""


@pytest.mark.parametrize("host", [AWAY, "127.0.0.1", "255.255.255.255", "169.254.1.1"])
def test_an_offer_that_would_take_audio_out_of_the_region(host: str) -> None:
    """Nothing is offered to the callee, and no port stays open."""
    world = World()
    world.pbx.call(body=sdp(host, 4000))
    world.run_until(lambda: 488 in world.pbx.statuses())
    assert OUTSIDE in warning(world)
    assert not world.carrier.requests
    assert_clean(world)


def test_an_answer_that_would_take_audio_out_of_the_region() -> None:
    world = World()
    answers_with(world, sdp(AWAY, 5000))
    world.pbx.call()
    world.run_until(lambda: 502 in world.pbx.statuses() and bool(world.carrier.got("BYE")))
    assert f"the answer: {OUTSIDE}" in warning(world)
    assert not remotes(world, Side.CALLEE)
    assert_clean(world)


def test_early_media_from_outside_of_the_region_are_left_out() -> None:
    world = World()
    answers_with(world, sdp(AWAY, 5000), 183)
    world.pbx.call()
    world.run_until(lambda: 183 in world.pbx.statuses())
    assert not world.pbx.responses[-1].body
    assert not remotes(world, Side.CALLEE)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_call_cannot_be_moved_out_of_the_region(method: str) -> None:
    """The offer is refused, and the call goes on where it was."""
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    before = len(world.carrier.requests)
    world.pbx.in_dialog(method, sdp(AWAY, 4000, extra="a=sendrecv"))
    world.run_until(lambda: 488 in world.pbx.statuses(method))
    assert OUTSIDE in warning(world)
    assert len(world.carrier.requests) == before
    assert remotes(world, Side.CALLER) == {MediaAddress(PBX, 4000, 4001)}
    world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
    world.run_until(lambda: world.pbx.statuses().count(200) == 2)


def test_the_answer_to_a_re_invite_cannot_move_a_side_out_of_the_region() -> None:
    """488 for who asked; the liar is told again what holds, and is sent nothing elsewhere."""
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    answers_with(world, sdp(AWAY, 5000))
    world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
    world.run_until(lambda: 488 in world.pbx.statuses())
    world.run(5.0)
    assert AWAY not in {remote.host for remote in remotes(world, Side.CALLEE) if remote}
    last = world.media.calls[0].updates
    assert last[Side.CALLER][-1].remote == MediaAddress(PBX, 4000, 4001)


def test_a_transfer_target_cannot_take_audio_out_of_the_region() -> None:
    call = Transferred()
    call.target.on_request = lambda tx, request: (
        call.target.answer(tx, request, body=sdp(AWAY, 6000))
        if request.method == "INVITE"
        else call.target.reply(tx, request, 200)
    )
    before = call.media.updates[Side.CALLEE][-1]
    call.refer()
    call.world.run_until(lambda: bool(call.target.got("BYE")))
    assert call.media.updates[Side.CALLEE][-1] == before


class Unusable(FakeCallMedia):
    """An engine that cannot send to 192.0.2.99."""

    def check(self, side: Side, remote: MediaAddress) -> None:
        if remote.host == "192.0.2.99":
            raise NotAcceptable("its media address is of another IP version than this leg's")


def test_an_address_that_the_engine_cannot_use_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither side of a call may be told of half an exchange."""
    monkeypatch.setattr("tests.scenario.world.FakeCallMedia", Unusable)
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    updates = world.media.calls[0].updates
    before: dict[Side, LegMedia] = {side: updates[side][-1] for side in Side}
    answers_with(world, sdp("192.0.2.99", 5000))
    world.pbx.in_dialog("INVITE", sdp(PBX, 4002))
    world.run_until(lambda: 488 in world.pbx.statuses())
    answers_with(world, sdp(CARRIER, 5000))
    world.run(5.0)
    assert {side: updates[side][-1] for side in Side} == before


def test_a_description_in_an_info_request_does_not_cross() -> None:
    """Its addresses and keys are one leg's own."""
    world = World()
    world.pbx.call()
    world.run_until(lambda: bool(world.carrier.acks))
    world.pbx.in_dialog("INFO", sdp(PBX, 4000))
    world.run_until(lambda: 488 in world.pbx.statuses("INFO"))
    assert "INFO carries no session description" in warning(world)
    assert not world.carrier.got("INFO")
    world.carrier.on_request = lambda tx, request: world.carrier.reply(
        tx, request, 200, body=sdp(CARRIER, 5000)
    )
    world.pbx.in_dialog("INFO", b"Signal=5\r\nDuration=160\r\n")
    world.run_until(lambda: 200 in world.pbx.statuses("INFO"))
    assert not world.pbx.responses[-1].body
