"""A region in virtual time: the relay's user agent between two phones on a lossy network.

No sockets and no clock: `World.run_until` moves time from event to event. Media and the
recorder are fakes that note what they were told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

from relay.call.boundary import Boundary
from relay.call.calls import Calls
from relay.call.hunt import Target
from relay.call.numbers import NumberingPlan
from relay.call.ports import (
    LegMedia,
    MediaAddress,
    RecordingSpec,
    Side,
    StreamFigures,
)
from relay.call.user_agent import LookUp, UserAgent
from relay.config import Trunk
from relay.errors import NoMediaPorts, Refused
from relay.sdp.description import Fingerprint
from relay.sip import transaction as layer
from relay.sip.dialog import Dialog
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop, Timers, TransactionLayer
from relay.sip.uri import SipUri

RELAY, PBX, CARRIER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
NUMBER = "+35315550199"


def sdp(host: str, port: int, codecs: str = "0 8 101", extra: str = "") -> bytes:
    """A phone's description with PCMU, PCMA and telephone-event."""
    lines = [
        "v=0",
        f"o=phone 1 1 IN IP4 {host}",
        "s=-",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {codecs}",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
    ]
    return "\r\n".join([*lines, *filter(None, [extra]), ""]).encode()


class FakeCallMedia:
    """Ports without sockets; keeps every update."""

    def __init__(self, media: FakeMedia, call_id: str, base: int) -> None:
        self._media = media
        self.call_id = call_id
        self._base = base
        self.updates: dict[Side, list[LegMedia]] = {side: [] for side in Side}
        self.recording = self.closed = False

    def local(self, side: Side) -> MediaAddress:
        port = self._base + 2 * side.value
        return MediaAddress(RELAY, port, port + 1)

    def check(self, side: Side, remote: MediaAddress) -> None:
        """Every address will do."""

    def update(self, side: Side, leg: LegMedia) -> None:
        self.updates[side].append(leg)

    def figures(self, side: Side) -> StreamFigures:
        return StreamFigures(packets=50, octets=8600, relayed=50, relayed_on_tap=40 + side.value)

    def record(self, on: bool) -> int:
        self.recording = on
        return self._base

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._media.open_count -= 1


