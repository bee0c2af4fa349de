"""The WebSocket to the relay (RFC 7118), made again by itself when it is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from relay.client.errors import ConnectionFailed

OPEN_TIMEOUT_S = 10.0
PING_EVERY_S = 15.0
PONG_WITHIN_S = 10.0
MOST_OCTETS = 65536
MOST_WAITING = 256
RETRY_S = (0.2, 0.5, 1.0, 2.0, 4.0)  # then every 4 s


class Listener(Protocol):
    """Who uses the connection."""

    def on_connected(self, local_host: str) -> None: ...

    def on_received(self, data: bytes) -> None: ...

    def on_lost(self, reason: str) -> None: ...


class Connection:
    """One WebSocket at a time. What is sent while there is none waits, in order.

    After each `on_connected` only urgent messages pass until `release`: the relay must know
    first whose connection it is.
    """

    def __init__(self, url: str, trust: ssl.SSLContext | None, listener: Listener) -> None:
        self.url = url
        self._trust = trust
        self._listener = listener
        self._socket: ClientConnection | None = None
        self._released = False
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect for the first time. Raises ConnectionFailed."""
        first = await self._connect()
        self._task = asyncio.create_task(self._serve(first))

    async def close(self) -> None:
        """Send what is to be sent, then close. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        if self._socket is not None:
            try:
                async with asyncio.timeout(1):
                    await self._outgoing.join()
            except TimeoutError:
                pass
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def send(self, data: bytes, urgent: bool = False) -> None:
        """Send a message, or keep it until there is a connection that was released."""
        if urgent or (self._released and self._socket is not None):
            self._outgoing.put_nowait(data)
        else:
            self._waiting.append(data)

    def release(self) -> None:
        """Let everything pass."""
        self._released = True
        while self._waiting:
            self._outgoing.put_nowait(self._waiting.popleft())

    def drop(self) -> None:
        """Cut the connection, as a network does that goes away; it is made again."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _serve(self, socket: ClientConnection | None) -> None:
        attempt = 0
        while True:
            if socket is not None:
                attempt = 0
                self._lose(await self._use(socket))
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1
            try:
                socket = await self._connect()
            except ConnectionFailed:
                socket = None

    async def _connect(self) -> ClientConnection:
        try:
            socket = await connect(
                self.url,
                subprotocols=[Subprotocol("sip")],
                ssl=self._trust,
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                ping_interval=PING_EVERY_S,
                ping_timeout=PONG_WITHIN_S,
                max_size=MOST_OCTETS,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            raise ConnectionFailed(f"{self.url}: the server answered {status}") from None
        except TimeoutError:
            raise ConnectionFailed(f"{self.url}: no answer in {OPEN_TIMEOUT_S:g} s") from None
        except (OSError, WebSocketException) as error:
            raise ConnectionFailed(f"{self.url}: {error}") from None
        if socket.subprotocol != "sip":
            await socket.close()
            raise ConnectionFailed(f"{self.url}: it does not speak SIP over WebSocket")
        return socket

    async def _use(self, socket: ClientConnection) -> str:
        """Send and receive until the connection is lost; the reason."""
        self._socket = socket
        writer = asyncio.create_task(self._write(socket))
        try:
            self._listener.on_connected(socket.local_address[0])
            async for message in socket:
                self._listener.on_received(
                    message.encode() if isinstance(message, str) else bytes(message)
                )
            return socket.close_reason or f"closed ({socket.close_code})"
        except WebSocketException as error:
            return str(error)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await socket.close()

    def _lose(self, reason: str) -> None:
        self._socket, self._released = None, False
        while not self._outgoing.empty():
            self._waiting.append(self._outgoing.get_nowait())
            self._outgoing.task_done()
        self._listener.on_lost(reason)

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            data = await self._outgoing.get()
            try:
                await socket.send(_frame(data))
            except WebSocketException:
                return  # reading ends, too, and says why
            finally:
                self._outgoing.task_done()


def _frame(data: bytes) -> str | bytes:
    """Text where it is UTF-8, as browsers send it; RFC 7118 section 4 allows both."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
