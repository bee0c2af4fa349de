"""SIP and other URIs (RFC 3261 section 19.1).

Lenient in, strict out: a URI parses when its parts can be told apart, and `str()` writes
the canonical form. Escapes (`%41`) are kept as received; only comparison decodes them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from relay.errors import MalformedMessage

Params = tuple[tuple[str, str | None], ...]

# userinfo may hold ";", "?" and "/", so "@" decides; the host decides where it ends.
_SIP = re.compile(
    r"([Ss][Ii][Pp][Ss]?):"
    r"(?:([^@\x00-\x20<>\"]*)@)?"
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::([0-9]{1,5}))?"
    r"((?:;[^;?@\x00-\x20<>\"]+)*)"
    r"(?:\?([^@\x00-\x20<>\"]*))?"
)
_OTHER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):([^\x00-\x20<>\"]+)")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")

# Parameters that never match when only one URI has them (RFC 3261 section 19.1.4).
_DECISIVE = ("user", "ttl", "method", "maddr", "transport")


def param_of(params: Params, name: str) -> str | None:
    """The value of parameter `name` (lower case); "" for a flag, None when absent."""
    for key, value in params:
        if key == name or key.lower() == name:
            return value if value is not None else ""
    return None


def format_params(params: Params) -> str:
    """`;name=value;flag`, or "" for none."""
    if not params:
        return ""
    return "".join([f";{k}" if v is None else f";{k}={v}" for k, v in params])


class SipUri(NamedTuple):
    """A `sip:` or `sips:` URI. `host` holds an IPv6 address without brackets.

    `headers` is the raw text after "?", which is never acted upon. (A named tuple is made
    in a third of the time of a frozen dataclass, and every message makes several.)
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""

    @staticmethod
    def parse(text: str) -> SipUri:
        """Raises MalformedMessage."""
        match = _SIP.fullmatch(text)
        if match is None:
            raise MalformedMessage("not a SIP URI")
        scheme, user, host, port_text, param_text, headers = match.groups()
        password = None
        if user is not None and ":" in user:
            user, _, password = user.partition(":")
        if user == "":
            raise MalformedMessage("SIP URI with an empty user")
        if host[0] == "[":
            host = host[1:-1]
        port = None
        if port_text is not None:
            port = int(port_text)
            if port > 65535:
                raise MalformedMessage("port of a SIP URI out of range")
        return SipUri(
            scheme.lower(),
            user,
            password,
            host,
            port,
            _split_params(param_text) if param_text else (),
            headers or "",
        )

    def __str__(self) -> str:
        user = ""
        if self.user is not None:
            user = self.user + (f":{self.password}" if self.password is not None else "") + "@"
        params = format_params(self.params) if self.params else ""
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host_port}{params}{headers}"

    @property
    def host_port(self) -> str:
        """`host[:port]` as written in a URI or Via, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def transport(self) -> str | None:
        """The transport parameter in lower case, or None."""
        value = param_of(self.params, "transport") if self.params else None
        return value.lower() if value else None

    def param(self, name: str) -> str | None:
        """The value of a URI parameter; "" for a flag such as `lr`, None when absent."""
        return param_of(self.params, name)

    def replace(self, **changes: Any) -> SipUri:
        """A copy with some parts changed."""
        return self._replace(**changes)

    def matches(self, other: object) -> bool:
        """Equality of RFC 3261 section 19.1.4, which is not transitive."""
        if not isinstance(other, SipUri):
            return False
        return (
            self.scheme == other.scheme
            and _decoded(self.user) == _decoded(other.user)
            and _decoded(self.password) == _decoded(other.password)
            and self.host.lower() == other.host.lower()
            and self.port == other.port
            and _params_match(self.params, other.params)
            and _header_set(self.headers) == _header_set(other.headers)
        )


DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}


def transport_to(uri: SipUri) -> str:
    """How requests to `uri` travel: `sips:` is TLS (RFC 3261 section 26.2.2)."""
    if uri.scheme == "sips":
        return "wss" if uri.transport in ("ws", "wss") else "tls"
    return uri.transport or "udp"


class OtherUri(NamedTuple):
    """A URI of any other scheme (`tel:`, `urn:` …), kept as it is."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"

    def matches(self, other: object) -> bool:
        """Scheme and text are the same."""
        return self == other


def parse_uri(text: str) -> SipUri | OtherUri:
    """Any URI. Raises MalformedMessage when there is no scheme or a bad SIP URI."""
    if text[:4].lower() in ("sip:", "sips"):
        return SipUri.parse(text)
    match = _OTHER.fullmatch(text)
    if match is None:
        raise MalformedMessage("not a URI")
    return OtherUri(match[1].lower(), match[2])


def _split_params(text: str) -> Params:
    # `text` starts with ";" and the pattern admits no empty parameter.
    found: list[tuple[str, str | None]] = []
    for item in text[1:].split(";"):
        name, equals, value = item.partition("=")
        if not name:
            raise MalformedMessage("URI parameter without a name")
        found.append((name, value if equals else None))
    return tuple(found)


def _decoded(text: str | None) -> str | None:
    if text is None or "%" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def _params_match(ours: Params, theirs: Params) -> bool:
    mine = {(_decoded(k) or "").lower(): (_decoded(v) or "").lower() for k, v in ours}
    yours = {(_decoded(k) or "").lower(): (_decoded(v) or "").lower() for k, v in theirs}
    if any(mine[key] != yours[key] for key in mine.keys() & yours.keys()):
        return False
    return all((key in mine) == (key in yours) for key in _DECISIVE)


def _header_set(text: str) -> list[str]:
    return sorted((_decoded(item) or "").lower() for item in text.split("&")) if text else []
