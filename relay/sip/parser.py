"""Octets to SIP messages (RFC 3261 sections 7 and 18.3), and what to answer to bad ones.

Three steps, each cheap to leave: framing and header lines here; typed values when they
are first read; `validate` for requests that open a transaction. The parser raises only
MalformedMessage.
"""

from __future__ import annotations

import re
from functools import lru_cache

from relay.errors import MalformedMessage
from relay.sip.fields import Headers
from relay.sip.headers import TOKEN, parse_number
from relay.sip.message import Message, Request, Response
from relay.sip.names import CANONICAL
from relay.sip.uri import SipUri, parse_uri

# The look-behind keeps long runs of spaces linear: they are tried from their start only.
_FOLD = re.compile(r"(?:(?<![ \t])[ \t]+)?(?:\r\n[ \t]+)+")
_VERSION = re.compile(r"[Ss][Ii][Pp]/([0-9]{1,5}\.[0-9]{1,5})")
_FIRST_LINE_OCTETS = 8192
_MAX_FIELDS = 512  # bounds every later walk over the header fields
_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Type")


def parse(data: bytes) -> Request | Response:
    """The message of one datagram.

    Octets beyond Content-Length are dropped (RFC 3261 section 18.3). Raises
    MalformedMessage, which carries the request when a 400 can be answered.
    """
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        message, problem = _parse_head(data[:end])
        body = data[end + 4 :]
    elif data.endswith(b"\r\n"):
        # The blank line is missing: harmless only if the sender said that no body follows.
        message, problem = _parse_head(data[:-2])
        body = b""
        if message.headers.get("Content-Length") != "0":
            problem = problem or "header section does not end"
    else:
        raise MalformedMessage("header section does not end")
    if problem is None:
        try:
            length = _content_length(message.headers)
        except MalformedMessage as error:
            problem = str(error)
        else:
            if length is None or length == len(body):
                message.body = body
                return message
            if length < len(body):
                message.body = body[:length]
                return message
            problem = "body is shorter than Content-Length"
    raise MalformedMessage(problem, _answerable(message))


def _parse_head(head: bytes) -> tuple[Request | Response, str | None]:
    """The message without body, and the first problem of its header lines.

    Raises MalformedMessage when the start line is not SIP at all.
    """
    text = head.decode("utf-8", "surrogateescape")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n")
    breaks = len(lines) - 1
    problem: str | None = None
    if text.count("\r") != breaks or text.count("\n") != breaks:
        # A lone CR or LF is a line end to some other element: never let one through.
        raise MalformedMessage("CR or LF that is not part of CRLF")
    if breaks > _MAX_FIELDS:
        raise MalformedMessage("too many header fields")
    fields: list[tuple[str, str]] = []
    message = _parse_start_line(lines[0], Headers.of_canonical(fields))
    known = CANONICAL
    for index in range(1, breaks + 1):
        name, colon, value = lines[index].partition(":")
        canonical = known.get(name)
        if canonical is None:
            name = name.rstrip(" \t")
            canonical = known.get(name) or known.get(name.lower()) or name
            if not colon or TOKEN.fullmatch(name) is None:
                problem = problem or "header line without a name and a colon"
                continue
        elif not colon:
            problem = problem or "header line without a colon"
            continue
        fields.append((canonical, value.strip(" \t")))
    return message, problem


def _parse_start_line(line: str, headers: Headers) -> Request | Response:
    if line[:4].upper() == "SIP/":
        return _parse_status_line(line, headers)
    method, _, rest = line.strip(" \t").partition(" ")
    uri, _, version = rest.rpartition(" ")
    uri = uri.strip(" \t")
    if version == "SIP/2.0":
        number = "2.0"
    else:
        match = _VERSION.fullmatch(version)
        if match is None:
            raise MalformedMessage("start line without a SIP version")
        number = match[1]
    if not uri or TOKEN.fullmatch(method) is None:
        raise MalformedMessage("start line without a method and a URI")
    return Request(method, uri, headers, b"", number)


def _parse_status_line(line: str, headers: Headers) -> Response:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    if version.upper() != "SIP/2.0":
        raise MalformedMessage("response of another SIP version")
    if len(code) != 3 or not (code.isascii() and code.isdigit()) or not "100" <= code < "700":
        raise MalformedMessage("status code is not 100 to 699")
    return Response(int(code), reason, headers)


def _content_length(headers: Headers) -> int | None:
    found: str | None = None
    for name, value in headers.items():
        if name == "Content-Length":
            if found is not None and value != found:
                raise MalformedMessage("more than one Content-Length")
            found = value
    return None if found is None else _length(found)


@lru_cache(maxsize=1024)
def _length(text: str) -> int:
    return parse_number(text, 2**31, "Content-Length")


def _answerable(message: Message) -> Request | None:
    """`message` when a 400 can be sent back for it (RFC 3261 section 8.2.6)."""
    if not isinstance(message, Request) or message.method == "ACK":
        return None
    try:
        _ = (message.via, message.from_, message.to, message.cseq, message.call_id)
    except MalformedMessage:
        return None
    return message


