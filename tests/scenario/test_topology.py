"""Topology hiding: nothing that leaves a leg names the other leg's addresses or identifiers.

Every header and body of every message on the wire is searched, whatever the method or
status: each phone writes its own address into everything that a peer may write it into.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations

import pytest

from relay.sip.message import Request, Response
from relay.sip.parser import parse
from tests.scenario.world import CARRIER, PBX, RELAY, Phone, World, sdp

TARGET = "192.0.2.9"
# What each phone calls its own places beside its address.
NAMES = {
    PBX: ("acme.example", "2001:db8::acc3"),
    CARRIER: ("carrier.example", "2001:db8::cafe"),
    TARGET: ("target.example", "2001:db8::face"),
}


def own_words(phone: Phone) -> list[tuple[str, str]]:
    """Headers of a request or a response that are full of the phone's own addresses."""
    host, (name, ipv6) = phone.host, NAMES[phone.host]
    return [
        ("User-Agent", f"Phone at {host}"),
        ("Server", f"Phone at {host}"),
        ("Warning", f'399 {host}:5060 "sent by {name} [{ipv6}]:5061 to sip:x@{host}"'),
        ("Reason", f'Q.850;cause=17;text="told by {host} and {name}";at={host}'),
        ("Retry-After", f"5 (see {host});duration=9"),
        ("Subject", "Lunch"),
        ("Call-Info", f"<http://{host}/photo.jpg>"),
        ("Reply-To", f"<sip:x@{name}>"),
        ("Organization", name),
        ("Error-Info", f"<sip:announce@{host}>"),
        ("P-Asserted-Identity", f'"{name}" <sip:+35315550100@{host}>'),
        ("Remote-Party-ID", f"<sip:+35315550100@{name}>;party=calling;at={host}"),
        ("P-Preferred-Identity", f"<sip:+35315550100@{name}>"),
        ("Diversion", f'"desk@{name}" <sip:+35315550111@{host}>;reason=unknown;via={host}'),
        ("History-Info", f"<sip:+35315550112@{name}?Reason=SIP%3Bhost={host}>;index=1;x={host}"),
        ("Record-Route", f"<sip:{host};lr>"),
        ("P-Charging-Vector", f"icid-value=1;icid-generated-at={host}"),
        ("X-Host", host),
        ("Path", f"<sip:{host}>"),
    ]


def own_sdp(phone: Phone, port: int) -> bytes:
    host, (name, ipv6) = phone.host, NAMES[phone.host]
    lines = (
        f"a=ssrc:1234 cname:user@{name}",
        f"a=source-filter: incl IN IP4 * {host}",
        f"a=candidate:1 1 UDP 1 {host} {port} typ host",
        f"a=rtcp:{port + 1} IN IP4 {host}",
        f"a=alt:1 1 : A B {host} {port}",
        f"a=x-ipv6:{ipv6}",
    )
    body = sdp(phone.host, port, extra="\r\n".join(lines)).decode()
    return body.replace("s=-\r\n", f"s={host}\r\ni=made by {host}\r\ne=x@{name}\r\n").encode()


def talk(world: World) -> None:
    """Make both phones write their addresses into everything they send."""
    for phone in (world.pbx, world.carrier):
        wrap(phone)


def wrap(phone: Phone) -> None:
    send, reply = phone.layer.request, phone.layer.respond

    def request(message: Request, *rest: object, **more: object) -> object:
        fill(phone, message)
        return send(message, *rest, **more)

    def respond(tx: object, response: Response, now: float) -> None:
        fill(phone, response)
        response.reason = f"{response.reason} said {phone.host}"
        reply(tx, response, now)

    phone.layer.request, phone.layer.respond = request, respond


def fill(phone: Phone, message: Request | Response) -> None:
    present = set(message.headers.names())
    for name, value in own_words(phone):
        if name not in present:
            message.headers.add(name, value)


def secrets(world: World, phone: Phone) -> set[str]:
    """What only this phone and the relay's leg to it may know."""
    host = phone.host
    found = {host, *NAMES[host]}
    for source, to, data in world.wire:
        if host not in (source, to):
            continue
        message = parse(data)
        found |= {message.call_id, message.via.branch or ""}
        found |= {tag for tag in (message.from_.tag, message.to.tag) if tag}
    return found - {""}


def assert_hidden(world: World) -> None:
    """No message to one phone holds a word that belongs to the other."""
    for phone, other in permutations(world.phones.values(), 2):
        assert any(to == phone.host for _, to, _ in world.wire)
        words = secrets(world, other)
        # A phone's short tag may be part of some random text: it must stand alone.
        short = {rf"(?<!\w){re.escape(word)}(?!\w)" for word in words if len(word) < 5}
        whole = {re.escape(word) for word in words if len(word) >= 5}
        search = re.compile("|".join(sorted(short | whole)), re.I)
        for source, to, data in world.wire:
            if source == RELAY and to == phone.host:
                text = data.decode()
                found = search.search(text)
                assert found is None, (found, text)


