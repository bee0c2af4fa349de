"""One TLS session between a TCP connection and the protocol that reads SIP from it.

    TCP transport ⇄ TlsSession ⇄ Connection

OpenSSL works on memory only, so nothing waits: every octet, error and deadline of a handshake
is ours to count and to bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, cast

HANDSHAKE_S = 5.0
MAX_HANDSHAKE_OCTETS = 65536  # in one direction; a chain of certificates is far below
READ_OCTETS = 65536

Failed = Callable[["TlsSession", Exception], None]


class TlsSession(asyncio.Protocol):
    """To TCP a protocol, to `inner` a transport that is made when the handshake is done."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        failed: Failed,
        began: Callable[[TlsSession], bool] | None = None,
        server_name: str | None = None,
    ) -> None:
        """`server_name` makes us the client. `began` may refuse a peer before the handshake,
        `failed` hears why one came to nothing."""
        self._inner = inner
        self._failed = failed
        self._began = began
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._shaken_octets = 0
        self._made = False
        self._over = False
        self._broken: Exception | None = None

    # --- a protocol, to TCP

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._began is not None and not self._began(self):
            self._over = True
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HANDSHAKE_S, self._give_up, TimeoutError("too slow"))
        self._shake()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._incoming.write(data)
        if not self._made:
            self._shaken_octets += len(data)
            if self._shaken_octets > MAX_HANDSHAKE_OCTETS:
                self._give_up(ValueError("more than a handshake has"))
                return
            self._shake()
        if self._made:
            self._read()

    def eof_received(self) -> bool:
        return False  # half-closed is closed

    def connection_lost(self, exc: Exception | None) -> None:
        if self._made:
            self._over = True
            self._inner.connection_lost(self._broken or exc)
        else:
            self._give_up(exc or ConnectionResetError("closed during the handshake"))

    # --- a transport, to the inner protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peercert":
            return self._tls.getpeercert()
        assert self._transport is not None
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        assert self._transport is not None
        return self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        assert self._transport is not None
        return self._over or self._transport.is_closing()

    def pause_reading(self) -> None:
        assert self._transport is not None
        self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        if self._over:
            return
        with contextlib.suppress(ssl.SSLError):  # closed by the peer: TCP will tell
            self._tls.write(data)
        self._flush()

    def close(self) -> None:
        """Says so (close_notify), then closes once all is written."""
        assert self._transport is not None
        if not self._over:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    # --- between them

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ValueError) as error:
            self._flush()  # the alert that tells the peer why
            self._give_up(error)
            return
        self._flush()
        self._made = True
        self._disarm()
        self._inner.connection_made(cast("asyncio.BaseTransport", self))

    def _read(self) -> None:
        try:
            while data := self._tls.read(READ_OCTETS):
                self._inner.data_received(data)
        except ssl.SSLWantReadError:
            self._flush()  # a key update may want an answer
            return
        except ssl.SSLZeroReturnError:
            pass  # close_notify: nothing more can be read
        except ssl.SSLError as error:  # an alert, or what is no TLS
            self._broken = error
        self.close()

    def _flush(self) -> None:
        assert self._transport is not None
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _give_up(self, error: Exception) -> None:
        """The handshake came to nothing: told once."""
        self._disarm()
        if self._over or self._made:
            return
        self._over = True
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(1.0, self._transport.abort)
        self._failed(self, error)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
