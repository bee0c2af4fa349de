"""The models of a region's configuration file; `reading` reads one.

Units are in the names. Every model is frozen, forbids unknown keys, and describes what
this version serves; what a later version will serve and this one must not pretend to
(TLS, SRTP, credentials) is a mistake that says so.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from relay.errors import MalformedMessage
from relay.sip.uri import SipUri

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
RecordingMode = Literal[
    "do-not-record",
    "record-from-ringing",
    "record-from-answer",
    "record-from-ringing-dual",
    "record-from-answer-dual",
]
TRANSPORTS = ("udp", "tcp")
LATER_TRANSPORTS = ("tls", "ws", "wss")
SIP_PORT = 5060
LATER = "is not supported by this version"

_LISTEN = re.compile(r"([a-z]+):(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_PORTS = re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


def _address(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address") from None
    return value


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value!r} is not a network such as 192.0.2.0/24") from None
        raise ValueError(f"{value!r} has bits beyond its prefix: did you mean {meant}?") from None


Address = Annotated[str, BeforeValidator(_address)]
NetworkText = Annotated[Network, BeforeValidator(_network)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=86400)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """Frozen, and no key is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Region(Section):
    """One legal territory: `networks` are the addresses inside it."""

    id: Name
    jurisdiction: Annotated[str, Field(min_length=1)]
    networks: Annotated[tuple[NetworkText, ...], Field(min_length=1)]


class Listen(Section):
    """One listening socket, written `udp:192.0.2.1:5060` or `tcp:[2001:db8::1]:5060`."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"

    @staticmethod
    def parse(text: str) -> Listen:
        """Raises ValueError with an explanation."""
        match = _LISTEN.fullmatch(text)
        if match is None:
            near = "udp:[2001:db8::1]:5060" if text.count(":") > 3 else "udp:192.0.2.1:5060"
            raise ValueError(f"{text!r} is not of the form {near}")
        transport, host, port_text = match.groups()
        if transport in LATER_TRANSPORTS:
            raise ValueError(f"{transport}: {LATER}; only udp: and tcp: are")
        if transport not in TRANSPORTS:
            raise ValueError(f"{transport}: is no transport; udp: and tcp: are")
        port = SIP_PORT if port_text is None else int(port_text)
        if not 0 < port < 65536:
            raise ValueError(f"{text!r}: the port is not 1 to 65535")
        return Listen(transport=transport, host=_address(host.strip("[]")), port=port)


def _listen(value: Any) -> Any:
    return Listen.parse(value) if isinstance(value, str) else value


class Sip(Section):
    """Signalling. `advertise` is the address that peers see in place of our own."""

    listen: Annotated[tuple[Annotated[Listen, BeforeValidator(_listen)], ...], Field(min_length=1)]
    advertise: Address | None = None
    drain_s: Annotated[float, Field(strict=True, ge=0, le=86400)] = 5.0


class Media(Section):
    """The engine. `ports` is the first and the last UDP port, both included."""

    address: Address
    advertise: Address | None = None
    address_ipv6: Address | None = None
    ports: tuple[int, int] = (20000, 39999)
    workers: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    idle_timeout_s: Seconds = 60.0

    @field_validator("ports", mode="before")
    @classmethod
    def _parse_ports(cls, value: Any) -> Any:
        if not isinstance(value, str):
            if isinstance(value, tuple):
                return value
            raise ValueError('is written as text: ports = "20000-39999"')
        match = _PORTS.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not a range such as 20000-39999")
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise ValueError(f"{value!r} ends before it begins: did you mean {last}-{first}?")
        if first < 1024 or last > 65535:
            raise ValueError(f"{value!r} is not within 1024-65535")
        if last - first < 3:
            raise ValueError(f"{value!r} is too small: one call needs four ports")
        return first, last

    @property
    def calls_that_fit(self) -> int:
        """Four ports a call: RTP and RTCP for each leg."""
        first, last = self.ports
        return (last - first + 1) // 4


class Recording(Section):
    """Where recordings go: `file:DIRECTORY`, relative to the working directory."""

    store: str = "file:var/recordings"

    @field_validator("store")
    @classmethod
    def _check_store(cls, value: str) -> str:
        if value.startswith("s3:"):
            raise ValueError(f"s3: {LATER}; use file:DIRECTORY inside the region")
        if not value.removeprefix("file:") or not value.startswith("file:"):
            near = f": did you mean 'file:{value}'?" if value and ":" not in value else ""
            raise ValueError(f"{value!r} is not of the form file:DIRECTORY{near}")
        return value


class Database(Section):
    """Accepted for later versions; not used yet."""

    url: str


class Http(Section):
    """Accepted for later versions; not used yet."""

    listen: str


class Log(Section):
    """How events are written: one line each, to standard error."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Origination(Section):
    """Where a trunk's calls are sent: the lowest priority first, then by weight."""

    uri: str
    priority: Annotated[int, Field(strict=True, ge=0, le=65535)] = 10
    weight: Annotated[int, Field(strict=True, ge=1, le=65535)] = 10
    enabled: Annotated[bool, Field(strict=True)] = True

    @property
    def sip_uri(self) -> SipUri:
        return SipUri.parse(self.uri)

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, value: str) -> str:
        try:
            uri = SipUri.parse(value)
        except MalformedMessage:
            raise ValueError(f"{value!r} is not a SIP URI such as sip:192.0.2.1:5060") from None
        if uri.scheme == "sips" or uri.transport in LATER_TRANSPORTS:
            raise ValueError(f"TLS {LATER}: use sip: with ;transport=udp or tcp")
        if uri.transport not in (None, *TRANSPORTS):
            raise ValueError(f"transport {uri.transport!r} is not udp or tcp")
        if uri.user is not None or uri.headers:
            raise ValueError("an origination URI is an address only: the called number is added")
        if uri.port == 0:
            raise ValueError("the port is not 1 to 65535")
        try:
            ipaddress.ip_address(uri.host)
        except ValueError:
            raise ValueError(
                f"{uri.host!r} is a name, which may come to mean a place outside the region: "
                "use its IP address"
            ) from None
        return value


