"""Typed values of SIP header fields (RFC 3261 section 20).

Each value parses leniently (white space where it may not be, display names without
quotes) and is written strictly. Parameters are ordered pairs; a flag has the value None.
"""

from __future__ import annotations

import re

from relay.errors import MalformedMessage
from relay.sip.uri import OtherUri, Params, SipUri, format_params, param_of, parse_uri

MOST_PARAMS = 64  # of one value: a message of nothing else would take long to read
TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_VIA = re.compile(
    r"([^\s/]+)[ \t]*/[ \t]*([^\s/]+)[ \t]*/[ \t]*([^\s/;,]+)[ \t]+"
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?:[ \t]*:[ \t]*([0-9]{1,5}))?[ \t]*(;.*)?",
    re.DOTALL,
)
_NEEDS_ESCAPE = re.compile(r'[\\"\x00-\x08\x0a-\x1f\x7f]')
_WS = " \t"


def split_list(value: str) -> list[str]:
    """The items of a comma list, honouring quoted strings and <URIs>; empty ones dropped."""
    if "," not in value:
        return [value]
    items = value.split(",") if '"' not in value and "<" not in value else _split(value, ",")
    return [item for item in [item.strip(_WS) for item in items] if item]


def _split(value: str, separator: str, strict: bool = False) -> list[str]:
    """Split at `separator` outside quotes and angle brackets.

    Raises MalformedMessage for a quoted string without end when `strict`.
    """
    items: list[str] = []
    start = 0
    quoted = bracketed = escaped = False
    for index, char in enumerate(value):
        if escaped:
            escaped = False
        elif quoted:
            if char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char == "<":
            bracketed = True
        elif char == ">":
            bracketed = False
        elif char == separator and not bracketed:
            items.append(value[start:index])
            start = index + 1
    if quoted and strict:
        raise MalformedMessage("quoted string without its closing quote")
    items.append(value[start:])
    return items


def parse_params(text: str) -> Params:
    """`;a=b;c` as pairs; empty parameters are skipped.

    Raises MalformedMessage for text that is no parameter list.
    """
    text = text.strip(_WS)
    if not text:
        return ()
    if text[0] != ";":
        raise MalformedMessage("text after a header value that is not a parameter")
    if text.count(";") > MOST_PARAMS:
        raise MalformedMessage(f"more than {MOST_PARAMS} parameters")
    found: list[tuple[str, str | None]] = []
    for item in text[1:].split(";") if '"' not in text else _split(text[1:], ";", True):
        name, equals, value = item.partition("=")
        name = name.strip(_WS)
        if not name:
            if equals:
                raise MalformedMessage("parameter without a name")
            continue
        if '"' in name or "," in name or " " in name:
            raise MalformedMessage("parameter name is not a token")
        found.append((name, value.strip(_WS) if equals else None))
    return tuple(found)


