"""A trunk of the soak on a real UDP socket: transactions, loss, repeats, and its phones."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, cast

from bench.soak_phone import Phone, Then, media_port, number_of
from bench.soak_plan import TRANSFERRED, Plan
from relay.errors import MalformedMessage
from relay.sip import transaction as layer
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop, InviteClientTransaction, Transaction, TransactionLayer

LOST = 0.01  # of the datagrams each way
REPEATED = 0.02
DEAF_S = 200.0
# Payload type 0, sequence number and timestamp 1, then an SSRC and 20 ms of silence.
RTP = bytes((0x80, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4)) + b"\xff" * 160


class Peer(asyncio.DatagramProtocol):
    """Several calls at once, each a `Phone` found by its Call-ID."""

    def __init__(
        self,
        name: str,
        own: tuple[str, int],
        relay: tuple[str, int],
        random: Random,
        plans: dict[str, Plan],
        counts: Counter[str],
        password: str = "",
    ) -> None:
        self.number = name
        self.host, self.port = own
        self.relay = Hop("udp", *relay)
        self.random = random
        self.password = password
        self.contact = f"<sip:{name}@{self.host}:{self.port}>"
        self.phones: dict[str, Phone] = {}
        self.cancelled: set[Transaction] = set()
        self._plans = plans
        self._unheard: set[str] = set()
        self._counts = counts
        self._layer = TransactionLayer(supported=frozenset({"100rel", "timer"}))
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind((self.host, 0))
        self._rtp.setblocking(False)
        self.rtp_port: int = self._rtp.getsockname()[1]

    async def start(self) -> None:
        await self._loop.create_datagram_endpoint(lambda: self, local_addr=(self.host, self.port))

    def close(self) -> None:
        self._transport.close()
        self._rtp.close()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def busy(self) -> int:
        """Live transactions and phones."""
        return len(self._layer) + len(self.phones)

    # --- for the phones

    def token(self) -> str:
        return f"{self.random.getrandbits(64):016x}"

    def tag_of(self, request: Request) -> str:
        return request.to.tag or f"t{hash((self.host, request.call_id)) & 0xFFFFFFFF:08x}"

    def count(self, name: str) -> None:
        self._counts[name] += 1

    def later(self, delay_s: float, step: Callable[..., None], *args: Any) -> None:
        def go() -> None:
            step(*args)
            self.settle()

        self._loop.call_later(delay_s, go)

    def request(self, request: Request, then: Then) -> Transaction:
        tx = self._layer.request(request, self.relay, f"{self.host}:{self.port}", self._loop.time())
        tx.user = then
        return tx

    def send(self, request: Request) -> None:
        self._layer.send(request, self.relay, f"{self.host}:{self.port}", self._loop.time())

    def respond(self, tx: Transaction, response: Response) -> None:
        self._layer.respond(tx, response, self._loop.time())

    def cancel(self, tx: InviteClientTransaction) -> None:
        self._layer.cancel(tx, self._loop.time())

    def forget(self, phone: Phone) -> None:
        for call_id in [key for key, each in self._mine(phone) if each is phone]:
            del self.phones[call_id]

    def turn_deaf(self, call_id: str) -> None:
        """Nothing of this call is heard any more, and nobody says so."""
        self._unheard.add(call_id)
        self._loop.call_later(DEAF_S, self._unheard.discard, call_id)

    def _mine(self, phone: Phone) -> list[tuple[str, Phone]]:
        keys = {phone.call_id}
        if phone.dialog is not None:
            keys.add(phone.dialog.call_id)
        return [(key, self.phones[key]) for key in keys if key in self.phones]

    def play(self, sdp: bytes) -> None:
        """One packet of voice to where the relay wants it."""
        port = media_port(sdp)
        if port:
            self._rtp.sendto(RTP, (self.relay.host, port))

    def send_garbage(self, request: Request) -> None:
        """A sound request that was damaged on its way, or plain noise."""
        request.headers.prepend("Via", f"SIP/2.0/UDP {self.host}:{self.port};branch=z9hG4bKx")
        data = bytearray(request.encode())
        for _ in range(self.random.randrange(1, 20)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        self._transport.sendto(
            bytes(data[: self.random.randrange(1, len(data))]), (self.relay.host, self.relay.port)
        )

    def run_events(self, plan: Plan) -> None:
        """From the answer on: each event at its time, then the end."""
        for when, side, event in plan.events:
            self.later(when, _do, plan, side, event)
        ends = {"caller": (0,), "callee": (1,), "both": (0, 1), "nobody": ()}[plan.ending]
        for side in ends:
            self.later(plan.end_s, _bye, plan, side)
        if not ends:
            self.later(plan.end_s, _vanish, plan, self.random.random() < 0.5)

    # --- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        sock = transport.get_extra_info("socket")
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self.random.random() < LOST:
            return
        try:
            message = parse(data)
        except MalformedMessage:
            self.count("malformed from the relay")
            return
        if isinstance(message, Request) and self._is_deaf(message):
            return
        self._layer.receive(message, Hop("udp", addr[0], addr[1]), self._loop.time())
        self.settle()

    def _is_deaf(self, request: Request) -> bool:
        """Whether a call's plan is that this one is not even heard."""
        if request.call_id in self._unheard:
            return True
        if request.method != "INVITE" or request.to.tag is not None:
            return False
        plan = self._plans.get(number_of(request))
        return plan is not None and plan.outcome == "silent"

    def settle(self) -> None:
        while outputs := self._layer.drain():
            for output in outputs:
                self._one(output)
        when = self._layer.next_timer()
        if when is None or (self._timer is not None and self._timer_at <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._layer.on_timer(self._loop.time())
        self.settle()

    def _one(self, output: layer.Output) -> None:
        if isinstance(output, layer.Send):
            draw = self.random.random()
            for _ in range(0 if draw < LOST else 2 if draw < LOST + REPEATED else 1):
                self._transport.sendto(output.data, (output.hop.host, output.hop.port))
        elif isinstance(output, layer.ResponseReceived):
            if output.response.status >= 200:
                self.count(f"{output.response.cseq.method} {output.response.status}")
            cast("Then", output.tx.user)(output.response)
        elif isinstance(output, layer.RequestReceived):
            self._on_request(output.tx, output.request)
        elif isinstance(output, layer.AckReceived):
            phone = self.phones.get(output.request.call_id)
            if phone is not None:
                phone.on_ack(output.request)
        elif isinstance(output, layer.CancelReceived):
            self._on_cancel(output.invite_tx)
        elif isinstance(output, layer.TimedOut | layer.Failed):
            self.count(f"no answer to {output.tx.request.method}")
            if callable(output.tx.user):
                output.tx.user(None)

    def _on_cancel(self, tx: Transaction) -> None:
        phone = tx.user
        if not isinstance(phone, Phone):
            return
        if phone.dialog is None:
            phone.on_cancel(tx)
        else:  # of a re-INVITE that waits for our answer
            phone.reply(tx, tx.request, 487)
            self.cancelled.add(tx)
            self.later(1.0, self.cancelled.discard, tx)

    def _on_request(self, tx: Transaction, request: Request) -> None:
        phone = self.phones.get(request.call_id)
        if phone is not None and request.to.tag is not None:
            phone.on_request(tx, request)
        elif request.to.tag is not None or request.method not in ("INVITE", "OPTIONS"):
            self.respond(tx, request.response(481, to_tag="none"))
        elif request.method == "OPTIONS":
            self.respond(tx, request.response(200, to_tag="up"))
        else:
            number = number_of(request)
            plan = self._plans.get(number)
            if plan is not None:
                plan.attempts += 1
            if plan is None and not number.startswith(TRANSFERRED):
                self.count("unexpected number")
            Phone(self, plan, 1).take(tx, request)


def _vanish(plan: Plan, deaf: bool) -> None:
    """Both ends are cut off, or have restarted and know nothing of the call."""
    for phone in plan.phones:
        if phone.dialog is not None and deaf:
            phone.peer.turn_deaf(phone.dialog.call_id)
        phone.end()


def _do(plan: Plan, side: int, event: str) -> None:
    if side < len(plan.phones):
        phone = plan.phones[-1 if side else 0]
        phone.do(event)
        phone.peer.settle()


def _bye(plan: Plan, side: int) -> None:
    if side < len(plan.phones):
        phone = plan.phones[-1 if side else 0]
        phone.bye()
        phone.peer.settle()
