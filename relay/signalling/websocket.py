"""SIP over WebSocket (RFC 7118): an HTTP upgrade, then one SIP message a WebSocket message.

The protocol is the library's, without its I/O; what may connect, how much it may send and how
it is kept alive is decided here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from websockets.exceptions import InvalidOrigin, InvalidUpgrade, NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as HttpRequest
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from relay.errors import MalformedMessage
from relay.signalling import connection
from relay.signalling.connection import Connection
from relay.signalling.places import Allowance
from relay.signalling.upgrade import ANSWERS, Entrance
from relay.sip.message import Request, Response
from relay.sip.parser import parse

if TYPE_CHECKING:
    from relay.signalling.stream import Streams
    from relay.sip.transaction import Hop

SIP = Subprotocol("sip")
UPGRADE_S = 5.0  # for the whole request
MAX_UPGRADE_OCTETS = 16384  # browsers send their cookies, too
SLICE_OCTETS = 1024  # parsed before the rate is looked at: of frames without content, 170
MOST_UNHEARD = 32  # messages that are kept until something is heard of the client

_NO_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"This port speaks SIP over WebSocket (RFC 7118): GET with Upgrade: websocket.\n"
)
# What a client reads when we close: of `Streams.cut`; "" is the end of the node.
_CLOSES = {
    "": (CloseCode.GOING_AWAY, "the relay is shutting down"),
    "idle": (CloseCode.NORMAL_CLOSURE, "not used any more"),
    "replaced": (CloseCode.NORMAL_CLOSURE, "the client has connected anew"),
    "silent": (CloseCode.POLICY_VIOLATION, "no access token was shown in time"),
    "flooding": (CloseCode.POLICY_VIOLATION, "too many messages in a second"),
    "malformed": (CloseCode.INVALID_DATA, "text that is not UTF-8"),
}
_REGISTERED = b" REGISTER\r\n"  # whoever comes back registers anew
_DEAD = ("not_reading", "no_pong")
_BY_CODE = {CloseCode.MESSAGE_TOO_BIG: "too_long"}

_log = logging.getLogger(__name__)
_log.disabled = True  # the library's own words about each connection


class WebSocketConnection(Connection):
    """A voice client's connection, over TCP (`ws`) or TLS (`wss`)."""

    __slots__ = (
        "_allowance",
        "_deaf",
        "_entrance",
        "_octets",
        "_over",
        "_parts",
        "_protocol",
        "_text",
        "_unheard",
    )

    def __init__(self, streams: Streams, hop: Hop, entrance: Entrance) -> None:
        super().__init__(streams, hop, ours=False)
        self._entrance = entrance
        self._protocol = ServerProtocol(
            origins=entrance.origins,
            subprotocols=[SIP],
            max_size=entrance.config.message_octets,
            logger=_log,
        )
        self._allowance = Allowance()
        self._octets = 0  # of the request so far
        self._parts: list[bytes] = []  # of a fragmented message
        self._text = False  # that message is
        self._unheard: list[bytes] = []  # sent since the client was last heard of
        self._over = False  # closing
        self._deaf = False  # what still comes is not even parsed

    max_unsent_octets = 1 << 18  # there are many of them

    @property
    def left(self) -> bool:
        """Whether the client went away for good, as a page that is closed says (1001)."""
        closed = self._protocol.close_rcvd
        return closed is not None and closed.code == CloseCode.GOING_AWAY

    @property
    def waiting(self) -> list[bytes]:
        """What was sent since anything was heard of the client: it answers what it has got."""
        return self._unheard + self._unsent

    def begin(self) -> None:
        self.arm(UPGRADE_S, self._refuse, "too_slow")

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._unheard.clear()
        for at in range(0, len(data), SLICE_OCTETS):
            if self._deaf:
                return
            self._feed(data[at : at + SLICE_OCTETS])
        self._flush()

    def send(self, data: bytes) -> bool:
        self._used = self._loop.time()
        protocol = self._protocol
        if protocol.state is not State.OPEN:
            self._unsent.append(data)  # it may be for the connection that comes after this one
            return True
        if data.isascii() or _is_utf8(data):
            protocol.send_text(data)
        else:
            protocol.send_binary(data)
        if _REGISTERED not in data:
            self._unheard.append(data)
            del self._unheard[:-MOST_UNHEARD]
        self._flush()
        return True

    def close(self, why: str = "") -> None:
        self._over = True
        if why in _DEAD and self._transport is not None:
            self._transport.abort()  # a close frame would reach nobody
        elif self._protocol.state is State.OPEN:
            self._protocol.send_close(*_CLOSES.get(why, _CLOSES["idle"]))
            self._flush()
            if why == "flooding" and self._transport is not None:
                self._deaf = True
                self._transport.pause_reading()  # what it goes on sending costs nothing
        elif self._transport is not None:
            self._transport.close()
        if self._transport is not None:
            self.arm(connection.CLOSING_S, self._transport.abort)

    # --- keep-alive

    def keep(self) -> None:
        if not self._watched:
            self._watched = True
            self.watch()

    def watch(self) -> None:
        """Ping a client that was quiet for `keepalive_s`."""
        now = self._loop.time()
        quiet_s, ping_s = now - self._heard, self._entrance.config.keepalive_s
        if now - self._used >= connection.IDLE_S and not self._streams.is_used_by(self):
            self._streams.cut(self, "idle")
        elif quiet_s < ping_s:
            self.arm(ping_s - quiet_s, self.watch)
        else:
            self._protocol.send_ping(b"")
            self._flush()
            self.arm(connection.PONG_S, self._check_pong, now)

    def _check_pong(self, pinged: float) -> None:
        """Anything that came is a sign of life."""
        if self._heard < pinged:
            self._streams.cut(self, "no_pong")
        else:
            self.watch()

    # --- inside

    def _feed(self, data: bytes) -> None:
        protocol = self._protocol
        if protocol.state is State.CONNECTING:
            self._octets += len(data)
            if self._octets > MAX_UPGRADE_OCTETS:
                self._refuse("too_long")
                return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, HttpRequest):
                self._upgrade(event)
            elif isinstance(event, Frame):
                self._frame(event)
        if protocol.handshake_exc is not None and not self._over:
            self._refuse("malformed", _NO_REQUEST)

    def _upgrade(self, request: HttpRequest) -> None:
        if self._protocol.eof_sent:  # what it sent along with the request is no frame
            self._refuse("malformed", _NO_REQUEST)
            return
        hop = self.hop
        host, why = self._entrance.source(hop.link, hop.host, request.headers)
        self.hop = hop._replace(host=host)
        if why:
            status, text = ANSWERS[why]
            self._protocol.send_response(self._protocol.reject(status, f"{text}\n"))
            self._refuse(why)
            return
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        error = self._protocol.handshake_exc
        if error is None:
            self.arm(connection.SILENT_S, self._streams.cut, self, "silent")
        elif isinstance(error, InvalidOrigin):
            self._refuse("origin")
        elif isinstance(error, NegotiationError):
            self._refuse("subprotocol")
        elif isinstance(error, InvalidUpgrade):
            self._refuse("http")
        else:
            self._refuse("malformed")

    def _refuse(self, why: str, answer: bytes = b"") -> None:
        """No WebSocket comes of it; the client gets the library's answer, or this one."""
        self._over = self._deaf = True
        self._streams.refused(why)
        assert self._transport is not None
        self._transport.write(b"".join(self._protocol.data_to_send()) or answer)
        self._transport.close()
        self.arm(connection.CLOSING_S, self._transport.abort)

    def _frame(self, frame: Frame) -> None:
        if not self._allowance.take(self._entrance.config.messages_per_second, self._heard):
            if self._over:  # it was told so already
                self._deaf = True
            else:
                self._streams.cut(self, "flooding")
        elif not self._over and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._text = frame.opcode is Opcode.TEXT
            if frame.data:
                self._parts.append(bytes(frame.data))
            if frame.fin:
                data = b"".join(self._parts)
                self._parts.clear()
                self._receive(data)

    def _receive(self, data: bytes) -> None:
        """One whole message: SIP, or a keep-alive (RFC 5626 section 4.4.1)."""
        if self._text and not (data.isascii() or _is_utf8(data)):
            self._streams.cut(self, "malformed")
            return
        self._used = self._heard
        if not data.strip(b"\r\n"):
            if data == connection.PING and self._protocol.state is State.OPEN:
                self._protocol.send_text(connection.PONG)
            return
        try:
            message: Request | Response | MalformedMessage = parse(data)
        except MalformedMessage as error:
            message = error.with_traceback(None)  # whose frame is this one: a cycle
        self._streams.received(self, message)

    def _flush(self) -> None:
        """Write what the protocol wants to send; close when it has come to its end."""
        if self._transport is None or self._transport.is_closing():
            return
        octets = self._protocol.data_to_send()
        if not octets:
            return
        if data := b"".join(octets):
            self.write(data)
        if octets[-1]:
            return
        if not self._over:  # not by us: the client closes, or what it sent is no WebSocket frame
            self._over = True
            if self._protocol.close_rcvd is None:
                sent = self._protocol.close_sent
                why = _BY_CODE.get(CloseCode(sent.code), "malformed") if sent else "malformed"
                self._streams.cut(self, why)
        self._transport.close()
        self.arm(connection.CLOSING_S, self._transport.abort)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
