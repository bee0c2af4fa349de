"""Our registration at a carrier, in virtual time: its life, its failures, its end."""

from __future__ import annotations

import itertools

import pytest
from pydantic import SecretStr

from relay.call.authorization import Login
from relay.call.registration import TRANSITIONS, Event, Registration, State
from relay.config import Credential
from relay.config import Registration as Wanted
from relay.sip.digest import Challenge, Credentials, ha1
from relay.sip.message import Request
from tests.scenario.world import CARRIER, PBX, RELAY, World

S = State


class Registrar:
    """Answers REGISTER with `status`; grants `grants` seconds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.status = 200
        self.grants: int | None = None
        self.headers: dict[str, str] = {}
        self.contact: str | None = None
        self.silent = False
        self.got: list[Request] = []
        world.carrier.on_request = self.on_request

    def on_request(self, tx: object, request: Request) -> None:
        if request.method != "REGISTER":
            self.world.carrier.answer_all(tx, request)
            return
        self.got.append(request)
        if self.silent:
            return
        response = request.response(self.status, to_tag="r")
        for name, value in self.headers.items():
            response.headers.add(name, value)
        if self.status == 200:
            asked = int(request.headers.get("Expires") or "0")
            granted = asked if self.grants is None else min(asked, self.grants)
            contact = self.contact or request.headers.get("Contact")
            if granted:
                response.headers.add("Contact", f"{contact};expires={granted}")
        self.world.carrier.layer.respond(tx, response, self.world.now)

    def asked(self) -> list[int]:
        return [int(request.headers.get("Expires") or "-1") for request in self.got]


def registering(
    chance: float = 0.0, expires_s: int = 3600, **options: float
) -> tuple[World, Registrar, Registration]:
    world = World(**options)  # type: ignore[arg-type]
    registrar = Registrar(world)
    wanted = Wanted(registrar=f"sip:{CARRIER}:5060", user="ie1", expires_s=expires_s)
    registration = Registration("carrier", wanted, world.calls, lambda: chance)
    world.calls.registrations = (registration,)
    return world, registrar, registration


def until(world: World, registration: Registration, state: State, limit_s: float = 100.0) -> None:
    world.run_until(lambda: registration.state is state, limit_s)


def registered(world: World, registration: Registration) -> None:
    world.relay.register(world.now)
    until(world, registration, S.REGISTERED)


def test_it_registers_refreshes_in_time_and_unregisters() -> None:
    world, registrar, registration = registering()
    registered(world, registration)
    (first,) = registrar.got
    assert first.uri == f"sip:{CARRIER}:5060"
    assert first.headers.get("To") == f"<sip:ie1@{CARRIER}>"
    assert first.headers.get("Contact") == f"<sip:ie1@{RELAY}:5060>"
    assert world.journal.last("registration")["state"] == "registered"
    started = world.now
    until(world, registration, S.REFRESHING, 4000)
    assert world.now - started == pytest.approx(0.9 * 3600, abs=1)
    until(world, registration, S.REGISTERED)
    assert not world.calls.registrations[0].pending and world.calls.idle
    world.relay.unregister(world.now)
    assert not world.calls.idle
    until(world, registration, S.UNREGISTERED)
    assert registrar.asked() == [3600, 3600, 0]
    assert [r.cseq.number for r in registrar.got] == [1, 2, 3]
    assert len({r.call_id for r in registrar.got}) == 1
    assert len({r.from_.tag for r in registrar.got}) == 1
    assert world.calls.idle
    states = [fields["state"] for name, _, fields in world.journal.events]
    assert states == ["registered", "unregistered"]  # a refresh that went well is no news
    world.run(10000)
    assert len(registrar.got) == 3


def test_a_refresh_comes_earlier_by_chance_so_that_nodes_do_not_come_together() -> None:
    world, _, registration = registering(chance=1.0)
    registered(world, registration)
    started = world.now
    until(world, registration, S.REFRESHING, 4000)
    assert world.now - started == pytest.approx(0.85 * 3600, abs=1)


@pytest.mark.parametrize(
    ("headers", "contact", "granted"),
    [({}, None, 600), ({"Expires": "77"}, f"<sip:ie1@{RELAY}:5060;ob>", 600)],
)
def test_what_the_registrar_grants_counts(
    headers: dict[str, str], contact: str | None, granted: int
) -> None:
    world, registrar, registration = registering()
    registrar.grants, registrar.headers, registrar.contact = 600, headers, contact
    registered(world, registration)
    started = world.now
    until(world, registration, S.REFRESHING, 4000)
    assert world.now - started == pytest.approx(0.9 * granted, abs=1)


def test_the_addresses_of_others_are_passed_over() -> None:
    world, registrar, registration = registering()
    registrar.headers = {"Contact": "<sip:ie1@192.0.2.99>;expires=9, sip:x@192.0.2.98"}
    registered(world, registration)
    assert world.journal.last("registration")["expires_s"] == 3600


def test_a_200_that_lists_only_others_is_a_failure() -> None:
    world, registrar, registration = registering()
    registrar.contact = "<sip:ie1@192.0.2.99>"
    world.relay.register(world.now)
    until(world, registration, S.FAILED)
    assert "did not keep" in str(world.journal.last("registration")["problem"])


def test_423_asks_for_longer_once() -> None:
    world, registrar, registration = registering(expires_s=60)
    registrar.status, registrar.headers = 423, {"Min-Expires": "1800"}
    world.relay.register(world.now)
    world.run_until(lambda: len(registrar.got) == 2)
    registrar.status = 200
    # The second answer was 423 again: it waits, then asks for what it has learned.
    until(world, registration, S.FAILED)
    until(world, registration, S.REGISTERED)
    assert registrar.asked() == [60, 1800, 1800]


@pytest.mark.parametrize("least", ["", "x", "30", "99999999999"])
def test_423_without_a_longer_time_is_a_failure(least: str) -> None:
    world, registrar, registration = registering(expires_s=60)
    registrar.status, registrar.headers = 423, {"Min-Expires": least} if least else {}
    world.relay.register(world.now)
    until(world, registration, S.FAILED)
    assert len(registrar.got) == 1


def test_failures_are_followed_by_waits_that_double_up_to_half_an_hour() -> None:
    """RFC 5626 section 4.5."""
    world, registrar, registration = registering(chance=1.0)
    registrar.status = 500
    world.relay.register(world.now)
    at: list[float] = []
    for number in range(1, 10):
        world.run_until(lambda number=number: len(registrar.got) == number, 2000)
        at.append(world.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert gaps == pytest.approx([30, 60, 120, 240, 480, 960, 1800, 1800], abs=1)
    registrar.status = 200
    until(world, registration, S.REGISTERED, 2000)
    registrar.status = 500
    until(world, registration, S.FAILED, 4000)
    assert world.journal.last("registration")["retry_s"] == 30.0  # it counts anew


def test_retry_after_is_honoured() -> None:
    world, registrar, registration = registering()
    registrar.status, registrar.headers = 503, {"Retry-After": "120 (maintenance);duration=60"}
    world.relay.register(world.now)
    until(world, registration, S.FAILED)
    registrar.status = 200
    started = world.now
    until(world, registration, S.REGISTERED, 200)
    assert world.now - started == pytest.approx(120, abs=1)


def test_a_registrar_that_is_silent_is_tried_again() -> None:
    world, registrar, registration = registering()
    registrar.silent = True
    world.relay.register(world.now)
    until(world, registration, S.FAILED)
    assert world.journal.last("registration")["problem"] == "no answer"
    registrar.silent = False
    until(world, registration, S.REGISTERED)


def test_lost_messages_change_nothing() -> None:
    for seed in range(10):
        world, registrar, registration = registering(loss=0.3, seed=seed)
        registered(world, registration)
        until(world, registration, S.REFRESHING, 4000)
        until(world, registration, S.REGISTERED)
        world.relay.unregister(world.now)
        until(world, registration, S.UNREGISTERED)
        assert registrar.asked()[0] == 3600 and registrar.asked()[-1] == 0
        assert not world.bugs


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_is_answered_and_kept_for_the_refresh(status: int) -> None:
    world, registrar, registration = registering()
    credential = Credential(username="u", password=SecretStr("p"))
    world.calls.logins["carrier"] = Login("carrier", credential, world.calls)
    plain = registrar.on_request
    ask, answer = {
        401: ("WWW-Authenticate", "Authorization"),
        407: ("Proxy-Authenticate", "Proxy-Authorization"),
    }[status]

    def challenging(tx: object, request: Request) -> None:
        given = Credentials.parse(request.headers.get(answer) or "Basic")
        key = ha1("SHA-256", "u", "r", "p")
        if given is not None and given.proves(key, "REGISTER") and given.uri == request.uri:
            registrar.status, registrar.headers = 200, {}
        else:
            challenge = str(Challenge("r", "n", "SHA-256", ("auth",)))
            registrar.status, registrar.headers = status, {ask: challenge}
        plain(tx, request)

    world.carrier.on_request = challenging
    registered(world, registration)
    until(world, registration, S.REFRESHING, 4000)
    until(world, registration, S.REGISTERED)
    world.relay.unregister(world.now)
    until(world, registration, S.UNREGISTERED)
    assert [r.cseq.number for r in registrar.got] == [1, 2, 3, 4]
    assert registrar.asked() == [3600, 3600, 3600, 0]


def test_a_wrong_password_waits_and_is_told() -> None:
    world, registrar, registration = registering()
    credential = Credential(username="u", password=SecretStr("p"))
    world.calls.logins["carrier"] = Login("carrier", credential, world.calls)
    registrar.status = 401
    registrar.headers = {"WWW-Authenticate": str(Challenge("r", "n", "MD5", ("auth",)))}
    world.relay.register(world.now)
    until(world, registration, S.FAILED)
    assert len(registrar.got) == 2
    assert world.journal.last("credentials_refused")["method"] == "REGISTER"
    assert world.journal.last("registration")["problem"] == "401"


@pytest.mark.parametrize("when", [S.REGISTERING, S.REFRESHING])
def test_the_end_waits_for_the_answer_that_is_due(when: State) -> None:
    """RFC 3261 section 10.2: no REGISTER before the last one is answered."""
    world, registrar, registration = registering()
    world.relay.register(world.now)
    until(world, registration, when, 4000)
    world.relay.unregister(world.now)
    assert registration.state is S.STOPPING
    until(world, registration, S.UNREGISTERED)
    assert registrar.asked()[-1] == 0


def test_a_node_that_stops_while_the_registrar_is_silent_ends() -> None:
    world, registrar, registration = registering()
    registrar.silent = True
    world.relay.register(world.now)
    world.run(1.0)
    world.relay.unregister(world.now)
    until(world, registration, S.UNREGISTERED)
    assert world.calls.idle


def test_a_call_of_the_registrar_comes_to_the_contact() -> None:
    world, registrar, registration = registering()
    registered(world, registration)
    contact = registrar.got[0].contact
    assert contact is not None
    world.carrier.call(contact.uri.user or "")
    world.run_until(lambda: bool(world.carrier.statuses()))
    assert world.carrier.statuses() == [404]  # the world routes numbers only; a region may route it
    assert not world.pbx.requests and PBX not in str(contact)


def test_every_state_can_be_left_and_every_event_is_used() -> None:
    left = {state for state, _ in TRANSITIONS}
    assert left == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)
    reached = {State.UNREGISTERED}

    def pending() -> set[State]:
        return {target for (state, _), (target, _) in TRANSITIONS.items() if state in reached}

    while not pending() <= reached:
        reached |= pending()
    assert reached == set(State)
