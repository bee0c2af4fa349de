"""Early media of several branches: the caller hears who spoke last, then who answered."""

from __future__ import annotations

from collections.abc import Callable

from relay.call.ports import Side
from relay.sip.message import Request, Response
from tests.scenario.world import CARRIER, World, sdp

Step = tuple[int, str, int]  # status, branch, media port (0: no description)


def forked(*steps: Step) -> World:
    """A carrier that says these things to one INVITE, in this order."""
    world = World()

    def fork(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.answer_all(tx, request)
            return
        for status, branch, port in steps:
            body = sdp(CARRIER, port) if port else b""
            if status == 200:
                world.carrier.answer(tx, request, branch, body)
            else:
                world.carrier.reply(tx, request, status, branch, body)

    world.carrier.on_request = fork
    world.pbx.call()
    wanted = [status for status, _, _ in steps]
    world.run_until(lambda: len(world.pbx.statuses()) == len(wanted))
    world.run(1)
    assert world.pbx.statuses() == wanted and not world.bugs
    return world


def heard(world: World) -> int:
    """The port that the callee's media are expected from."""
    remote = world.media.calls[0].updates[Side.CALLEE][-1].remote
    assert remote is not None
    return remote.port


def told(world: World, *chosen: int) -> list[Response]:
    responses = [r for r in world.pbx.responses if r.status > 100]
    return [responses[index] for index in chosen]


def over(world: World) -> None:
    world.pbx.bye()
    world.run(40)
    assert world.calls.idle and not world.bugs


def test_another_branch_answers_with_another_description() -> None:
    world = forked((183, "b1", 5002), (200, "b2", 5004))
    assert heard(world) == 5004
    early, final = told(world, 0, 1)
    assert early.to.tag != final.to.tag
    over(world)


def test_the_branch_that_spoke_before_the_last_answers() -> None:
    """Its answer is the one that it gave before, and the engine goes back to it."""
    world = forked((183, "b1", 5002), (183, "b2", 5004), (200, "b1", 5002))
    assert heard(world) == 5002
    first, second, final = told(world, 0, 1, 2)
    assert final.to.tag == first.to.tag != second.to.tag
    assert final.body == first.body
    over(world)


def test_an_answer_without_a_description_means_that_of_its_own_branch() -> None:
    world = forked((183, "b1", 5002), (183, "b2", 5004), (200, "b1", 0))
    assert heard(world) == 5002
    assert told(world, 2)[0].body == told(world, 0)[0].body != b""
    over(world)


def test_a_ringing_without_a_description_leaves_the_early_media() -> None:
    world = forked((183, "b1", 5002), (180, "b1", 0), (180, "b2", 0), (200, "b1", 5002))
    assert heard(world) == 5002
    assert not told(world, 1)[0].body
    over(world)


def test_a_branch_that_only_rang_answers() -> None:
    world = forked((183, "b1", 5002), (180, "b2", 0), (200, "b2", 5004))
    assert heard(world) == 5004
    over(world)


def test_early_media_that_cannot_be_carried_are_left_out() -> None:
    world = World()
    steps: list[Callable[[], object]] = []

    def fork(tx: object, request: Request) -> None:
        if request.method != "INVITE":
            world.carrier.answer_all(tx, request)
            return
        steps.append(lambda: world.carrier.answer(tx, request))
        world.carrier.reply(tx, request, 183, "b1", b"v=0\r\nnonsense")

    world.carrier.on_request = fork
    world.pbx.call()
    world.run_until(lambda: world.pbx.statuses() == [183])
    assert not world.pbx.responses[-1].body
    steps[0]()
    world.run(1)
    assert world.pbx.statuses() == [183, 200] and heard(world) == 5000
    over(world)


def test_the_branch_of_an_answer_without_any_description_fails_the_call() -> None:
    world = World()
    world.carrier.on_request = lambda tx, request: world.carrier.answer(tx, request, body=b"")
    world.pbx.call()
    world.run_until(lambda: bool(world.pbx.statuses()))
    assert world.pbx.statuses() == [502]
    world.run(40)
    assert world.carrier.got("BYE") and not world.bugs