def quiet(world: World) -> None:
    world.run(1.0)


def hold(world: World) -> None:
    world.pbx.in_dialog("INVITE", own_sdp(world.pbx, 4002))
    world.run(1.0)
    world.carrier.in_dialog("UPDATE", own_sdp(world.carrier, 5002))


def refused_change(world: World) -> None:
    world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, 488)
    world.pbx.in_dialog("INVITE", own_sdp(world.pbx, 4002))


def keys(world: World) -> None:
    world.carrier.in_dialog("INFO", b"Signal=5\r\nDuration=160\r\n")


def unknown(world: World) -> None:
    world.carrier.in_dialog("MESSAGE", b"hello")


@pytest.mark.parametrize("step", [quiet, hold, refused_change, keys, unknown])
@pytest.mark.parametrize("trusted", [True, False])
def test_an_answered_call(step: Callable[[World], None], trusted: bool) -> None:
    keys = {"trusted": trusted}
    world = World(pbx=keys, carrier=keys)
    talk(world)

    def answer(tx: object, request: Request) -> None:
        if request.method == "INVITE":
            world.carrier.ring(tx, request, body=own_sdp(world.carrier, 5000))
            world.carrier.answer(tx, request, body=own_sdp(world.carrier, 5000))
        else:
            world.carrier.reply(tx, request, 200)

    world.carrier.on_request = answer
    world.pbx.call(body=own_sdp(world.pbx, 4000))
    world.run_until(lambda: bool(world.carrier.acks))
    step(world)
    world.run(5.0)
    world.carrier.bye()
    world.run_until(lambda: world.calls.idle)
    assert world.pbx.got("BYE")[0].headers.get("Reason") is not None
    assert_hidden(world)
    assert not world.bugs


@pytest.mark.parametrize("status", [200, 486])
def test_a_transfer(status: int) -> None:
    """To a third phone; REFER, NOTIFY and all that follows from them."""
    world = World(carrier={"transfer": "enable-all", "trusted": True}, pbx={"trusted": True})
    talk(world)
    world.pbx.call(body=own_sdp(world.pbx, 4000))
    world.run_until(lambda: bool(world.carrier.acks))
    target = world.phones[TARGET] = Phone(world, TARGET)
    wrap(target)
    world.router.targets["acme"] = [f"sip:{TARGET}:5060"]

    def answer(tx: object, request: Request) -> None:
        if request.method == "INVITE" and status == 200:
            target.ring(tx, request, "t9", own_sdp(target, 6000))
            target.answer(tx, request, "t9", own_sdp(target, 6000))
        else:
            target.reply(tx, request, status, "t9")

    target.on_request = answer
    assert world.carrier.dialog is not None
    refer = world.carrier.dialog.request("REFER", contact=f"<sip:{CARRIER}:5060>")
    refer.headers.add("Refer-To", f"<sip:+35315550177@{CARRIER}>")
    refer.headers.add("Referred-By", f'"{CARRIER}" <sip:+35315550111@{CARRIER}>;at={CARRIER}')
    world.carrier.send(refer)
    world.run_until(lambda: len(world.carrier.got("NOTIFY")) > 1)
    world.run(5.0)
    world.pbx.bye()
    world.run_until(lambda: world.calls.idle)
    assert_hidden(world)
    assert not world.bugs


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_call_that_fails(status: int) -> None:
    world = World()
    talk(world)
    world.carrier.on_request = lambda tx, request: world.carrier.reply(tx, request, status)
    world.pbx.call(body=own_sdp(world.pbx, 4000))
    world.run_until(lambda: bool(world.pbx.statuses()))
    told = world.pbx.responses[-1]
    if status != 302:  # the redirect was followed, and not a second time
        assert told.headers.get("Warning") == '399 relay "sent by ... ... to ..."'
    assert_hidden(world)


def test_a_call_that_is_cancelled() -> None:
    world = World()
    talk(world)
    world.carrier.on_request = world.carrier.ring
    world.pbx.call(body=own_sdp(world.pbx, 4000))
    world.run_until(lambda: 180 in world.pbx.statuses())
    world.pbx.cancel()
    world.run_until(lambda: world.calls.idle)
    assert_hidden(world)


def test_the_search_finds_what_leaks() -> None:
    """The test of the test: an address in a header that crosses as it is."""
    world = World(pass_headers=("X-Host",))
    talk(world)
    world.pbx.call(body=own_sdp(world.pbx, 4000))
    world.run_until(lambda: bool(world.carrier.acks))
    with pytest.raises(AssertionError, match=r"192\.0\.2\.2"):
        assert_hidden(world)
