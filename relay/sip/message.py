"""SIP messages (RFC 3261 section 7): an ordered list of raw header fields and a body.

Text is UTF-8 decoded with surrogateescape, so every octet survives the way through.
Typed values are parsed when first read and kept for as long as the raw value stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from relay.errors import LocalProtocolError, MalformedMessage
from relay.sip.fields import Headers
from relay.sip.headers import CSeq, NameAddr, Via, parse_number, split_list
from relay.sip.reasons import REASONS

T = TypeVar("T")
_MAX_HOPS = 128  # Via, Route, Record-Route: more than Max-Forwards allows is an attack


_LONGEST_KEPT = 512  # characters: strangers may write 60,000, and none of them comes again


def _kept(parse: Callable[[str], T], places: int) -> Callable[[str], T]:
    """The messages of a dialog repeat their values, which are immutable once parsed.

    Few places: what is kept of calls that are over holds on to the memory around it.
    """
    known = lru_cache(maxsize=places)(parse)
    return lambda text: known(text) if len(text) <= _LONGEST_KEPT else parse(text)


_name_addr = _kept(NameAddr.parse, 512)
_cseq = _kept(CSeq.parse, 1024)


class Message:
    """What requests and responses share. Typed getters raise MalformedMessage."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers, body: bytes = b"") -> None:
        self.headers = headers
        self.body = body

    def _read(self, name: str, parse: Callable[[str], T]) -> T:
        """Parse a field for the first time; the getters look into `typed` before."""
        raw = self.headers.get(name)
        if raw is None:
            raise MalformedMessage(f"{name} is missing")
        value = self.headers.typed[name] = parse(raw)
        return value

    def read(self) -> list[str]:
        """Parse in one pass all that transactions and dialogs look at; the fields' names.

        Raises MalformedMessage for a bad value and for a mandatory one that is missing.
        """
        names: list[str] = []
        typed = self.headers.typed
        for name, raw in self.headers.raw:
            names.append(name)
            parse = _PARSERS.get(name)
            if parse is not None and name not in typed:
                typed[name] = parse(raw)
        for name in _MANDATORY:
            if name not in typed:
                raise MalformedMessage(f"{name} is missing")
        return names

    @property
    def call_id(self) -> str:
        """Call-ID, compared octet by octet."""
        return self.headers.typed.get("Call-ID") or self._read("Call-ID", _not_empty)

    @property
    def cseq(self) -> CSeq:
        return self.headers.typed.get("CSeq") or self._read("CSeq", _cseq)

    @property
    def from_(self) -> NameAddr:
        return self.headers.typed.get("From") or self._read("From", _name_addr)

    @property
    def to(self) -> NameAddr:
        return self.headers.typed.get("To") or self._read("To", _name_addr)

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return self.headers.typed.get("Via") or self._read("Via", _first_via)

    @property
    def vias(self) -> list[Via]:
        """Every Via, topmost first."""
        values = self.headers.all("Via")
        return [self.via] if len(values) == 1 else [Via.parse(v) for v in _bounded(values)]

    def replace_via(self, via: Via) -> None:
        """Write `via` over the topmost one; those below stay."""
        raw = self.headers.get("Via") or ""
        rest = split_list(raw)[1:] if "," in raw else []
        value = ", ".join([str(via), *rest])
        self.headers.replace_first("Via", value)
        self.headers.typed["Via"] = via

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when absent or `*`."""
        typed = self.headers.typed
        if "Contact" in typed:
            found: NameAddr | None = typed["Contact"]
            return found
        return self._read("Contact", _first_contact) if "Contact" in self.headers else None

    @property
    def routes(self) -> list[NameAddr]:
        """Route values, topmost first."""
        return [_name_addr(value) for value in _bounded(self.headers.all("Route"))]

    @property
    def record_routes(self) -> list[NameAddr]:
        """Record-Route values, topmost first."""
        if "Record-Route" not in self.headers:
            return []
        values = _bounded(self.headers.all("Record-Route"))
        return [_name_addr(value) for value in values]

    @property
    def content_type(self) -> str | None:
        """`type/subtype` in lower case without parameters."""
        value = self.headers.get("Content-Type")
        return value.partition(";")[0].strip().lower() if value else None

    def start_line(self) -> str:
        """The first line without CRLF."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """The message as sent; Content-Length is written from `body`.

        Raises LocalProtocolError when a value would break out of its line.
        """
        lines = [f"{n}: {v}\r\n" for n, v in self.headers.raw if n != "Content-Length"]
        head = f"{self.start_line()}\r\n{''.join(lines)}Content-Length: {len(self.body)}\r\n\r\n"
        breaks = len(lines) + 3
        if head.count("\n") != breaks or head.count("\r") != breaks:
            raise LocalProtocolError("a line break inside a start line or header value")
        return head.encode("utf-8", "surrogateescape") + self.body

    def __eq__(self, other: object) -> bool:
        """Same start line, header fields apart from Content-Length, and body."""
        return (
            isinstance(other, Message)
            and self.start_line() == other.start_line()
            and self.body == other.body
            and [f for f in self.headers.items() if f[0] != "Content-Length"]
            == [f for f in other.headers.items() if f[0] != "Content-Length"]
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        # Numbers and names of people stay out of logs and tracebacks.
        return f"<{type(self).__name__} {self.headers.get('CSeq')}>"


def _bounded(values: list[str]) -> list[str]:
    if len(values) > _MAX_HOPS:
        raise MalformedMessage("too many hops")
    return values


def _not_empty(raw: str) -> str:
    if not raw:
        raise MalformedMessage("Call-ID is missing")
    return raw


def _first_contact(raw: str) -> NameAddr | None:
    first = raw if "," not in raw else _first(raw)
    return None if first == "*" else _name_addr(first)


def _first_via(raw: str) -> Via:
    return Via.parse(raw if "," not in raw else _first(raw))


_PARSERS: dict[str, Callable[[str], object]] = {
    "Via": _first_via,
    "From": _name_addr,
    "To": _name_addr,
    "Call-ID": _not_empty,
    "CSeq": _cseq,
    "Contact": _first_contact,
}
_MANDATORY = ("Via", "From", "To", "Call-ID", "CSeq")  # RFC 3261 section 8.1.1


def _first(raw: str) -> str:
    if "," not in raw:
        return raw
    items = split_list(raw)
    if not items:
        raise MalformedMessage("empty list")
    return items[0]


class Request(Message):
    """A request. `uri` is the raw Request-URI; `version` is "2.0" unless a peer erred."""

    __slots__ = ("method", "uri", "version")

    def __init__(
        self, method: str, uri: str, headers: Headers, body: bytes = b"", version: str = "2.0"
    ) -> None:
        self.headers = headers
        self.body = body
        self.method = method
        self.uri = uri
        self.version = version

    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/{self.version}"

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, None when absent (RFC 2543 peers)."""
        raw = self.headers.get("Max-Forwards")
        return None if raw is None else parse_number(raw, 255, "Max-Forwards")

    def response(
        self, status: int, reason: str | None = None, to_tag: str | None = None
    ) -> Response:
        """A response as RFC 3261 section 8.2.6 builds it.

        Via, From, To, Call-ID and CSeq are copied; `to_tag` is added when To has none;
        Record-Route goes into 101 to 299, Timestamp into 100. A To that cannot be read is
        copied as it is, so that a 400 is possible.
        """
        copied = _COPIED
        if status == 100:
            copied = _COPIED_TO_TRYING
        elif status < 300:
            copied = _COPIED_IN_DIALOG
        fields = [field for field in self.headers.raw if field[0] in copied]
        if to_tag is not None and self._may_add_tag():
            fields = [
                (name, f"{value};tag={to_tag}") if name == "To" else (name, value)
                for name, value in fields
            ]
        return Response(status, reason, Headers.of_canonical(fields))

    def _may_add_tag(self) -> bool:
        try:
            return self.to.tag is None
        except MalformedMessage:
            return False


_COPIED = frozenset(("Via", "From", "To", "Call-ID", "CSeq"))
_COPIED_TO_TRYING = _COPIED | {"Timestamp"}
_COPIED_IN_DIALOG = _COPIED | {"Record-Route"}


class Response(Message):
    """A response. Without `reason` the phrase of RFC 3261 section 21 is used."""

    __slots__ = ("reason", "status")

    def __init__(
        self, status: int, reason: str | None, headers: Headers, body: bytes = b""
    ) -> None:
        self.headers = headers
        self.body = body
        self.status = status
        self.reason = REASONS.get(status, "") if reason is None else reason

    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"
