"""Web pages that register over WebSockets, in virtual time, and the region they register at.

A page sends what JsSIP sends. Its connection is a number; what the relay sends over it comes
back at once, for nothing is lost on a WebSocket.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count
from typing import Any

from pydantic import SecretStr

from relay.call.calls import Calls
from relay.call.record import Place
from relay.call.registrar import Registrar
from relay.call.token_check import TokenCheck
from relay.call.tokens import Tokens
from relay.call.user_agent import LookUp, UserAgent
from relay.config import Account, TokenKey
from relay.residency.boundary import Boundary
from relay.sip.digest import Challenge, ha1
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.scenario.world import (
    RELAY,
    FakeAdmission,
    FakeMedia,
    FakeRecorder,
    FakeRecords,
    FakeRouter,
    Journal,
)
from tests.unit.token_samples import SECRET, WALL

HOST = "192.0.2.50"
AOR = "ie1.example"


class Region:
    """The relay's user agent with one account, and both clocks."""

    def __init__(self, **account: Any) -> None:
        self.now = 1000.0
        self.wall = WALL
        self.account = Account(
            name="app", keys=(TokenKey(id="k1", secret=SecretStr(SECRET)),), **account
        )
        self.other = Account(name="other", keys=(TokenKey(id="k1", secret=SecretStr(SECRET)),))
        keys = {("app", "k1"): SECRET.encode(), ("other", "k1"): SECRET.encode()}
        tokens = Tokens("ie1", (self.account, self.other), keys, self._wall_clock)
        numbers = count(1)
        self.journal = Journal()
        self.bugs: list[Exception] = []
        self.calls = Calls(
            FakeRouter(),
            FakeAdmission(),
            FakeMedia(),
            FakeRecorder(),
            FakeRecords(),
            self.journal,
            token=lambda: f"{next(numbers):016x}",
            wall_clock=self._wall_clock,
            boundary=Boundary([ip_network("192.0.2.0/24")]),
            place=Place("ie1", "n1"),
            token_check=TokenCheck(tokens, "ie1", b"secret"),
        )
        self.calls.registrar = Registrar(self.calls, 60.0)
        self.relay = UserAgent(self.calls, self, self.bugs.append)
        self.counters = self.relay.counters
        self.pages: dict[int, Page] = {}
        self.moves: list[tuple[int, int]] = []
        self.trusted: list[int] = []
        self.links = count(1)

    def _wall_clock(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def page(self, token: str = "", identity: str = "alice", **options: Any) -> Page:
        return Page(self, token, identity, **options)

    def run(self, seconds: float) -> None:
        """Let time pass, by both clocks."""
        end = self.now + seconds
        while (due := self.relay.next_timer()) is not None and due <= end:
            self._reach(max(self.now, due))
            self.relay.on_timer(self.now)
            self.settle()
        self._reach(end)

    def _reach(self, when: float) -> None:
        self.wall += when - self.now
        self.now = when

    def settle(self) -> None:
        while outputs := self.relay.drain():
            for output in outputs:
                assert not isinstance(output, LookUp)
                page = self.pages.get(output.hop.link)
                if page is not None:
                    page.received(output.data)
                else:
                    self.relay.not_sent(output, self.now)
        assert not self.bugs

    def of(self, identity: str = "alice", instance: str = "") -> list[str]:
        """The contacts that an identity is reached at, by user name."""
        found = self.calls.registrar.bindings("app", identity, self.now, instance)
        return [each.contact.user or "" for each in found]

    # --- Addresses

    def sent_by(self, transport: str, peer: str, link: int) -> str:
        return f"{RELAY}:5443"

    def is_open(self, hop: Hop) -> bool:
        return hop.link in self.pages

    def move(self, old: Hop, new: Hop) -> None:
        self.moves.append((old.link, new.link))

    def trust(self, hop: Hop) -> None:
        self.trusted.append(hop.link)

    def peer_names(self, hop: Hop) -> frozenset[str]:
        return frozenset()


class Page:
    """One page and its connection. `digest` answers challenges, without it the token is sent
    as Bearer at once."""

    def __init__(
        self,
        region: Region,
        token: str,
        identity: str = "alice",
        digest: bool = False,
        name: str = "",
        instance: bool = True,
    ) -> None:
        self.region = region
        self.token = token
        self.identity = identity
        self.digest = digest
        number = next(region.links)
        self.name = name or f"page{number}"
        self.instance = f"urn:uuid:00000000-0000-4000-8000-{number:012d}" if instance else ""
        self.responses: list[Response] = []
        self.requests: list[Request] = []
        self.cseq = 0
        self.call_id = f"register-{self.name}"
        self.connect(number)

    def connect(self, link: int | None = None) -> None:
        """A connection, or another one."""
        number = next(self.region.links) if link is None else link
        self.hop = Hop("wss", HOST, 40000 + number, number)
        self.region.pages[number] = self

    def close(self) -> None:
        """Lost, and for good."""
        del self.region.pages[self.hop.link]
        self.region.relay.transport_failed(self.hop, self.region.now)

    def received(self, data: bytes) -> None:
        message = parse(data)
        if isinstance(message, Response):
            self.responses.append(message)
        else:
            self.requests.append(message)

    @property
    def contact(self) -> str:
        text = f"<sip:{self.name}@{self.name}.invalid;transport=ws>;+sip.ice"
        if self.instance:
            text += f';reg-id=1;+sip.instance="<{self.instance}>"'
        return text

    # --- out

    def register(
        self, expires: int | None = 600, contact: str | None = None, **headers: str
    ) -> Response:
        """The final response, challenges answered."""
        value = self.contact if contact is None else contact
        fields = [("Contact", value)] if value else []
        if expires is not None:
            fields.append(("Expires", str(expires)))
        extra = [(name.replace("_", "-"), each) for name, each in headers.items()]
        return self.ask(
            "REGISTER", f"sip:{AOR}", [*fields, ("Supported", "path,gruu,outbound"), *extra]
        )

    def ask(
        self, method: str, uri: str, fields: list[tuple[str, str]], body: bytes = b""
    ) -> Response:
        """Send a request, answer a challenge when it is for digest, and return what came last."""
        bearer = (
            [] if self.digest or not self.token else [("Authorization", f"Bearer {self.token}")]
        )
        response = self.send(self.request(method, uri, [*fields, *bearer], body))
        if response.status in (401, 407) and self.digest:
            answer = self.answer(response, method, uri)
            response = self.send(self.request(method, uri, [*fields, answer], body))
        return response

    def request(
        self, method: str, uri: str, fields: list[tuple[str, str]], body: bytes = b""
    ) -> bytes:
        self.cseq += 1
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/WSS {self.name}.invalid;branch=z9hG4bK{self.name}{self.cseq}{method}",
            "Max-Forwards: 69",
            f"To: <sip:{self.identity}@{AOR}>",
            f"From: <sip:{self.identity}@{AOR}>;tag={self.name}{self.cseq}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} {method}",
            *(f"{name}: {value}" for name, value in fields),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    def send(self, data: bytes) -> Response:
        """The last response to it; it must be a new one."""
        before = len(self.responses)
        self.push(data)
        assert len(self.responses) > before, "it was not answered"
        return self.responses[-1]

    def push(self, data: bytes) -> None:
        self.region.relay.receive(parse(data), self.hop, self.region.now)
        self.region.settle()

    def answer(
        self,
        response: Response,
        method: str,
        uri: str,
        count_: int = 1,
        password: str | None = None,
    ) -> tuple[str, str]:
        """To the last challenge, the only one that JsSIP and SIP.js look at."""
        register = response.status == 401
        name = "WWW-Authenticate" if register else "Proxy-Authenticate"
        (challenge,) = Challenge.parse(response.headers.fields(name)[-1])
        assert challenge.algorithm == "MD5"
        key = ha1("MD5", self.token, challenge.realm, password or self.token)
        given = challenge.answer(self.token, key, method, uri, count_, "c0")
        return "Authorization" if register else "Proxy-Authorization", str(given)
