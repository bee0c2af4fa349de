"""Devices that ring, answer, refuse, lose their connection and come back, in any order.

Whatever crosses: the caller hears one final response, who answered gets ACK, and who answered
too late BYE; in the end nothing is left.
"""

from __future__ import annotations

from random import Random

import pytest

from relay.sip.message import Request
from tests.scenario.test_attack import assert_clean
from tests.scenario.world import CLIENT_NUMBER, Device, World

SEEDS = range(80)
STATUSES = (480, 486, 500, 603)


class Person:
    """Somebody at a device who does anything at any time."""

    def __init__(self, world: World, random: Random) -> None:
        self.device = Device(world, "alice")
        self.device.register()
        self.random = random
        self.answered = False
        self.lost = False  # since then: its ACK may have been lost, too
        self.pending: list[tuple[object, Request]] = []
        self.device.on_request = self.on_request

    def on_request(self, tx: object, request: Request) -> None:
        if request.method == "INVITE":
            self.pending.append((tx, request))
        else:
            self.device.reply(tx, request, 200)

    @property
    def connected(self) -> bool:
        return self.device.connection.link in self.device.world.links

    def act(self) -> None:
        what = self.random.choice(("ring", "early", "answer", "refuse", "lose", "back", "back"))
        if what == "lose" and self.connected:
            self.lost = self.answered
            self.device.lose()
        elif what == "back" and not self.connected:
            self.device.reconnect()
        elif self.pending and not self.device.cancelled:
            self.say(what, *self.pending[0])

    def say(self, what: str, tx: object, request: Request) -> None:
        tag = f"t{self.device.number}"
        if what == "ring":
            self.device.ring(tx, request, tag)
        elif what == "early":
            self.device.ring(tx, request, tag, self.device.describe(5000))
        elif what == "answer" and not self.answered and self.connected:
            self.answered = True
            self.pending.clear()
            self.device.answer(tx, request, tag)
        elif what == "refuse":
            self.pending.clear()
            self.device.reply(tx, request, self.random.choice(STATUSES), tag)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_of_what_devices_do(seed: int) -> None:
    random = Random(seed)
    world = World(seed=seed)
    people = [Person(world, random) for _ in range(random.randint(1, 4))]
    world.run(0.1)
    world.pbx.call(CLIENT_NUMBER, body=b"" if seed % 5 == 0 else None, Supported="100rel")
    for _ in range(random.randint(5, 60)):
        world.run(random.choice((0.0, 0.005, 0.01, 0.02, 1.0, 10.0)))
        if random.random() < 0.05:
            people.append(Person(world, random))
        random.choice(people).act()
        world.settle()
    if random.random() < 0.5 and not [s for s in world.pbx.statuses() if s >= 200]:
        world.pbx.cancel()
    world.run(5.0)
    for person in people:
        if not person.connected:
            person.device.reconnect()
    world.run(300.0)
    finals = [status for status in world.pbx.statuses() if status >= 200]
    assert len(set(finals)) == 1, finals
    if finals[0] == 200 and world.pbx.dialog is not None and world.calls.active:
        world.pbx.bye()
    assert_clean(world, 400.0)
    assert not world.calls.ringing
    for person in people:
        if person.answered and not person.lost:
            assert person.device.acks
            assert person.device.got("BYE")
