"""Whole calls in virtual time between three peers that say anything, on a bad network.

Any request at any moment, any answer to ours, Contacts and routes that lead anywhere, datagrams
that are lost, doubled and late: no exception, nothing sent out of the region, nothing of a call
left behind. Bounded by RELAY_FUZZ_SECONDS (default 5 s); a failure prints its seed.
"""

from __future__ import annotations

import heapq
import ipaddress
import os
import random
import time
from functools import partial

from relay.errors import MalformedMessage
from relay.sip.dialog import Dialog
from relay.sip.message import Message, Request
from relay.sip.transaction import Hop
from tests.scenario.world import CARRIER, NUMBER, PBX, RELAY, Phone, World, sdp

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
REGION = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
SECOND, OUTSIDE = "192.0.2.4", "203.0.113.7"
STEPS = 60

CONTACTS = (
    f"<sip:x@{OUTSIDE}>", "<sip:pbx.example>", "<sip:out.example>", "<sip:self.example>",
    f"<sip:{RELAY}:5060>", "<tel:+1>", "<sip:127.0.0.1>", "<sip:0.0.0.0>", "*", "",
    "<sip:nowhere.invalid;transport=tcp>", f"<sips:a@{PBX}>", f"<sip:{PBX};maddr={OUTSIDE}>",
    f"<sip:{PBX};transport=ws>", "<sip:[2001:db8::9]>", f"<sip:{PBX}:0>", f"<sip:{PBX}:99999>",
)  # fmt: skip
REFERRED_TO = (
    *(f"<sip:{NUMBER}@{RELAY}>",) * 6, "<tel:+35315550177>", f"<sip:{NUMBER}@{RELAY}?Replaces=a>",
    f"<sip:+3531%0d%0aX:1@{RELAY}>", f"<sip:x@{OUTSIDE}>", "junk", f"<sips:{NUMBER}@{RELAY}>",
    f"<sip:{NUMBER}@{RELAY}?Route=%3Csip:{OUTSIDE}%3E>", f"<sip:{NUMBER}@{RELAY};method=BYE>",
)  # fmt: skip
NUMBERS = (*(NUMBER,) * 8, "+3531%0d%0aX:y", "112", "+353;x=y", "+3531?a", "", 'a"b')
METHODS = (
    *("INVITE", "UPDATE", "REFER") * 3, "INFO", "PRACK", "BYE", "ACK", "NOTIFY", "OPTIONS",
    "MESSAGE", "FOO",
)  # fmt: skip
REFUSALS = (
    300, 301, 302, 302, 302, 305, 400, 401, 403, 404, 407, 408, 415, 420, 422, 480, 481, 482, 486,
    487, 488, 491, 500, 503, 504, 600, 603,
)  # fmt: skip
FIELDS = {
    "Session-Expires": ("0", "90", "90;refresher=uac", "4294967295", "99999999999", "x", "120, 90"),
    "Min-SE": ("0", "90", "2147483647", "abc"),
    "Supported": ("timer", "100rel", "timer, 100rel", ""),
    "Require": ("100rel", "timer", "foo"),
    "Record-Route": (
        f"<sip:{OUTSIDE};lr>", f"<sip:{PBX};lr>", f"<sip:{CARRIER}>", "<tel:1>",
        "<sip:out.example;lr>", f"<sip:{RELAY};lr>", f"<sip:{PBX};lr>, <sip:{OUTSIDE};lr>",
    ),
    "RSeq": ("1", "0", "2", "4294967295", "4294967296", "x"),
    "RAck": ("1 1 INVITE", "2 1 INVITE", "1073741824 1 INVITE", "x"),
    "Allow": ("INVITE, UPDATE", "INVITE"),
    "Reason": ("Q.850;cause=16", 'SIP;cause=200;text="x"', "x"),
    "Retry-After": ("5", "x"),
    "Warning": ('399 h "t"', "x"),
    "Referred-By": ("<sip:+353155512@x>", "x"),
    "Refer-Sub": ("false", "true"),
    "P-Asserted-Identity": ("<sip:+3531%0d%0aX:1@x>", "<tel:+35315550199>", "junk"),
    "Privacy": ("id", "user;id", "none"),
    "Diversion": ("<sip:a@b>;reason=x", "x"),
    "History-Info": ("<sip:+3531@x?Reason=a%0d%0aX:1>;index=1", "x"),
    "WWW-Authenticate": ('Digest realm="x", nonce="y", qop="auth"', "Basic realm=x"),
    "Content-Type": ("application/sdp", "text/plain"),
}  # fmt: skip
WAITS_S = (0.0, 0.005, 0.02, 0.1, 0.5, 3.0, 20.0, 100.0)


