"""A region in virtual time: the relay's user agent between two phones on a lossy network.

No sockets and no clock: `World.run_until` moves time from event to event. Media and the
recorder are fakes that note what they were told.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

from pydantic import SecretStr

from relay.call.calls import Calls
from relay.call.clients import Client
from relay.call.hunt import Target
from relay.call.numbers import NumberingPlan
from relay.call.ports import (
    LegMedia,
    MediaAddress,
    RecordingSpec,
    Side,
    StreamFigures,
)
from relay.call.record import Place
from relay.call.recording import OFF, RecordingPolicy, policy_of
from relay.call.token_check import TokenCheck
from relay.call.tokens import Tokens
from relay.call.user_agent import LookUp, UserAgent
from relay.config import Account, TokenKey, Trunk
from relay.errors import NoMediaPorts, Refused
from relay.residency.boundary import Boundary
from relay.residency.record import CallRecord
from relay.sdp.description import Fingerprint, IceCredentials
from relay.sip import transaction as layer
from relay.sip.dialog import Dialog
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop, Timers, TransactionLayer
from relay.sip.uri import SipUri

RELAY, PBX, CARRIER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
DEVICES = "192.0.2.50"  # all of them are behind one NAT
SERVER = Hop("wss", RELAY, 5443)
NUMBER = "+35315550199"
CLIENT_NUMBER = "+35315550111"  # of Alice, a voice client


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


def webrtc(setup: str, ufrag: str = "aB3+", codecs: str = "0 8 101") -> bytes:
    """A browser's description with the same codecs; `setup` is "actpass" in an offer."""
    extra = (
        "a=rtcp-mux",
        "a=mid:0",
        f"a=setup:{setup}",
        f"a=ice-ufrag:{ufrag}",
        "a=ice-pwd:oneOfTwentyFourLetters/+",
        f"a=fingerprint:sha-256 {bytes(range(0x40, 0x60)).hex(':').upper()}",
    )
    body = sdp("0.0.0.0", 9, codecs, "\r\n".join(extra))
    body = body.replace(b"t=0 0\r\n", b"t=0 0\r\na=group:BUNDLE 0\r\n")
    return body.replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF")


class FakeCallMedia:
    """Ports without sockets; keeps every update."""

    def __init__(self, media: FakeMedia, call_id: str, base: int) -> None:
        self._media = media
        self.call_id = call_id
        self._base = base
        self.updates: dict[Side, list[LegMedia]] = {side: [] for side in Side}
        self.offers: dict[Side, list[IceCredentials]] = {side: [] for side in Side}
        self.recording = self.closed = False

    def local(self, side: Side) -> MediaAddress:
        port = self._base + 2 * side.value
        return MediaAddress(RELAY, port, port + 1)

    def check(self, side: Side, remote: MediaAddress) -> None:
        """Every address will do."""

    def offer(self, side: Side, ours: IceCredentials) -> None:
        self.offers[side].append(ours)

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
        self.problem = ""
        self.relayed: list[dict[Side, int]] = []

    def obstacle(self, customer_keys: Sequence[str]) -> str:
        return self.problem

    def start(self, spec: RecordingSpec) -> None:
        self.started.append(spec)

    def stop(self, call_id: str, relayed: dict[Side, int]) -> None:
        self.stopped.append(call_id)
        self.relayed.append(relayed)