def validate(request: Request, supported: frozenset[str] = frozenset()) -> int | None:
    """The status to refuse a request with before any transaction user sees it, or None.

    505 version, 400 syntax, 416 URI scheme, 420 a required extension not in `supported`
    (answer with Unsupported), 483 an INVITE that may go no further. The order is that of
    RFC 3261 section 8.2. An ACK is never answered: drop it when this is not None.
    """
    if request.version != "2.0":
        return 505
    try:
        names = request.read()
        present = set(names)
        if len(present) < len(names) and any(names.count(name) > 1 for name in _SINGLE):
            return 400
        if len(present) < len(names) or "," in (request.headers.get("Via") or ""):
            _ = request.vias
        if "Record-Route" in present:
            _ = request.record_routes
        if request.cseq.method != request.method:
            return 400
        hops = request.max_forwards
        uri = parse_uri(request.uri)
    except MalformedMessage:
        return 400
    if not isinstance(uri, SipUri):
        return 416
    if uri.headers:
        return 400  # RFC 3261 section 19.1.1: not in a Request-URI
    if hops == 0 and request.method == "INVITE" and request.to.tag is None:
        return 483  # only what would be sent on; RFC 3261 section 16.3
    if "Require" in present and request.method not in ("ACK", "CANCEL"):
        return 420 if unsupported(request, supported) else None
    return None


def unsupported(request: Request, supported: frozenset[str]) -> list[str]:
    """The option tags of Require that are not in `supported` (RFC 3261 section 8.2.2.3)."""
    return [tag for tag in request.headers.all("Require") if tag.lower() not in supported]


class KeepAlive:
    """A double CRLF between messages: the peer asks for a CRLF back (RFC 5626 section 4.4.1)."""

    __slots__ = ()


class Pong:
    """The CRLF that answers a ping of ours."""

    __slots__ = ()


Item = Request | Response | KeepAlive | Pong | MalformedMessage


class StreamParser:
    """Messages out of a byte stream (RFC 3261 section 18.3: Content-Length is required).

    A message that is malformed inside a sound frame comes out as MalformedMessage and the
    stream goes on. When the frame itself is lost, the last item is a MalformedMessage and
    `broken` is True: answer it if it carries a request, then close the connection.

    With `awaits_pong` a single CRLF between messages is the answer to a ping.
    """

    __slots__ = (
        "_buffer",
        "_length",
        "_max_octets",
        "_message",
        "_problem",
        "_scanned",
        "awaits_pong",
        "broken",
    )

    def __init__(self, max_octets: int = 65536) -> None:
        self.broken = False
        self.awaits_pong = False
        self._max_octets = max_octets
        self._buffer = bytearray()
        self._scanned = 0  # octets known not to hold the end of the header section
        self._message: Request | Response | None = None  # head parsed, body awaited
        self._problem: str | None = None
        self._length = 0

    def feed(self, data: bytes) -> list[Item]:
        """What `data` completed, in order. Raises MalformedMessage once `broken`."""
        if self.broken:
            raise MalformedMessage("the stream is broken")
        self._buffer += data
        found: list[Item] = []
        try:
            while True:
                item = self._next()
                if item is None:
                    return found
                found.append(item)
        except MalformedMessage as error:
            self.broken = True
            self._buffer.clear()
            found.append(error.with_traceback(None))  # whose frame has the list: a cycle
            return found

    def _next(self) -> Item | None:
        if self._message is None:
            if self._buffer[:1] == b"\r" and (alive := self._take_line_end()) is not None:
                return alive
            if not self._take_head():
                return None
        message = self._message
        assert message is not None
        if len(self._buffer) < self._length:
            return None
        message.body = bytes(self._buffer[: self._length])
        del self._buffer[: self._length]
        self._message = None
        if self._problem is not None:
            return MalformedMessage(self._problem, _answerable(message))
        return message

    def _take_line_end(self) -> KeepAlive | Pong | None:
        """Drop CRLF before a start line, and say what it was."""
        buffer = self._buffer
        if buffer[:4] == b"\r\n\r\n":
            del buffer[:4]
            return KeepAlive()
        if self.awaits_pong and buffer[:2] == b"\r\n":
            self.awaits_pong = False
            del buffer[:2]
            return Pong()
        if len(buffer) > 2 and buffer[:2] == b"\r\n" and buffer[2] != 13:
            del buffer[:2]  # padding after the last message
        return None

    def _take_head(self) -> bool:
        """Parse the header section once it is complete. Raises when the frame is lost."""
        buffer = self._buffer
        if b"\r\n\r\n".startswith(buffer):
            return False
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            self._refuse_garbage()
            return False
        if end > self._max_octets:
            raise MalformedMessage("message is too large")
        message, self._problem = _parse_head(bytes(buffer[:end]))
        del buffer[: end + 4]
        self._scanned = 0
        try:
            length = _content_length(message.headers)
        except MalformedMessage as error:
            raise MalformedMessage(str(error), _answerable(message)) from None
        if length is None:
            raise MalformedMessage("Content-Length is missing", _answerable(message))
        if end + 4 + length > self._max_octets:
            raise MalformedMessage("message is too large", _answerable(message))
        self._message = message
        self._length = length
        return True

    def _refuse_garbage(self) -> None:
        """Cut off what cannot become SIP, before it fills the memory."""
        buffer = self._buffer
        if not 0x21 <= buffer[0] < 0x7F:  # a TLS handshake, mostly
            raise MalformedMessage("not SIP")
        line_end = buffer.find(b"\r\n")
        if len(buffer) > self._max_octets or (line_end < 0 and len(buffer) > _FIRST_LINE_OCTETS):
            raise MalformedMessage("message is too large")
        if line_end >= 0 and b"SIP/" not in buffer[:line_end].upper():
            raise MalformedMessage("not SIP")