class Chaos:
    """Three trunks' phones, the relay between them, and one source of chance."""

    def __init__(self, seed: int) -> None:
        self.random = rnd = random.Random(seed)
        self.world = world = World(
            loss=rnd.choice((0.0, 0.05, 0.2)),
            seed=seed,
            recording=rnd.choice(("do-not-record", "record-from-answer", "record-from-ringing")),
            pbx=self._keys(),
            carrier=self._keys(),
        )
        world.chance = rnd.random()
        for name, host in (("pbx", PBX), ("out", OUTSIDE), ("self", RELAY)):
            world.names[f"{name}.example"] = (Hop("udp", host, 5060),)
        world.carrier_at(CARRIER, SECOND)
        world.router.trunks[SECOND] = world.router.trunks[CARRIER]
        self.odd = rnd.choice((0.02, 0.3))  # how often a field is strange
        self.pending: list[tuple[Phone, object, Request]] = []
        for phone in world.phones.values():
            phone.acknowledge = rnd.random() < 0.9
            phone.on_request = partial(self.answer, phone)
        self._send, world.send = world.send, self.send  # type: ignore[method-assign]

    def _keys(self) -> dict[str, object]:
        choice = self.random.choice
        return {
            "transfer": choice(("enable-all", "enable-all", "sip-only", "disable-all")),
            "prack": choice(("off", "supported", "required")),
            "session_expires_s": choice((0, 90, 1800)),
            "trusted": choice((True, False)),
        }

    def send(self, source: str, data: bytes, hop: Hop) -> None:
        """Some datagrams arrive twice, or seconds later once more."""
        self._send(source, data, hop)
        if self.random.random() < 0.1:
            self._send(source, data, hop)
        if self.random.random() < 0.05:
            world, when = self.world, self.world.now + 5 * self.random.random()
            heapq.heappush(world._flying, (when, next(world._order), hop.host, data, source))

    # --- what is in a message

    def contact(self, phone: Phone) -> str:
        strange = self.random.random() < self.odd / 2
        return self.random.choice(CONTACTS) if strange else f"<sip:{phone.host}:5060>"

    def body(self, phone: Phone) -> bytes:
        usual = sdp(phone.host, 4000 + 2 * self.random.randrange(1000))
        if self.random.random() > self.odd:
            return usual
        return self.random.choice(
            (
                b"", b"junk", b"v=0\r\n", sdp(phone.host, 0), sdp("0.0.0.0", 4000),
                sdp(OUTSIDE, 4000), sdp(phone.host, 4000, "9"), sdp(phone.host, 4000, "8 101"),
                sdp(phone.host, 4000, extra="a=sendonly"), usual.replace(b"o=", b"b="),
                usual.replace(b"RTP/AVP", b"RTP/SAVP"),
            )
        )  # fmt: skip

    def describe(self, message: Message, phone: Phone) -> None:
        body = self.body(phone)
        if body:
            message.body = body
            message.headers.set("Content-Type", "application/sdp")

    def embellish(self, message: Message) -> None:
        for name, values in FIELDS.items():
            if self.random.random() < self.odd / 8:
                message.headers.add(name, self.random.choice(values))

    # --- what a peer does

    def answer(self, phone: Phone, tx: object, request: Request) -> None:
        if request.method != "INVITE":
            statuses = (200,) * 8 + (100, 202, 302, 401, 405, 408, 481, 491, 500)
            self.respond(phone, tx, request, self.random.choice(statuses))
            return
        for _ in range(self.random.randrange(3)):
            self.respond(phone, tx, request, self.random.choice((100, 180, 183, 183, 199)))
        fate = self.random.random()
        if fate < 0.7:
            self.respond(phone, tx, request, 200)
        elif fate < 0.85:
            self.respond(phone, tx, request, self.random.choice(REFUSALS))
        else:
            self.pending.append((phone, tx, request))

    def respond(self, phone: Phone, tx: object, request: Request, status: int) -> None:
        response = request.response(status, to_tag=self.random.choice(("b1",) * 8 + ("b2", "b3")))
        contact = self.contact(phone)
        if 300 <= status < 400:
            contact = self.random.choice((contact, f"<sip:+353155501@{SECOND}>", f"<sip:{RELAY}>"))
        if contact:
            response.headers.add("Contact", contact)
        if request.method in ("INVITE", "UPDATE") and 100 < status < 300:
            self.describe(response, phone)
        if status == 183 and self.random.random() < 0.5:
            response.headers.add("Require", "100rel")
            response.headers.add("RSeq", str(self.random.choice((1, 2, 3, 7))))
        if status == 422:
            response.headers.add("Min-SE", str(self.random.choice((0, 90, 1900, 2**31 - 1))))
        self.embellish(response)
        phone.layer.respond(tx, response, self.world.now)
        if status == 200 and request.method == "INVITE":
            phone.dialog = Dialog.uas(request, response.to.tag or "", f"<sip:{phone.host}:5060>")

    def act(self) -> None:
        """One peer does something."""
        world = self.world
        phone = self.random.choice(list(world.phones.values()))
        fate = self.random.random()
        if fate < 0.2:
            self.call(phone)
        elif fate < 0.25 and phone.invite_tx is not None:
            phone.cancel()
        elif phone.dialog is not None:
            self.request(phone, phone.dialog, self.random.choice(METHODS))
        if self.pending and self.random.random() < 0.5:
            self.respond(*self.pending.pop(), self.random.choice((180, 200, 302, 486, 487)))

    def call(self, phone: Phone) -> None:
        phone.dialog = None
        supported = self.random.choice(("", "100rel", "timer", "100rel, timer"))
        fields = {name: self.random.choice(values) for name, values in FIELDS.items()}
        chosen = {n: v for n, v in fields.items() if self.random.random() < self.odd / 8}
        headers = {"Supported": supported, **chosen}
        headers.pop("Content-Type", None)
        phone.call(self.random.choice(NUMBERS), self.body(phone), **headers)

    def request(self, phone: Phone, dialog: Dialog, method: str) -> None:
        request = dialog.request(method)
        if contact := self.contact(phone):
            request.headers.set("Contact", contact)
        if self.random.random() < self.odd / 4:
            number = self.random.choice((0, 1, 2, 2**31 - 1))
            request.headers.set("CSeq", f"{number} {method}")
        if method in ("INVITE", "UPDATE", "ACK", "PRACK", "INFO"):
            self.describe(request, phone)
        elif method == "REFER":
            request.headers.add("Refer-To", self.random.choice(REFERRED_TO))
        self.embellish(request)
        if method == "ACK":
            hop = Hop("udp", RELAY, 5060)
            phone.layer.send(request, hop, f"{phone.host}:5060", self.world.now)
        else:
            phone.send(request)

    def run(self) -> None:
        world = self.world
        for _ in range(STEPS):
            try:
                self.act()
            except MalformedMessage:
                pass  # the phone cannot deal with what it sent itself
            world.run(self.random.choice(WAITS_S))
        world.calls.stopping = True
        world.run(6.0)  # what is under way arrives
        world.relay.stop(world.now)
        world.run(400.0)