class FakeRecords:
    def __init__(self) -> None:
        self.kept: list[CallRecord] = []
        self.full = False

    def keep(self, record: CallRecord) -> None:
        self.kept.append(record)


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
    """Two trunks by address; every number goes to the other one, every name to a voice
    client, and so does the number of `clients`."""

    def __init__(
        self,
        recording: str = "do-not-record",
        pbx: dict[str, Any] | None = None,
        carrier: dict[str, Any] | None = None,
        account: dict[str, Any] | None = None,
    ) -> None:
        self._mode = recording
        self.trunks = {
            PBX: Trunk(name="acme", **(pbx or {})),
            CARRIER: Trunk(name="carrier", **(carrier or {})),
        }
        self._configured = tuple(self.trunks.values())  # a test may take addresses away
        key = TokenKey(id="k1", secret=SecretStr("0123456789abcdef" * 2))
        self.account = Account(name="app", keys=(key,), **(account or {}))
        self.clients = {CLIENT_NUMBER: "alice", "alice": "alice", "bob": "bob"}
        self.targets = {"acme": [f"sip:{PBX}:5060"], "carrier": [f"sip:{CARRIER}:5060"]}

    def identify(self, host: str, names: frozenset[str] = frozenset()) -> Trunk | None:
        return self.trunks.get(host)

    at = identify

    def peer(self, name: str) -> Trunk | Account:
        peers = (*self.trunks.values(), *self._configured, self.account)
        return next(peer for peer in peers if peer.name == name)

    def plan(self, name: str) -> NumberingPlan:
        return NumberingPlan(self.peer(name))

    def route(self, trunk: Trunk | Account, number: str) -> tuple[object, list[Target]]:
        if (identity := self.clients.get(number)) is not None:
            return SimpleNamespace(to="app"), [Target(SipUri("sip", identity, None, "app"))]
        if not number.startswith("+"):
            raise Refused(404, "no route to this number")
        to = "acme" if trunk.name == "carrier" else "carrier"
        found = [Target(SipUri.parse(uri).replace(user=number), uri) for uri in self.targets[to]]
        return SimpleNamespace(to=to), found

    def recording(self, caller: str, callee: str) -> RecordingPolicy:
        policy = policy_of(self.peer(caller), self.peer(callee))
        return policy if self._mode == OFF else replace(policy, mode=self._mode)


