"""A client's line to the relay: connection, registration, token, and the calls on it."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Callable, Coroutine
from secrets import token_hex
from typing import Any
from urllib.parse import SplitResult

from aioice.ice import get_host_addresses

from relay.client.agent import Agent
from relay.client.connection import Connection
from relay.client.description import Codec
from relay.client.errors import (
    BadToken,
    ClientError,
    ConnectionFailed,
    Refused,
    TokenExpired,
    TokenRefused,
)
from relay.client.events import (
    ClientEvent,
    Closed,
    Disconnected,
    Registered,
    TokenExpiring,
)
from relay.client.feed import Feed
from relay.client.registration import Registration
from relay.client.session import Session
from relay.client.token import TokenSource, claims
from relay.sip.dialog import Dialog
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.transaction import Transaction

REFRESH_BEFORE_S = 60.0
RETRY_REGISTER_S = 5.0
MOST_CALLS = 64


class Line:
    """Everything of a client below its public face. Made inside a running event loop."""

    def __init__(
        self,
        url: SplitResult,
        token: str,
        source: TokenSource | None,
        trust: ssl.SSLContext | None,
        codecs: tuple[Codec, ...],
        addresses: tuple[str, ...],
        reconnect_s: float,
        events: Feed[ClientEvent],
        called: Callable[[Session], None],
    ) -> None:
        host = url.hostname or ""
        self.claims = claims(token)
        self.codecs = codecs
        self.instance = f"<{uuid.uuid4().urn}>"
        self.host = f"[{host}]" if ":" in host else host
        self.aor = f"<sip:{self.claims.identity}@{self.host}>"
        port = url.port or (443 if url.scheme == "wss" else 80)
        self.agent = Agent(url.scheme, host, port, self)
        self.contact = f"<sip:{token_hex(4)}@{self.agent.sent_by};transport=ws;ob>"
        self.registration = Registration(self)
        self.connection = Connection(url.geturl(), trust, self)
        self.agent.send = self.connection.send
        self.events = events
        self.sessions: dict[str, Session] = {}
        self.lost_at: float | None = None
        self.closed = False
        self._token = token
        self._source = source
        self._reconnect_s = reconnect_s
        self._called = called
        self._fixed_addresses = addresses
        self._local_host = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connect and register. Raises ConnectionFailed, Refused, TokenRefused."""
        try:
            await self.connection.open()
            await self._first
        except BaseException:
            await self.close()
            raise
        self.spawn(self._refresh_in_time())

    async def leave(self) -> None:
        """Hang up, unregister, close."""
        await asyncio.gather(*(session.hang_up() for session in list(self.sessions.values())))
        if self.connected:
            try:
                async with asyncio.timeout(2):
                    await self.registration.unregister()
            except (Refused, TimeoutError):
                pass  # it ends by itself
        await self.close()

    async def close(self) -> None:
        """Disconnect, whatever the state. Idempotent."""
        self.closed = True
        self.agent.close()
        await self.connection.close()
        mine = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.events.end()

    @property
    def connected(self) -> bool:
        return not self.closed and self.lost_at is None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run beside everything else, until the line is closed at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def addresses(self) -> list[str]:
        """The local addresses for audio: that of the connection first. The loopback counts
        only where the relay is reached over it."""
        if self._fixed_addresses:
            return list(self._fixed_addresses)
        others = [] if _is_loopback(self._local_host) else get_host_addresses(True, True)
        return list(dict.fromkeys([self._local_host, *others]))

    def request(self, method: str, uri: str, tag: str, to: str = "") -> Request:
        """A request outside of any dialog, with our token (RFC 8898 section 2.2)."""
        fields = [
            ("Max-Forwards", "70"),
            ("From", f"{self.aor};tag={tag}"),
            ("To", to or f"<{uri}>"),
            ("Call-ID", token_hex(12)),
            ("CSeq", f"1 {method}"),
            ("Authorization", f"Bearer {self._token}"),
            ("Supported", "path, outbound, gruu"),
        ]
        return Request(method, uri, Headers(fields))

    @property
    def registered_contact(self) -> str:
        """Our Contact as an instance of its own, on one flow (RFC 5626 section 4.1)."""
        return f'{self.contact};+sip.instance="{self.instance}";reg-id=1'

    # --- the connection -------------------------------------------------------------------

    def on_connected(self, local_host: str) -> None:
        """Register over the new connection; only then everything else passes."""
        moved = bool(self._local_host) and self._local_host != local_host
        self._local_host = local_host
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = self.spawn(self._keep_registered(moved))

    def on_received(self, data: bytes) -> None:
        self.agent.received(data)

    def on_lost(self, reason: str) -> None:
        """The connection is being made again by itself."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self.lost_at is None and not self.closed:
            self.lost_at = time.monotonic()
            self.events.publish(Disconnected(reason))
            self.spawn(self._give_up(self.lost_at))
        if not self._first.done():
            self._first.set_exception(ConnectionFailed(f"the connection was closed: {reason}"))

    async def _give_up(self, lost_at: float) -> None:
        """Calls are kept for so long, as the relay does; then they are over."""
        await asyncio.sleep(self._reconnect_s)
        if self.lost_at == lost_at:
            for session in list(self.sessions.values()):
                session.abandon(f"no connection for {self._reconnect_s:g} s")

    async def _keep_registered(self, moved: bool) -> None:
        try:
            await self._register()
        except (Refused, BadToken) as error:
            self._registering_failed(error)
            return
        self.lost_at = None
        self.connection.release()
        self.agent.repeat_pending()
        self._registered()
        if not self._first.done():
            self._first.set_result(None)
        for session in list(self.sessions.values()):
            session.reconnected(moved)
        while True:
            await asyncio.sleep(self.registration.renew_in_s)
            await self._renew()

    async def _renew(self) -> None:
        """Register again until it succeeds or is refused for good."""
        while True:
            try:
                await self._register()
            except (TokenRefused, BadToken) as error:
                self._fail(error)
                return
            except Refused:
                await asyncio.sleep(RETRY_REGISTER_S)
                continue
            self._registered()
            return

    async def _register(self) -> None:
        """Register, with a new token where the old one is no good any more."""
        try:
            await self.registration.register()
        except TokenRefused:
            if self._source is None:
                raise
            self._use(await self._source())
            await self.registration.register()

    def _registered(self) -> None:
        expires_s, gruu = self.registration.expires_s, self.registration.gruu
        self.events.publish(Registered(expires_s, gruu))

    def _registering_failed(self, error: ClientError) -> None:
        if not self._first.done():
            self._first.set_exception(error)
        elif isinstance(error, TokenRefused | BadToken):
            self._fail(error)
        else:
            self.connection.drop()  # and try again over another one

    def _fail(self, reason: Exception) -> None:
        """There is no use in trying on."""
        self.events.publish(Closed(reason))
        self.spawn(self.close())

    # --- the token ------------------------------------------------------------------------

    async def refresh(self, token: str) -> None:
        """Use another token from now on. Raises BadToken, TokenRefused, Refused."""
        self._use(token)
        if self.connected:
            await self.registration.register()
            self._registered()

    def _use(self, token: str) -> None:
        renewed = claims(token)
        if (renewed.account, renewed.identity) != (self.claims.account, self.claims.identity):
            raise BadToken("the token is for another identity")
        self._token, self.claims = token, renewed

    async def _refresh_in_time(self) -> None:
        while True:
            expires_at = self.claims.expires_at
            left_s = expires_at - time.time()
            await asyncio.sleep(left_s - min(REFRESH_BEFORE_S, left_s / 4))
            if self.claims.expires_at != expires_at:
                continue  # somebody was faster
            if self._source is None:
                self.events.publish(TokenExpiring(max(0.0, expires_at - time.time())))
                await self._expire(expires_at)
                continue
            try:
                await self.refresh(await self._source())
            except ClientError as error:
                if time.time() > expires_at:
                    self._fail(error)
                    return
                await asyncio.sleep(1)

    async def _expire(self, expires_at: float) -> None:
        """Without a newer token the end of this one is the end of the line."""
        await asyncio.sleep(max(0.0, expires_at - time.time()))
        if self.claims.expires_at == expires_at:
            self._fail(TokenExpired(401, "Unauthorized", "the token has expired"))
            await asyncio.Event().wait()

    # --- what others send -----------------------------------------------------------------

    def on_request(self, tx: Transaction, request: Request) -> None:
        session = self._session_of(request)
        if session is not None:
            session.midcall.requested(tx, request)
        elif request.to.tag is not None:
            self.agent.respond(tx, request.response(481))
        elif request.method == "INVITE":
            self._ring(tx, request)
        else:
            known = request.method in ("OPTIONS", "NOTIFY")
            self.agent.respond(tx, request.response(200 if known else 405, None, token_hex(6)))

    def on_ack(self, request: Request) -> None:
        session = self._session_of(request)
        if session is not None:
            session.midcall.acked(request)

    def on_cancel(self, tx: Transaction) -> None:
        session = self.sessions.get(tx.request.call_id)
        if session is not None:
            session.cancelled_by_peer()

    def on_late_success(self, response: Response) -> None:
        """A 2xx to an INVITE that we gave up: acknowledge it and hang up."""
        dialog = Dialog.of_late_answer(response)
        self.agent.acknowledge(dialog.ack(response.cseq.number))
        if response.call_id not in self.sessions:
            self.spawn(self.agent.ask(dialog.request("BYE")))

    def _session_of(self, request: Request) -> Session | None:
        session = self.sessions.get(request.call_id)
        return session if session is not None and session.tag == request.to.tag else None

    def _ring(self, tx: Transaction, request: Request) -> None:
        if len(self.sessions) >= MOST_CALLS:
            self.agent.respond(tx, request.response(486, None, token_hex(6)))
            return
        session = Session(self)
        session.ring(tx, request)
        self._called(session)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