def check(world: World) -> None:
    """Nothing went wrong, went out, or stayed."""
    assert not world.bugs, world.bugs
    for source, to, data in world.wire:
        if source == RELAY:
            assert any(ipaddress.ip_address(to) in network for network in REGION), (to, data)
            assert b"\r\nX:" not in data, data
    layer, calls = world.relay._layer, world.calls
    assert calls.idle and not calls.active and not calls.dialogs
    assert (len(layer), layer._live.room.taken, len(layer._live.merged)) == (0, 0, 0)
    assert world.media.open_count == 0 and not any(world.admission.live.values())
    started = sorted(spec.call_id for spec in world.recorder.started)
    assert started == sorted(world.recorder.stopped)
    assert all(entry[2].owner is None for entry in calls.alarms._heap)


def test_peers_that_say_anything_at_any_time_leave_nothing_behind() -> None:
    deadline = time.monotonic() + SECONDS
    events: set[str] = set()
    runs = 0
    while time.monotonic() < deadline or runs < 20:
        seed = SEED + runs
        chaos = Chaos(seed)
        try:
            chaos.run()
            check(chaos.world)
        except BaseException:
            print(f"RELAY_FUZZ_SEED={seed}")
            raise
        events.update(chaos.world.journal.names())
        runs += 1
    assert {"call_answered", "call_referred", "recording_started", "boundary_refused"} <= events