class FakeMedia:
    """A port pool of `size` calls."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.fingerprint = Fingerprint("sha-256", bytes(range(32)))
        self.transcodes = True
        self.open_count = 0
        self.calls: list[FakeCallMedia] = []
        self.families: list[tuple[bool, bool]] = []

    def open(self, call_id: str, caller_ipv6: bool, callee_ipv6: bool) -> FakeCallMedia:
        self.families.append((caller_ipv6, callee_ipv6))
        if self.open_count >= self.size:
            raise NoMediaPorts("all media ports are in use")
        self.open_count += 1
        self.calls.append(FakeCallMedia(self, call_id, 30000 + 4 * len(self.calls)))
        return self.calls[-1]


class FakeRecorder:
    def __init__(self) -> None:
        self.started: list[RecordingSpec] = []
        self.stopped: list[str] = []
        self.relayed: list[dict[Side, int]] = []

    def start(self, spec: RecordingSpec) -> None:
        self.started.append(spec)

    def stop(self, call_id: str, relayed: dict[Side, int]) -> None:
        self.stopped.append(call_id)
        self.relayed.append(relayed)


class Journal:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, object]]] = []

    def event(self, name: str, call: str, **fields: object) -> None:
        self.events.append((name, call, fields))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.events]

    def last(self, name: str) -> dict[str, object]:
        return next(fields for event, _, fields in reversed(self.events) if event == name)


class FakeRouter:
    """Two trunks by address; every number goes to the other one."""

    def __init__(
        self,
        recording: str = "do-not-record",
        pbx: dict[str, Any] | None = None,
        carrier: dict[str, Any] | None = None,
    ) -> None:
        self.recording = recording
        self.trunks = {
            PBX: Trunk(name="acme", **(pbx or {})),
            CARRIER: Trunk(name="carrier", **(carrier or {})),
        }
        self._configured = tuple(self.trunks.values())  # a test may take addresses away
        self.targets = {"acme": [f"sip:{PBX}:5060"], "carrier": [f"sip:{CARRIER}:5060"]}

    def identify(self, host: str, names: frozenset[str] = frozenset()) -> Trunk | None:
        return self.trunks.get(host)

    at = identify

    def peer(self, name: str) -> Trunk:
        trunks = (*self.trunks.values(), *self._configured)
        return next(trunk for trunk in trunks if trunk.name == name)

    def plan(self, name: str) -> NumberingPlan:
        return NumberingPlan(self.peer(name))

    def route(self, trunk: Trunk, number: str) -> tuple[object, list[Target]]:
        if not number.startswith("+"):
            raise Refused(404, "no route to this number")
        to = "carrier" if trunk.name == "acme" else "acme"
        found = [Target(SipUri.parse(uri).replace(user=number), uri) for uri in self.targets[to]]
        return SimpleNamespace(to=to), found

    def recording_mode(self, caller: str, callee: str) -> str:
        return self.recording


class FakeAdmission:
    def __init__(self) -> None:
        self.live: dict[str, int] = {}

        self.limit: tuple[float, str] | None = None

    def admit(self, names: tuple[str, ...], now: float) -> None:
        for name in names:
            self.live[name] = self.live.get(name, 0) + 1

    def release(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.live[name] -= 1

    def longest(self, names: tuple[str, ...]) -> tuple[float, str] | None:
        return self.limit


class World:
    """Time, the network, the relay, and two phones."""

    def __init__(
        self,
        loss: float = 0.0,
        seed: int = 1,
        recording: str = "do-not-record",
        ports: int = 100,
        pbx: dict[str, Any] | None = None,
        carrier: dict[str, Any] | None = None,
        pass_headers: tuple[str, ...] = (),
        min_session_expires_s: int = 90,
    ) -> None:
        """`pbx` and `carrier` are more keys of their trunks."""
        self.now = 1000.0
        self._random = Random(seed)
        self._loss = loss
        self._order = count()
        self._flying: list[tuple[float, int, str, bytes, str]] = []
        self.drop: Callable[[str, str, bytes], bool] = lambda source, to, data: False
        self.unsendable: Callable[[bytes], bool] = lambda data: False
        self.bugs: list[Exception] = []
        self.chance = 0.5
        self.media = FakeMedia(ports)
        self.recorder = FakeRecorder()
        self.journal = Journal()
        self.router = FakeRouter(recording, pbx, carrier)
        self.admission = FakeAdmission()
        tokens = count(1)
        self.calls = Calls(
            self.router,
            self.admission,
            self.media,
            self.recorder,
            self.journal,
            token=lambda: f"{next(tokens):016x}",
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            boundary=Boundary([ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]),
            timers=Timers(),
            pass_headers=pass_headers,
            min_session_expires_s=min_session_expires_s,
            chance=lambda: self.chance,
        )
        self.relay = UserAgent(self.calls, self, self.bugs.append)
        self.pbx = Phone(self, PBX)
        self.carrier = Phone(self, CARRIER)
        self.phones = {PBX: self.pbx, CARRIER: self.carrier}
        self.names: dict[str, tuple[Hop, ...]] = {}  # what a look-up finds
        self.slow: list[LookUp] | None = None  # a list: they wait in it until `find_names`
        self.wire: list[tuple[str, str, bytes]] = []

    # Addresses of the relay
    def sent_by(self, transport: str, peer: str, link: int) -> str:
        return f"{RELAY}:5060"

    def peer_names(self, hop: Hop) -> frozenset[str]:
        return frozenset()

    def is_open(self, hop: Hop) -> bool:
        return False

    def move(self, old: Hop, new: Hop) -> None:
        """Nobody reconnects here."""

    def trust(self, hop: Hop) -> None:
        pass

    def carrier_at(self, *hosts: str) -> list[Phone]:
        """The carrier takes calls at these addresses, in this order; returns their phones."""
        self.router.targets["carrier"] = [f"sip:{host}:5060" for host in hosts]
        for host in hosts:
            self.phones.setdefault(host, Phone(self, host))
        return [self.phones[host] for host in hosts]

    def send(self, source: str, data: bytes, hop: Hop) -> None:
        """Put a datagram on the network: 10 ms, unless it is lost."""
        self.wire.append((source, hop.host, data))
        if self.drop(source, hop.host, data) or self._random.random() < self._loss:
            return
        delay = 0.01 + (self._random.random() * 0.02 if self._loss else 0.0)
        heapq.heappush(self._flying, (self.now + delay, next(self._order), hop.host, data, source))

    def settle(self) -> None:
        while outputs := self.relay.drain():
            for output in outputs:
                if isinstance(output, LookUp):
                    self._look_up(output)
                elif self.unsendable(output.data):
                    self.relay.not_sent(output, self.now)
                else:
                    self.send(RELAY, output.data, output.hop)
        for phone in self.phones.values():
            phone.settle()

    def _look_up(self, lookup: LookUp) -> None:
        if self.slow is not None:
            self.slow.append(lookup)
        else:
            self.relay.looked_up(lookup, self.names.get(lookup.target.host, ()), self.now)

    def find_names(self) -> None:
        """DNS answers what has waited."""
        waiting, self.slow = self.slow or [], None
        for lookup in waiting:
            self._look_up(lookup)
        self.settle()

    def run_until(self, done: Callable[[], bool], limit_s: float = 100.0) -> None:
        """Move time on until `done()`; fails when it is not by `limit_s` from now."""
        deadline = self.now + limit_s
        self.settle()
        while not done():
            due = self._next()
            assert due is not None and due <= deadline, "it never happened"
            self.now = max(self.now, due)
            self._step()

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self.now + seconds
        self.settle()
        while (due := self._next()) is not None and due <= end:
            self.now = max(self.now, due)
            self._step()
        self.now = end

    def _next(self) -> float | None:
        times = [
            self._flying[0][0] if self._flying else None,
            self.relay.next_timer(),
            *(phone.next_timer() for phone in self.phones.values()),
        ]
        return min((when for when in times if when is not None), default=None)

    def _step(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, to, data, source = heapq.heappop(self._flying)
            hop = Hop("udp", source, 5060)
            if to == RELAY:
                self.relay.receive(parse(data), hop, self.now)
            elif to in self.phones:
                self.phones[to].layer.receive(parse(data), hop, self.now)
            self.settle()
        self.relay.on_timer(self.now)
        for phone in self.phones.values():
            phone.on_timer(self.now)
        self.settle()


class Phone:
    """A SIP phone on our own transaction layer: tests script it by `on_invite` and verbs."""

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.layer = TransactionLayer(Timers(), supported=frozenset(("100rel", "timer")))
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.acks: list[Request] = []
        self.cancelled: list[Request] = []
        self.timed_out = 0
        self.dialog: Dialog | None = None
        self.invite_tx: object = None
        self.on_request: Callable[[object, Request], None] = self.answer_all
        self.acknowledge = True
        self.headers: dict[str, str] = {}  # of each response that is no failure
        self._repeat: list[tuple[float, float, object, Response]] = []
        self._tags = count(1)

    def settle(self) -> None:
        while outputs := self.layer.drain():
            for output in outputs:
                self._one(output)

    def _one(self, output: object) -> None:
        if isinstance(output, layer.Send):
            self.world.send(self.host, output.data, output.hop)
        elif isinstance(output, layer.RequestReceived):
            self.requests.append(output.request)
            self.on_request(output.tx, output.request)
        elif isinstance(output, layer.ResponseReceived):
            self.responses.append(output.response)
            self._response(output.response)
        elif isinstance(output, layer.AckReceived):
            self.acks.append(output.request)
        elif isinstance(output, layer.CancelReceived):
            self.cancelled.append(output.request)
            self.reply(output.invite_tx, output.invite_tx.request, 487)
        elif isinstance(output, layer.TimedOut):
            self.timed_out += 1

    def next_timer(self) -> float | None:
        times = [self.layer.next_timer(), *(when for when, *_ in self._repeat)]
        return min((when for when in times if when is not None), default=None)

    def on_timer(self, now: float) -> None:
        self.layer.on_timer(now)
        due = [entry for entry in self._repeat if entry[0] <= now]
        self._repeat = [entry for entry in self._repeat if entry[0] > now]
        for _, gap, tx, response in due:
            if gap < 16 and not any(ack.to.tag == response.to.tag for ack in self.acks):
                self.layer.respond(tx, response, now)
                self._repeat.append((now + 2 * gap, 2 * gap, tx, response))

    # --- as caller

    def call(self, number: str = NUMBER, body: bytes | None = None, **headers: str) -> Request:
        invite = Request(
            "INVITE",
            f"sip:{number}@{RELAY}",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f'"Ann" <sip:+35315550100@{self.host}>;tag=a{next(self._tags)}'),
                    ("To", f"<sip:{number}@{RELAY}>"),
                    ("Call-ID", f"call-{next(self._tags)}@{self.host}"),
                    ("CSeq", "1 INVITE"),
                    ("Contact", f"<sip:{self.host}:5060>"),
                    *((name.replace("_", "-"), value) for name, value in headers.items()),
                ]
            ),
            sdp(self.host, 4000) if body is None else body,
        )
        if invite.body and "Content-Type" not in invite.headers:
            invite.headers.add("Content-Type", "application/sdp")
        self.invite = invite
        self.invite_tx = self.send(invite)
        return invite

    def send(self, request: Request, to: str = RELAY) -> object:
        tx = self.layer.request(request, Hop("udp", to, 5060), f"{self.host}:5060", self.world.now)
        self.world.settle()
        return tx

    def cancel(self) -> None:
        self.layer.cancel(self.invite_tx, self.world.now)
        self.world.settle()

    def _response(self, response: Response) -> None:
        if response.cseq.method == "INVITE" and 200 <= response.status < 300:
            if self.dialog is None:
                self.dialog = Dialog.uac(self.invite, response)
            if self.acknowledge:
                self.send_ack(response)

    def send_ack(self, response: Response, body: bytes = b"") -> None:
        assert self.dialog is not None
        ack = self.dialog.ack(response.cseq.number)
        ack.body = body
        if body:
            ack.headers.add("Content-Type", "application/sdp")
        self.layer.send(ack, Hop("udp", RELAY, 5060), f"{self.host}:5060", self.world.now)

    # --- as callee

    def answer_all(self, tx: object, request: Request) -> None:
        """180 and 200 to INVITE, 200 to everything else, with an answer to an offer."""
        if request.method == "INVITE":
            self.ring(tx, request)
            self.answer(tx, request)
        elif request.method == "UPDATE" and request.body:
            self.reply(tx, request, 200, body=sdp(self.host, 5000))
        else:
            self.reply(tx, request, 200)

    def ring(self, tx: object, request: Request, tag: str = "b1", body: bytes = b"") -> None:
        self.reply(tx, request, 183 if body else 180, tag, body)

    def answer(self, tx: object, request: Request, tag: str = "b1", body: bytes | None = None):
        answer = sdp(self.host, 5000) if body is None else body
        response = self.reply(tx, request, 200, tag, answer)
        self._repeat.append((self.world.now + 0.5, 0.5, tx, response))
        if self.dialog is None:
            self.dialog = Dialog.uas(request, tag, f"<sip:{self.host}:5060>")
        return response

    def reply(
        self, tx: object, request: Request, status: int, tag: str = "b1", body: bytes = b""
    ) -> Response:
        response = request.response(status, to_tag=tag)
        response.headers.add("Contact", f"<sip:{self.host}:5060>")
        for name, value in self.headers.items():
            response.headers.add(name, value)
        if body:
            response.headers.add("Content-Type", "application/sdp")
            response.body = body
        self.layer.respond(tx, response, self.world.now)
        return response

    # --- in the dialog

    def bye(self) -> None:
        assert self.dialog is not None
        self.send(self.dialog.request("BYE"))

    def in_dialog(self, method: str, body: bytes = b"") -> Request:
        assert self.dialog is not None
        request = self.dialog.request(method, contact=f"<sip:{self.host}:5060>")
        request.body = body
        if body:
            kind = "sdp" if body.startswith(b"v=") else "dtmf-relay"
            request.headers.add("Content-Type", f"application/{kind}")
        self.invite = request
        self.send(request)
        return request

    def statuses(self, method: str = "INVITE") -> list[int]:
        return [r.status for r in self.responses if r.cseq.method == method and r.status > 100]

    def got(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]
