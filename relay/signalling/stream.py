"""All connections of SIP over TCP, TLS and WebSocket: those that were accepted, and those that we
open (RFC 3261 section 18, RFC 5922, RFC 5923)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import structlog

from relay.call.router import NOBODY
from relay.errors import MalformedMessage, cannot_bind
from relay.signalling.connection import Connection, SipStream
from relay.signalling.parking import Links
from relay.signalling.places import Allowance, Places
from relay.signalling.tls import Credentials
from relay.signalling.tls_session import TlsSession
from relay.signalling.upgrade import Entrance
from relay.signalling.websocket import WebSocketConnection
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop
from relay.sip.uri import param_of

if TYPE_CHECKING:
    from relay.config import WebSocket

STRANGERS_PER_S = 50.0  # TLS handshakes: each costs about a millisecond of CPU
CONNECT_S = 4.0


class Streams:
    """All connections of the endpoint, by link and by peer."""

    def __init__(
        self,
        receive: Callable[[Request | Response | MalformedMessage, Hop], None],
        failed: Callable[[Hop], None],
        counted: Callable[[str], None],
        links: count[int],
        is_trunks: Callable[[str], bool],
        identified: Callable[[str, frozenset[str]], bool],
        is_banned: Callable[[str], bool],
        is_used: Callable[[Hop], bool],
        credentials: Credentials,
        permits: Callable[[str], bool],
        web: WebSocket | None = None,
        keeps: Callable[[Hop], float] = lambda hop: 0.0,
    ) -> None:
        """`is_trunks` is asked with an address, `identified` with that and the names that a
        certificate proved, `is_used` whether a call or a voice client would miss a connection.
        `permits` is the boundary's. `web` is the configuration of ws: and wss: listeners, should
        there be any; `keeps` says for how long the place of a lost one is kept."""
        self.is_used = is_used
        self._receive = receive
        self._failed = failed
        self._counted = counted
        self._links = links
        self._is_trunks = is_trunks
        self._identified = identified
        self._is_banned = is_banned
        self._credentials = credentials
        self._permits = permits
        self._log = structlog.get_logger()
        self._places = Places()
        self._handshakes = Allowance()  # of TLS strangers
        self._web = Entrance(web, is_banned, permits) if web is not None else None
        self._keeps = keeps
        self._closing = False
        self._by_link = Links(failed, counted)
        self._by_peer: dict[tuple[str, str, int, str], Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, transport: str, host: str, port: int) -> asyncio.Server:
        """Raises ListenError naming the address."""
        loop = asyncio.get_running_loop()
        accept = self._accept_tls if transport in ("tls", "wss") else self._accept
        try:
            return await loop.create_server(
                partial(accept, transport), host, port, reuse_address=True
            )
        except OSError as error:
            raise cannot_bind(transport, host, port, error) from error

    def send(self, data: bytes, hop: Hop) -> bool:
        """Over the connection named by `hop.link`; without one, over one to its address, which
        is opened if need be. False when that link is gone."""
        if hop.link or hop.is_websocket:  # voice clients connect to us, never we to them
            place = self._by_link.at(hop.link)
            return place is not None and place.send(data)
        key = (hop.transport, hop.host, hop.port, hop.name)
        connection = self._by_peer.get(key) or self._open(hop, key)
        return connection.send(data)

    def opened(self, connection: Connection) -> bool:
        """False when its certificate has another name, its address is banned, or there are
        too many already."""
        hop = connection.hop
        if connection.ours:
            if hop.transport == "tls" and hop.name not in connection.names:
                self._peer_refused(hop, "its certificate is for another name", connection.names)
                return False
        elif hop.is_websocket:
            if hop.transport == "ws" and not self._may_begin(hop.link, hop.host):
                return False
            self._by_link.add(connection)
            return True
        else:
            connection.trusted = self._identified(hop.host, connection.names)
            if not connection.trusted and self._is_banned(hop.host):
                self._counted("tcp_refused_banned")
                return False
            if not self._places.take(hop.link, hop.host, stranger=not connection.trusted):
                self._counted("tcp_refused_too_many")
                return False
        self._by_link.add(connection)
        self._find(connection, (hop.transport, hop.host, hop.port, hop.name))
        return True

    def received(
        self, connection: Connection, message: Request | Response | MalformedMessage
    ) -> None:
        if connection.names and not connection.ours and len(connection.keys) == 1:
            self._alias(connection, message)
        self._receive(message, connection.hop)

    def closed(self, connection: Connection) -> None:
        hop = connection.hop
        self._places_of(hop).leave(hop.link)
        self._lose(connection)
        keep_s = 0.0
        if isinstance(connection, WebSocketConnection) and not (connection.left or self._closing):
            keep_s = self._keeps(hop)
        self._by_link.lose(connection, keep_s)

    def broken(self, connection: Connection, error: Exception) -> None:
        """TLS ended by an alert: with TLS 1.3 a peer that wants another certificate of ours
        says so only after the handshake."""
        self._counted("tls_broken")
        if connection.ours:
            hop = connection.hop
            self._log.warning("tls_broken", peer=f"{hop.host}:{hop.port}", problem=why(error))

    def cut(self, connection: Connection, why: str) -> None:
        if connection.hop.is_websocket:
            self._counted(f"ws_cut_{why}")
        else:
            self._counted(f"tcp_cut_{why}")
        self._lose(connection)
        connection.close(why)

    def refused(self, why: str) -> None:
        """Of a WebSocket nothing came."""
        self._counted(f"ws_refused_{why}")

    def is_used_by(self, connection: Connection) -> bool:
        """Whether a call or a voice client would miss this connection."""
        return any(map(self.is_used, (connection.hop, *connection.formerly)))

    def trust(self, hop: Hop) -> None:
        """A stranger's connection turned out to be a trunk's: it has a password."""
        connection = self._by_link.connection(hop.link)
        if connection is not None:
            connection.trusted = True
            connection.keep()
            self._places_of(hop).prove(hop.link)

    def move(self, old: Hop, new: Hop) -> None:
        """What is for the connection of `old`, also what waits already, goes over that of `new`
        from now on. The old one is closed if need be."""
        before = self._by_link.move(old, new)
        if before is not None:
            self.cut(before, "replaced")

    def is_open(self, hop: Hop) -> bool:
        return hop.link in self._by_link

    def peer_names(self, hop: Hop) -> frozenset[str]:
        """What the certificate at the other end of a connection proved."""
        connection = self._by_link.connection(hop.link)
        return connection.names if connection is not None else NOBODY

    def close(self) -> None:
        self._closing = True
        self._by_link.close()
        for connection in self._by_link:
            connection.close()

    # --- accepted

    def _accept(self, transport: str) -> Connection:
        hop = Hop(transport, "", 0, next(self._links))
        if not hop.is_websocket:
            return SipStream(self, hop, ours=False)
        assert self._web is not None  # else nothing would listen
        return WebSocketConnection(self, hop, self._web)

    def _accept_tls(self, transport: str) -> TlsSession:
        connection = self._accept(transport)
        link = connection.hop.link
        web = connection.hop.is_websocket
        context = self._credentials.web if web else self._credentials.server
        assert context is not None  # else nothing would listen

        def began(session: TlsSession) -> bool:
            if not web:
                return self._may_shake(session, link)
            peer = session.get_extra_info("peername")
            return peer is not None and self._may_begin(link, peer[0])

        def failed(session: TlsSession, error: Exception) -> None:
            self._places_of(connection.hop).leave(link)
            self._handshake_failed(session, error)

        return TlsSession(connection, context, failed, began)

    def _may_shake(self, session: TlsSession, link: int) -> bool:
        """Whether this address may cost us a handshake now."""
        peer = session.get_extra_info("peername")
        stranger = peer is None or not self._is_trunks(peer[0])
        if peer is None or (stranger and self._is_banned(peer[0])):
            self._counted("tcp_refused_banned")
            return False
        if not self._places.take(link, peer[0], stranger):
            self._counted("tls_refused_too_many")
            return False
        now = asyncio.get_running_loop().time()
        if stranger and not self._handshakes.take(STRANGERS_PER_S, now):
            self._places.leave(link)
            self._counted("tls_refused_too_many")
            return False
        return True

    def _may_begin(self, link: int, host: str) -> bool:
        """Whether this address may cost us the handshakes of a WebSocket now."""
        assert self._web is not None
        why = self._web.bars(link, host, asyncio.get_running_loop().time())
        if why:
            self.refused(why)
        return not why

    def _places_of(self, hop: Hop) -> Places:
        return self._web.places if self._web is not None and hop.is_websocket else self._places

    def _handshake_failed(self, session: TlsSession, error: Exception) -> None:
        """Counted; a line in the log only when it was a trunk's address."""
        self._counted("tls_handshake_failed")
        peer = session.get_extra_info("peername")
        if peer is not None and self._is_trunks(peer[0]):
            self._log.warning("tls_handshake_failed", source=peer[0], problem=why(error))

    def _alias(
        self, connection: Connection, message: Request | Response | MalformedMessage
    ) -> None:
        """A peer that proved its name may have its requests come this way (RFC 5923)."""
        if not isinstance(message, Request):
            return
        try:
            via = message.via
        except MalformedMessage:
            return
        if param_of(via.params, "alias") is not None:
            hop = connection.hop
            for name in connection.names:
                self._find(connection, (hop.transport, hop.host, via.port or 5061, name))

    def _find(self, connection: Connection, key: tuple[str, str, int, str]) -> None:
        """Requests to this peer may take this connection, unless there is another one."""
        connection.keys.append(key)
        self._by_peer.setdefault(key, connection)

    def _lose(self, connection: Connection) -> None:
        """Nothing more is to take it."""
        for key in connection.keys:
            if self._by_peer.get(key) is connection:
                del self._by_peer[key]

    # --- opened by us

    def _open(self, hop: Hop, key: tuple[str, str, int, str]) -> Connection:
        connection = SipStream(self, hop._replace(link=next(self._links)), ours=True)
        connection.trusted = True
        self._find(connection, key)
        task = asyncio.get_running_loop().create_task(self._connect(connection, hop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return connection

    async def _connect(self, connection: Connection, hop: Hop) -> None:
        loop = asyncio.get_running_loop()
        if not self._permits(hop.host):  # who asked for it has asked the boundary, too
            self._not_connected(connection, hop)
            return

        def failed(session: TlsSession, error: Exception) -> None:
            if isinstance(error, ssl.SSLError):
                self._peer_refused(hop, why(error))
            self._not_connected(connection, hop)

        def protocol() -> asyncio.Protocol:
            if hop.transport != "tls":
                return connection
            context = self._credentials.client
            return TlsSession(connection, context, failed, server_name=hop.name or hop.host)

        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(protocol, hop.host, hop.port)
        except (OSError, ValueError):  # TimeoutError is an OSError, UnicodeError a ValueError
            self._not_connected(connection, hop)

    def _not_connected(self, connection: Connection, hop: Hop) -> None:
        self._lose(connection)
        self._failed(hop)

    def _peer_refused(self, hop: Hop, problem: str, names: frozenset[str] = NOBODY) -> None:
        self._counted("tls_peer_refused")
        self._log.warning(
            "tls_peer_refused",
            peer=f"{hop.host}:{hop.port}",
            expected=hop.name,
            found=sorted(names),
            problem=problem,
        )


def why(error: Exception) -> str:
    """What OpenSSL says, without its own file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