class Credential(Section):
    """The shape of a later version's digest credential; see `secret`."""

    username: str
    password: str


class Trunk(Section):
    """A SIP peer: a customer's PBX or a carrier."""

    name: Name
    allow: tuple[NetworkText, ...] = ()
    origination: Annotated[tuple[Origination, ...], Field(max_length=10)] = ()
    secure: Annotated[bool, Field(strict=True)] = False
    srtp: Literal["off", "optional", "required"] = "off"
    credentials: tuple[Credential, ...] = ()
    recording: RecordingMode = "do-not-record"
    calls_per_second: Annotated[float, Field(strict=True, gt=0, le=100000)] = 10.0
    concurrent_calls: Count = 100
    symmetric_rtp: Annotated[bool, Field(strict=True)] = False

    @field_validator("secure")
    @classmethod
    def _not_secure_yet(cls, value: bool) -> bool:
        if value:
            raise ValueError(f"true {LATER}: its calls would not be encrypted")
        return value

    @field_validator("srtp")
    @classmethod
    def _no_srtp_yet(cls, value: str) -> str:
        if value == "required":
            raise ValueError(f"'required' {LATER}: its media would not be encrypted")
        return value

    @field_validator("credentials")
    @classmethod
    def _no_credentials_yet(cls, value: tuple[Credential, ...]) -> tuple[Credential, ...]:
        if value:
            raise ValueError(f"{LATER}: nobody would be asked for the password; use allow")
        return value


class Route(Section):
    """Calls of trunk `from` to `number` go to trunk `to`.

    `number` is exact (`+35315550100`), a prefix (`+353*`), any number (`+*`), anything
    (`*`), or the literal name of a service.
    """

    from_: Annotated[str, Field(alias="from")]
    number: Annotated[str, Field(min_length=1)]
    to: str

    @field_validator("number")
    @classmethod
    def _check_number(cls, value: str) -> str:
        stem = value.removesuffix("*")
        if "*" in stem:
            raise ValueError(f"{value!r}: * stands only at the end")
        if value.startswith("+") and not re.fullmatch(r"\+[0-9]{0,15}", stem):
            raise ValueError(
                f"{value!r} is not + and up to 15 digits, with or without * at the end"
            )
        if value == "+":
            raise ValueError("'+' matches nothing: did you mean '+*'?")
        return value


class Config(Section):
    """One region as one node serves it."""

    region: Region
    sip: Sip
    media: Media
    recording: Recording = Recording()
    database: Database | None = None
    http: Http | None = None
    log: Log = Log()
    trunk: Annotated[tuple[Trunk, ...], Field(min_length=1)]
    route: tuple[Route, ...] = ()

    @property
    def concurrent_calls(self) -> int:
        """The most calls that the trunks' limits allow at once: a call counts on both."""
        limits = [trunk.concurrent_calls for trunk in self.trunk]
        if any(route.from_ == route.to for route in self.route):
            return sum(limits)
        return min(sum(limits) // 2, sum(limits) - max(limits))


def secret(text: str, environment: Mapping[str, str]) -> str:
    """A secret of the file: `env:NAME` is looked up, anything else is the secret itself.

    Raises ValueError that names the variable, never its value.
    """
    match = _ENVIRONMENT.fullmatch(text)
    if match is None:
        if text.startswith("env:"):
            raise ValueError("env: is followed by the name of an environment variable")
        return text
    value = environment.get(match[1], "")
    if not value:
        raise ValueError(f"the environment variable {match[1]} is not set")
    return value
