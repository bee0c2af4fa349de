"""REGISTER and other requests over WebSockets, with fields that hold anything.

No exception, nobody registered whose token does not say so, no more devices than are allowed, and
nothing left once all is over. Bounded by RELAY_FUZZ_SECONDS (default 5 s); a failure prints its
seed.
"""

from __future__ import annotations

import os
import random
import time

from relay.errors import MalformedMessage
from relay.sip.parser import parse
from tests.scenario.web import AOR, Page, Region
from tests.unit.token_samples import WALL, token

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
STEPS = 60

IDENTITIES = ("alice", "bob", "%61lice", "a b", "", "alice;x=y")
CONTACTS = (
    *("<sip:a@b.invalid;transport=ws>", "<sip:c@d.invalid>") * 3, "*", "", "<tel:+1>", "<sip:",
    '<sip:a@b>;+sip.instance="<urn:uuid:1>";reg-id=1', '<sip:a@b>;+sip.instance="<urn:uuid:1>"',
    '<sip:a@b>;+sip.instance="<urn:uuid:2>";reg-id=2', "<sip:a@b>;+sip.instance=x", "*, *",
    '<sip:a@b>;reg-id=9;+sip.instance="<urn:x:', "<sip:a@b>;q=0.5, <sip:e@f>;expires=70",
    "<sip:a@b>;expires=0", "<sip:a@b>;expires=-1", "<sip:a@b>;expires=99999999999999",
    "<sip:a@b>;q=2;expires=", '"x" <sip:a@b>;;;', "<sip:a@b>" * 40, "<sips:a@b>;expires=61",
)  # fmt: skip
EXPIRES = (*("600", "120", "60") * 2, "0", "1", "59", "x", "", "-1", "4294967296", "1e9")
SUPPORTED = ("path,gruu,outbound", "gruu", "outbound", "", "timer")
METHODS = (*("REGISTER",) * 8, "OPTIONS", "INVITE", "SUBSCRIBE", "BYE", "ACK", "CANCEL", "FOO")


def credentials(chance: random.Random, page: Page) -> list[tuple[str, str]]:
    """Good ones mostly; else of any kind."""
    good = token(
        sub=chance.choice(("alice", "bob")) if chance.random() < 0.1 else page.identity or "x",
        jti=f"t{chance.randrange(40)}",
        iat=None,
        exp=WALL + chance.choice((300, 7200, 20000)),
    )
    kind = chance.random()
    name = chance.choice(("Authorization", "Authorization", "Proxy-Authorization"))
    if kind < 0.6:
        return [(name, f"Bearer {good}")]
    if kind < 0.85:
        return []
    return [
        (
            name,
            chance.choice(
                (
                    good,
                    f"Bearer {good[:-3]}",
                    f"Bearer {token(region='au1')}",
                    "Bearer",
                    "Bearer ..",
                    f'Digest username="{good}", realm="ie1", nonce="x", uri="sip:{AOR}", '
                    'response="0", algorithm=MD5, qop=auth, nc=00000001, cnonce="c"',
                    'Digest username="a',
                    "Basic eDp5",
                    "",
                )
            ),
        )
    ]


def step(chance: random.Random, region: Region, pages: list[Page]) -> None:
    kind = chance.random()
    page = chance.choice(pages)
    if kind < 0.05:
        region.calls.revoke("app", [f"t{chance.randrange(60)}"], region.now)
    elif kind < 0.15:
        region.run(chance.choice((1.0, 1.0, 30.0, 200.0)))
    elif kind < 0.2:
        region.wall += chance.choice((-3600.0, -10.0, 10.0, 1000.0))
    elif kind < 0.3:
        page.close()
        page.connect()
    elif kind < 0.35:
        page.connect()  # the old connection stays
    else:
        page.identity = "bob" if page is pages[-1] else "alice"
        fields = [
            ("Expires", chance.choice(EXPIRES)),
            ("Supported", chance.choice(SUPPORTED)),
            *(("Contact", chance.choice(CONTACTS)) for _ in range(chance.randrange(3))),
            *credentials(chance, page),
        ]
        if chance.random() < 0.1:
            page.identity = chance.choice(IDENTITIES)
        data = page.request(chance.choice(METHODS), f"sip:{AOR}", fields)
        if chance.random() < 0.1:
            at = chance.randrange(len(data))
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        try:
            page.push(data)
        except MalformedMessage:
            assert _is_malformed(data)  # of the parser: the connection would be cut


def _is_malformed(data: bytes) -> bool:
    try:
        parse(data)
    except MalformedMessage:
        return True
    return False


def one(seed: int) -> None:
    chance = random.Random(seed)
    region = Region(contacts=3, clients=4, registration_s=600)
    pages = [region.page() for _ in range(4)]
    for _ in range(STEPS):
        step(chance, region, pages)
        registrar = region.calls.registrar
        bound = [each for devices in registrar._devices.values() for each in devices.values()]
        assert sum(registrar.figures().values()) == len(bound) <= 4
        assert set(registrar._at) == {each.hop.link for each in bound}
        assert all(len(devices) in (1, 2, 3) for devices in registrar._devices.values())
        assert {each.identity for each in bound} <= {"alice", "bob"}
        assert all(each.until <= each.client.until for each in bound)
        assert all(region.calls.clients.of(each.hop) is not None for each in bound)
    for link in list(region.pages):
        hop = region.pages[link].hop._replace(link=link)
        region.relay.transport_failed(hop, region.now)
    region.run(40.0)
    assert not registrar._devices and not registrar._at and not len(region.calls.clients)
    assert not region.calls.clients._tries and len(region.relay._layer) == 0
    assert not region.bugs


def test_registers_that_say_anything() -> None:
    seed, until = SEED, time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            one(seed)
        except BaseException:
            print(f"RELAY_FUZZ_SEED={seed}")
            raise
        seed += 1