def tokens_of(region: str, account: Account) -> Tokens:
    """Devices need none: their connections are proved when they are made."""
    return Tokens(region, (account,), {}, lambda: datetime(2026, 1, 1, tzinfo=UTC))


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
        account: dict[str, Any] | None = None,
        enforce: bool = True,
    ) -> None:
        """`pbx`, `carrier` and `account` are more keys of theirs; `enforce` is the region's."""
        self.now = 1000.0
        self._random = Random(seed)
        self._loss = loss
        self._order = count()
        self._flying: list[tuple[float, int, str | int, bytes, str | Hop]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.drop: Callable[[str, str, bytes], bool] = lambda source, to, data: False
        self.unsendable: Callable[[bytes], bool] = lambda data: False
        self.bugs: list[Exception] = []
        self.chance = 0.5
        self.media = FakeMedia(ports)
        self.recorder = FakeRecorder()
        self.records = FakeRecords()
        self.journal = Journal()
        self.router = FakeRouter(recording, pbx, carrier, account)
        self.admission = FakeAdmission()
        tokens = count(1)
        self.calls = Calls(
            self.router,
            self.admission,
            self.media,
            self.recorder,
            self.records,
            self.journal,
            token=lambda: f"{next(tokens):016x}",
            wall_clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            boundary=Boundary([ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")], enforce),
            place=Place("t1", "n1", "p1"),
            timers=Timers(),
            pass_headers=pass_headers,
            min_session_expires_s=min_session_expires_s,
            chance=lambda: self.chance,
            token_check=TokenCheck(tokens_of("t1", self.router.account), "t1", b"secret"),
        )
        self.relay = UserAgent(self.calls, self, self.bugs.append)
        self.pbx = Phone(self, PBX)
        self.carrier = Phone(self, CARRIER)
        self.phones = {PBX: self.pbx, CARRIER: self.carrier}
        self.devices: list[Device] = []
        self.names: dict[str, tuple[Hop, ...]] = {}  # what a look-up finds
        self.slow: list[LookUp] | None = None  # a list: they wait in it until `find_names`
        self.wire: list[tuple[str, str, bytes]] = []
        self.links: dict[int, Device] = {}  # WebSocket connections that stand
        self._links = count(1)
        self._waiting: dict[int, list[bytes]] = {}  # for connections that may come back
        self._moved: dict[int, int] = {}

    # Addresses of the relay
    def sent_by(self, transport: str, peer: str, link: int) -> str:
        return f"{RELAY}:5060"

    def peer_names(self, hop: Hop) -> frozenset[str]:
        return frozenset()

    def is_open(self, hop: Hop) -> bool:
        link = self._link(hop)
        return link in self.links or link in self._waiting

    def move(self, old: Hop, new: Hop) -> None:
        self._moved[old.link] = new.link
        for data in self._waiting.pop(old.link, ()):
            self.send(RELAY, data, new)

    def _link(self, hop: Hop) -> int:
        link = hop.link
        while link in self._moved:
            link = self._moved[link]
        return link

    def trust(self, hop: Hop) -> None:
        pass

    def carrier_at(self, *hosts: str) -> list[Phone]:
        """The carrier takes calls at these addresses, in this order; returns their phones."""
        self.router.targets["carrier"] = [f"sip:{host}:5060" for host in hosts]
        for host in hosts:
            self.phones.setdefault(host, Phone(self, host))
        return [self.phones[host] for host in hosts]

    def device(self, identity: str, **rights: Any) -> Device:
        """A registered device of a voice client."""
        found = Device(self, identity, **rights)
        found.register()
        self.run(0.05)
        assert [response.status for response in found.registered] == [200]
        return found

    def connect(self, device: Device) -> Hop:
        """A new WebSocket connection, on which the device's token is known."""
        hop = Hop("wss", DEVICES, 40000, next(self._links))
        self.links[hop.link] = device
        self.calls.clients.prove(hop, device.client)
        return hop

    def lose(self, hop: Hop) -> None:
        """A connection is gone, and what is under way on it; the relay waits for another."""
        del self.links[hop.link]
        kept_s = self.calls.keeps(hop)
        self._waiting[hop.link] = []
        self.at(self.now + kept_s, lambda: self._give_up(hop))

    def _give_up(self, hop: Hop) -> None:
        if self._waiting.pop(hop.link, None) is not None:
            former = [
                link for link in self._moved if self._link(hop._replace(link=link)) == hop.link
            ]
            for link in (*former, hop.link):  # what began on an earlier one fails, too
                self.relay.transport_failed(hop._replace(link=link), self.now)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do `action` at that time."""
        heapq.heappush(self._due, (when, next(self._order), action))

    def _over_link(self, data: bytes, hop: Hop) -> None:
        link = self._link(hop)
        if link in self.links:
            self.wire.append((RELAY, hop.host, data))
            heapq.heappush(self._flying, (self.now + 0.01, next(self._order), link, data, RELAY))
        elif link in self._waiting:
            self._waiting[link].append(data)
        else:
            self.relay.transport_failed(hop, self.now)

    def to_relay(self, data: bytes, hop: Hop) -> None:
        """A frame of a device, on its connection."""
        self.wire.append((hop.host, RELAY, data))
        heapq.heappush(self._flying, (self.now + 0.01, next(self._order), RELAY, data, hop))

    def send(self, source: str, data: bytes, hop: Hop) -> None:
        """Put a datagram on the network: 10 ms, unless it is lost."""
        if hop.is_websocket:
            self._over_link(data, hop)
            return
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
        for phone in self._phones():
            phone.settle()

    def _phones(self) -> list[Phone]:
        return [*self.phones.values(), *self.devices]

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
            self._due[0][0] if self._due else None,
            *(phone.next_timer() for phone in self._phones()),
        ]
        return min((when for when in times if when is not None), default=None)

    def _step(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            _, _, to, data, source = heapq.heappop(self._flying)
            hop = source if isinstance(source, Hop) else Hop("udp", source, 5060)
            if to == RELAY:
                self.relay.receive(parse(data), hop, self.now)
            elif isinstance(to, int):
                if to in self.links:
                    self.links[to].layer.receive(parse(data), SERVER, self.now)
            elif to in self.phones:
                self.phones[to].layer.receive(parse(data), hop, self.now)
            self.settle()
        while self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()
            self.settle()
        self.relay.on_timer(self.now)
        for phone in self._phones():
            phone.on_timer(self.now)
        self.settle()


class Phone:
    """A SIP phone on our own transaction layer: tests script it by `on_invite` and verbs."""

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.contact = f"<sip:{host}:5060>"
        self.relay = Hop("udp", RELAY, 5060)
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

    def describe(self, port: int, offer: bool = False) -> bytes:
        """Its description of its media."""
        return sdp(self.host, port)

    def settle(self) -> None:
        while outputs := self.layer.drain():
            for output in outputs:
                self._one(output)

    def _one(self, output: object) -> None:
        if isinstance(output, layer.Send):
            self.transmit(output)
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

    def transmit(self, output: layer.Send) -> None:
        self.world.send(self.host, output.data, output.hop)

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

    def call(
        self, number: str = NUMBER, body: bytes | None = None, params: str = "", **headers: str
    ) -> Request:
        invite = Request(
            "INVITE",
            f"sip:{number}@{RELAY}{params}",
            Headers(
                [
                    ("Max-Forwards", "70"),
                    ("From", f'"Ann" <sip:+35315550100@{self.host}>;tag=a{next(self._tags)}'),
                    ("To", f"<sip:{number}@{RELAY}>"),
                    ("Call-ID", f"call-{next(self._tags)}@{self.host}"),
                    ("CSeq", "1 INVITE"),
                    ("Contact", self.contact),
                    *((name.replace("_", "-"), value) for name, value in headers.items()),
                ]
            ),
            self.describe(4000, offer=True) if body is None else body,
        )
        if invite.body and "Content-Type" not in invite.headers:
            invite.headers.add("Content-Type", "application/sdp")
        self.invite = invite
        self.invite_tx = self.send(invite)
        return invite

    def send(self, request: Request, to: str = RELAY) -> object:
        hop = self.relay if to == RELAY else Hop("udp", to, 5060)
        tx = self.layer.request(request, hop, f"{self.host}:5060", self.world.now)
        self.world.settle()
        return tx

    def cancel(self, reason: str = "") -> None:
        self.layer.cancel(self.invite_tx, self.world.now, reason)
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
        self.layer.send(ack, self.relay, f"{self.host}:5060", self.world.now)

    # --- as callee

    def answer_all(self, tx: object, request: Request) -> None:
        """180 and 200 to INVITE, 200 to everything else, with an answer to an offer."""
        if request.method == "INVITE":
            self.ring(tx, request)
            self.answer(tx, request)
        elif request.method == "UPDATE" and request.body:
            self.reply(tx, request, 200, body=self.describe(5000))
        else:
            self.reply(tx, request, 200)

    def ring(self, tx: object, request: Request, tag: str = "b1", body: bytes = b"") -> None:
        self.reply(tx, request, 183 if body else 180, tag, body)

    def answer(self, tx: object, request: Request, tag: str = "b1", body: bytes | None = None):
        offer = not request.body
        answer = self.describe(5000, offer) if body is None else body
        response = self.reply(tx, request, 200, tag, answer)
        self._repeat.append((self.world.now + 0.5, 0.5, tx, response))
        if self.dialog is None:
            self.dialog = Dialog.uas(request, tag, self.contact)
        return response

    def reply(
        self, tx: object, request: Request, status: int, tag: str = "b1", body: bytes = b""
    ) -> Response:
        response = request.response(status, to_tag=tag)
        response.headers.add("Contact", self.contact)
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
        request = self.dialog.request(method, contact=self.contact)
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


class Device(Phone):
    """A voice client's device, on a WebSocket connection that may drop and come back."""

    def __init__(self, world: World, identity: str, **rights: Any) -> None:
        super().__init__(world, DEVICES)
        self.number = len(world.devices) + 1
        self.instance = f"urn:uuid:{self.number}"
        world.devices.append(self)
        self.contact = f"<sip:{identity}{self.number}@{self.number}.invalid;transport=ws>"
        self.relay = SERVER
        said: dict[str, Any] = {
            "may_call_out": True,
            "may_be_called": True,
            "number": None,
            "token_id": "t",
            "until": world.now + 3600,
        }
        self.client = Client(world.router.account, identity, **(said | rights))
        self.connection = world.connect(self)
        self.registrations = 0
        self.registered: list[Response] = []  # the answers

    def describe(self, port: int, offer: bool = False) -> bytes:
        return webrtc("actpass" if offer else "active")

    def transmit(self, output: layer.Send) -> None:
        if self.connection.link in self.world.links:
            self.world.to_relay(output.data, self.connection)

    def _one(self, output: object) -> None:
        ours = f"register-{self.number}"
        if isinstance(output, layer.ResponseReceived) and output.response.call_id == ours:
            self.registered.append(output.response)
        else:
            super()._one(output)

    def lose(self) -> None:
        """Its network is gone."""
        self.world.lose(self.connection)

    def reconnect(self) -> None:
        """It is back on another connection, and registers as the same device."""
        self.connection = self.world.connect(self)
        self.register()

    def register(self) -> None:
        """What it sends before anything else comes first, too."""
        self.registrations += 1
        name = f"<sip:{self.client.identity}@{RELAY}>"
        fields = [
            ("Max-Forwards", "70"),
            ("From", f"{name};tag=r{self.registrations}"),
            ("To", name),
            ("Call-ID", f"register-{self.number}"),
            ("CSeq", f"{self.registrations} REGISTER"),
            ("Contact", f'{self.contact};+sip.instance="<{self.instance}>"'),
            ("Expires", str(min(600, int(self.client.until - self.world.now) - 1))),
        ]
        self.send(Request("REGISTER", f"sip:{RELAY}", Headers(fields)))
