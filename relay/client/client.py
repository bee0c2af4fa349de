"""A voice client: one identity of an account, on one connection to a region."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from urllib.parse import urlsplit

from relay.client.call import Call
from relay.client.description import Codec
from relay.client.errors import ConnectionFailed
from relay.client.events import ClientEvent, IncomingCall, State
from relay.client.feed import Feed
from relay.client.line import MOST_CALLS, Line
from relay.client.session import Session
from relay.client.token import TokenSource

RECONNECT_S = 30.0


class Client:
    """Registers, calls and is called; an async context manager.

    `url` is the region's `wss://host:port`. `token` is an access token, or an async function
    that gives one: it is asked again before each token ends. `codecs` are offered in this
    order. `trust` is the TLS context (the system's authorities by default). `addresses` are
    the local addresses for audio, by default all that the relay may be reached from.

    Entering raises ConnectionFailed, BadToken, TokenRefused (with the relay's reason), Refused.
    """

    def __init__(
        self,
        url: str,
        token: str | TokenSource,
        *,
        codecs: tuple[Codec, ...] = (Codec.OPUS, Codec.PCMU, Codec.PCMA),
        trust: ssl.SSLContext | None = None,
        addresses: tuple[str, ...] = (),
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in ("ws", "wss") or not self._url.hostname:
            raise ValueError(f"{url!r} is not of the form wss://host:port")
        self._token = token
        self._codecs = codecs
        self._trust = trust
        self._addresses = addresses
        self._reconnect_s = reconnect_s
        self._line: Line | None = None
        self._events: Feed[ClientEvent] = Feed()
        self._incoming: asyncio.Queue[Call] = asyncio.Queue(MOST_CALLS)

    async def __aenter__(self) -> Client:
        source = None if isinstance(self._token, str) else self._token
        token = self._token if isinstance(self._token, str) else await self._token()
        trust = None
        if self._url.scheme == "wss":
            trust = self._trust or ssl.create_default_context()
        self._line = Line(
            self._url,
            token,
            source,
            trust,
            self._codecs,
            self._addresses,
            self._reconnect_s,
            self._events,
            self._called,
        )
        await self._line.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up, unregister, disconnect. Idempotent."""
        if self._line is not None and not self._line.closed:
            await self._line.leave()

    @property
    def identity(self) -> str:
        """Who this client is, as its token says."""
        return self._open_line().claims.identity

    @property
    def gruu(self) -> str | None:
        """A URI that reaches this very device (RFC 5627), if the relay gave one."""
        return self._open_line().registration.gruu

    @property
    def connected(self) -> bool:
        """Whether the relay can be reached now."""
        return self._line is not None and self._line.connected

    def events(self) -> AsyncIterator[ClientEvent]:
        """Everything that happens to the client, until it is closed."""
        return self._events.listen()

    async def call(self, to: str, *, codecs: tuple[Codec, ...] | None = None) -> Call:
        """Call a number, an identity or a `sip:` URI; returns at once, see `Call.answered`."""
        line = self._open_line()
        session = Session(line, codecs)
        await session.place(to if to.startswith("sip:") else f"sip:{to}@{line.host}")
        return Call(session)

    async def incoming(self) -> Call:
        """The next call that comes in and is not over yet."""
        while True:
            call = await self._incoming.get()
            if call.state is not State.ENDED:
                return call

    async def refresh(self, token: str) -> None:
        """Use this token from now on. Raises BadToken, TokenRefused, Refused."""
        await self._open_line().refresh(token)

    def drop_connection(self) -> None:
        """Cut the connection as a failing network does, for tests: it is made again."""
        self._open_line().connection.drop()

    def _called(self, session: Session) -> None:
        call = Call(session)
        if self._incoming.full():
            self._incoming.get_nowait()  # an old one, of a program that listens to events
        self._incoming.put_nowait(call)
        self._events.publish(IncomingCall(call))

    def _open_line(self) -> Line:
        if self._line is None or self._line.closed:
            raise ConnectionFailed("the client is not open: use `async with Client(…)`")
        return self._line