class NameAddr:
    """`"Display" <uri>;params`, the value of From, To, Contact, Route … (section 20.10).

    `display` is decoded (no quotes, no escapes); `tag` is that parameter, None when absent
    or empty. Immutable by convention.
    """

    __slots__ = ("_text", "display", "params", "tag", "uri")

    def __init__(self, display: str, uri: SipUri | OtherUri, params: Params = ()) -> None:
        self.display = display
        self.uri = uri
        self.params = params
        self.tag = (param_of(params, "tag") or None) if params else None
        self._text = ""  # made when first asked for: a dialog writes it into each request

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Raises MalformedMessage."""
        text = text.strip(_WS)
        display = ""
        if text[:1] == '"':
            display, end = _quoted(text)
            text = text[end:].lstrip(_WS)
            if text[:1] != "<":
                raise MalformedMessage("display name without <URI>")
        start = text.find("<")
        if start > 0:
            if ";" in text[:start] or ":" in text[:start]:
                start = -1  # the "<" is inside a parameter: an addr-spec without brackets
            else:
                display = text[:start].strip(_WS)
                if '"' in display:
                    raise MalformedMessage("unbalanced quotes in a display name")
        if start < 0:
            return _addr_spec(text)
        end = text.find(">", start)
        if end < 0:
            raise MalformedMessage("<URI without its closing >")
        uri = parse_uri(text[start + 1 : end].strip(_WS))
        return NameAddr(display, uri, parse_params(text[end + 1 :]))

    def __str__(self) -> str:
        if not self._text:
            shown = f'"{_NEEDS_ESCAPE.sub(_escape, self.display)}" ' if self.display else ""
            self._text = f"{shown}<{self.uri}>{format_params(self.params)}"
        return self._text

    def __repr__(self) -> str:
        return f"NameAddr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def param(self, name: str) -> str | None:
        """The value of a header parameter; "" for a flag, None when absent."""
        return param_of(self.params, name)

    def with_tag(self, tag: str | None) -> NameAddr:
        """A copy with that tag, or with none."""
        params = tuple(pair for pair in self.params if pair[0].lower() != "tag")
        if tag is not None:
            params = (*params, ("tag", tag))
        return NameAddr(self.display, self.uri, params)


def _addr_spec(text: str) -> NameAddr:
    # RFC 3261 section 20.10: without brackets every ";" belongs to the header, and a
    # URI that holds "?" or "," must be in brackets.
    uri, semicolon, rest = text.partition(";")
    uri = uri.strip(_WS)
    if "?" in uri or "," in uri:
        raise MalformedMessage("a URI with ? or , must stand in <>")
    return NameAddr("", parse_uri(uri), parse_params(semicolon + rest))


def _quoted(text: str) -> tuple[str, int]:
    """The decoded quoted string at the start of `text`, and the index after it."""
    end = text.find('"', 1)
    if end > 0 and "\\" not in text[:end]:
        return text[1:end], end + 1
    decoded: list[str] = []
    index = 1
    while index < len(text):
        char = text[index]
        if char == '"':
            return "".join(decoded), index + 1
        if char == "\\":
            index += 1
            if index == len(text):
                break
            char = text[index]
        decoded.append(char)
        index += 1
    raise MalformedMessage("quoted string without its closing quote")


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[0]


class Via:
    """One hop of a message's way back (RFC 3261 section 20.42).

    `transport` in upper case as on the wire; `host` without IPv6 brackets; `branch` is that
    parameter, None when absent or empty. Immutable by convention.
    """

    __slots__ = ("branch", "host", "params", "port", "transport")

    def __init__(self, transport: str, host: str, port: int | None, params: Params = ()) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.params = params
        self.branch = (param_of(params, "branch") or None) if params else None

    @staticmethod
    def parse(text: str) -> Via:
        """Raises MalformedMessage. The protocol version is not checked here."""
        match = _VIA.fullmatch(text.strip(_WS))
        if match is None:
            raise MalformedMessage("Via is malformed")
        _, _, transport, host, port_text, params = match.groups()
        port = None
        if port_text is not None:
            port = int(port_text)
            if port > 65535:
                raise MalformedMessage("port of a Via out of range")
        if host[0] == "[":
            host = host[1:-1]
        return Via(transport.upper(), host, port, parse_params(params) if params else ())

    def __str__(self) -> str:
        return f"SIP/2.0/{self.transport} {self.sent_by}{format_params(self.params)}"

    def __repr__(self) -> str:
        return f"Via({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def sent_by(self) -> str:
        """`host[:port]` as on the wire."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def received(self) -> str | None:
        """The address that the request came from, None when absent."""
        return param_of(self.params, "received") or None

    @property
    def rport(self) -> int | None:
        """RFC 3581: the source port; 0 when asked for but not filled in, None when absent."""
        value = param_of(self.params, "rport")
        if value is None:
            return None
        return int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0

    def with_params(self, **changes: str | None) -> Via:
        """A copy with those parameters replaced in place or added; None makes a flag."""
        left = dict(changes)
        params: list[tuple[str, str | None]] = []
        for name, value in self.params:
            key = name.lower()
            params.append((name, left.pop(key)) if key in left else (name, value))
        params.extend(left.items())
        return Via(self.transport, self.host, self.port, tuple(params))


class CSeq:
    """Sequence number (0 … 2**31 - 1) and method (RFC 3261 section 20.16)."""

    __slots__ = ("method", "number")

    def __init__(self, number: int, method: str) -> None:
        self.number = number
        self.method = method

    @staticmethod
    def parse(text: str) -> CSeq:
        """Raises MalformedMessage."""
        parts = text.split()
        if len(parts) != 2:
            raise MalformedMessage("CSeq is not a number and a method")
        return CSeq(parse_number(parts[0], 2**31 - 1, "CSeq"), parts[1])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"

    def __repr__(self) -> str:
        return f"CSeq({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CSeq) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.number, self.method))


def parse_number(text: str, largest: int, what: str) -> int:
    """A decimal number up to `largest`. Raises MalformedMessage that names `what`."""
    # Leading zeros are legal, so the length alone decides nothing; int() of thousands of
    # digits is refused by Python, hence the bound.
    if not (text.isascii() and text.isdigit()) or len(text) > 40 or int(text) > largest:
        raise MalformedMessage(f"{what} is not a number up to {largest}")
    return int(text)
