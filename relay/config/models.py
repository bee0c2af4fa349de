"""The models of a region's configuration file; `reading` reads one, `trunk` has the peers.

Every model is frozen, forbids unknown keys, and describes what this version serves; what a
later version will serve and this one must not pretend to is a mistake that says so.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from relay.config.account import Account
from relay.config.kept import S3, Access, Audit, Keys
from relay.config.trunk import WEB_TRANSPORTS, Route, Trunk
from relay.config.values import (
    Address,
    Count,
    Name,
    NetworkText,
    Rate,
    Seconds,
    Secret,
    Section,
    Switch,
    address,
    host_port,
    server_address,
)
from relay.sip.uri import DEFAULT_PORTS

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
# A leg's own: they make its dialog, its transactions and what it offers, name its
# addresses or its passwords, or carry an identity under rules of their own.
NEVER_PASSED = frozenset(
    """Allow Allow-Events Authentication-Info Authorization Call-ID Contact Content-Length
    Content-Type CSeq Diversion Event Expires From History-Info Identity In-Reply-To Join
    Max-Forwards Min-Expires Min-SE P-Asserted-Identity P-Preferred-Identity Path Privacy
    Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route Refer-Sub
    Refer-To Referred-By Remote-Party-ID Replaces Reply-To Require Retry-After Route RSeq
    Service-Route Session-Expires SIP-ETag SIP-If-Match Subscription-State Supported
    Target-Dialog To Unsupported Via Warning WWW-Authenticate""".lower().split()
)
_LISTEN = re.compile(r"([a-z]+):(\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\]|[^:\[\]]+)(?::(\d{1,5}))?")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::\d{1,5})?|https?://\[[0-9a-f:]+\](?::\d{1,5})?")
_DEFAULT_PORT = re.compile(r"https:.*:0*443|http:.*:0*80")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9_./-]*)?")
_PORTS = re.compile(r"(\d{1,5})\s*-\s*(\d{1,5})")


class Region(Section):
    """One legal territory: `networks` are the addresses inside it."""

    id: Name
    jurisdiction: Annotated[str, Field(min_length=1)]
    networks: Annotated[tuple[NetworkText, ...], Field(min_length=1)]
    # Who answers for it: the contracting entity, as exports and reports name it.
    entity: str = ""
    # Off: a dry run, which only counts what would be refused.
    enforce: Switch = True
    # The public key (PEM, Ed25519) of who signs the manifest: with it, an unsigned or changed
    # one does not start. `manifest` is the signed file.
    signing_key: str | None = None
    manifest: str | None = None


class Listen(Section):
    """One listening socket, written `udp:192.0.2.1:5060` or `tcp:[2001:db8::1]:5060`."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}:{host_port(self.host, self.port)}"

    @staticmethod
    def parse(text: str) -> Listen:
        """Raises ValueError with an explanation."""
        match = _LISTEN.fullmatch(text)
        if match is None:
            near = "udp:[2001:db8::1]:5060" if text.count(":") > 3 else "udp:192.0.2.1:5060"
            raise ValueError(f"{text!r} is not of the form {near}")
        transport, host, port_text = match.groups()
        if transport not in DEFAULT_PORTS:
            raise ValueError(f"{transport}: is no transport; udp:, tcp:, tls:, ws: and wss: are")
        default = DEFAULT_PORTS[transport]
        port = default if port_text is None else int(port_text)
        if not 0 < port < 65536:
            raise ValueError(f"{text!r}: the port is not 1 to 65535")
        return Listen(transport=transport, host=address(host.strip("[]")), port=port)


def _listen(value: Any) -> Any:
    return Listen.parse(value) if isinstance(value, str) else value


class Tls(Section):
    """Our certificate and key (PEM files, read again when they change), and whom we trust.

    `ca` is a file of authorities; without it the system's are trusted. To call over TLS
    neither certificate nor key is needed, to listen both are.
    """

    certificate: str | None = None
    key: str | None = None
    ca: str | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: one of them is missing")
        return self


class Dns(Section):
    """Who is asked for names, `address` or `address:port`; the system's resolvers by default."""

    servers: tuple[str, ...] = ()
    timeout_s: Seconds = 3.0

    @field_validator("servers")
    @classmethod
    def _check_servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            server_address(text)
        return value


class WebSocket(Section):
    """The ws: and wss: listeners (RFC 7118).

    `origins` are the pages that may connect, such as "https://app.example.com"; "*" is any. What
    is no browser names none and is always let in. `proxies` end TLS for us, and name in
    X-Forwarded-For whom they connect. Both limits are of one connection; `per_address` is how many
    there may be from one source.
    """

    origins: tuple[str, ...] = ()
    proxies: tuple[NetworkText, ...] = ()
    message_octets: Annotated[int, Field(strict=True, ge=4096, le=65536)] = 16384
    messages_per_second: Rate = 50.0
    per_address: Count = 100
    handshakes_per_second: Rate = 100.0
    keepalive_s: Seconds = 30.0

    @field_validator("origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin such as https://app.example.com")
            if _DEFAULT_PORT.fullmatch(origin):
                raise ValueError(f"{origin!r}: browsers leave this port out, so it is none here")
        return value


class Sip(Section):
    """Signalling. `advertise` is the address that peers see in place of our own, by family."""

    listen: Annotated[tuple[Annotated[Listen, BeforeValidator(_listen)], ...], Field(min_length=1)]
    advertise: Address | None = None
    advertise_ipv6: Address | None = None
    drain_s: Annotated[float, Field(strict=True, ge=0, le=86400)] = 5.0
    tls: Tls | None = None
    websocket: WebSocket = WebSocket()
    dns: Dns = Dns()
    # What digest challenges are for; the region's id by default.
    realm: Name | None = None
    # Offered in this order; a peer takes the first one that it knows (RFC 8760).
    digest_algorithms: Annotated[tuple[Literal["SHA-256", "MD5"], ...], Field(min_length=1)] = (
        "SHA-256",
        "MD5",
    )
    # Header fields that cross from leg to leg beside those that always do.
    pass_headers: tuple[HeaderName, ...] = ()
    min_session_expires_s: Annotated[int, Field(strict=True, ge=90, le=86400)] = 90

    @field_validator("pass_headers")
    @classmethod
    def _check_pass_headers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if len(name) == 1 or name.lower() in NEVER_PASSED:
                raise ValueError(f"{name} belongs to one leg and cannot be passed on")
        return value


class Media(Section):
    """The engine. `ports` is the first and the last UDP port, both included."""

    address: Address
    advertise: Address | None = None
    address_ipv6: Address | None = None
    advertise_ipv6: Address | None = None
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
    """Where recordings go: `file:DIRECTORY`, relative to the working directory, or
    `s3://BUCKET/PREFIX` by `[recording.s3]`. `spool` holds them, encrypted, until they are there.
    """

    store: str = "file:var/recordings"
    spool: str = "var/spool"
    s3: S3 | None = None

    @field_validator("store")
    @classmethod
    def _check_store(cls, value: str) -> str:
        if _BUCKET.fullmatch(value):
            return value
        if not value.removeprefix("file:") or not value.startswith("file:"):
            near = f": did you mean 'file:{value}'?" if value and ":" not in value else ""
            raise ValueError(
                f"{value!r} is not of the form file:DIRECTORY or s3://BUCKET/PREFIX{near}"
            )
        return value


class Postgres(NamedTuple):
    """Where PostgreSQL is, and who we are to it."""

    host: str
    port: int
    user: str
    name: str

    @staticmethod
    def parse(url: str) -> Postgres:
        """Raises ValueError with an explanation."""
        parts = urlsplit(url)
        if parts.password is not None:
            raise ValueError("holds a password, which others may see: database.password is for it")
        name = parts.path.removeprefix("/")
        if not parts.hostname or not parts.username or not name or "/" in name:
            raise ValueError("is not of the form postgresql://USER@HOST[:PORT]/NAME")
        if parts.query or parts.fragment:
            raise ValueError("ends after its name: tls and ca are keys of [database]")
        return Postgres(parts.hostname, parts.port or 5432, unquote(parts.username), unquote(name))


class Database(Section):
    """Call records and grants: `sqlite:FILE` or `postgresql://USER@HOST[:PORT]/NAME`.

    PostgreSQL's certificate must prove HOST, by the authorities of `ca` or the system's; on this
    node itself TLS is not needed. What it cannot take yet waits in the directory `queue`,
    `queue_records` at most.
    """

    url: str = "sqlite:var/relay.db"
    password: Secret | None = None
    tls: Literal["verify", "off"] | None = None
    ca: str | None = None
    queue: str = "var/queue"
    queue_records: Count = 1_000_000

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if value.startswith("postgresql:"):
            Postgres.parse(value)
        elif not value.startswith("sqlite:") or not value.removeprefix("sqlite:"):
            raise ValueError("is not of the form sqlite:FILE or postgresql://USER@HOST/NAME")
        return value

    @property
    def file(self) -> str | None:
        """SQLite's; None for PostgreSQL."""
        scheme, _, rest = self.url.partition(":")
        return rest if scheme == "sqlite" else None

    @property
    def place(self) -> Postgres:
        """Where PostgreSQL is. Raises ValueError for SQLite."""
        return Postgres.parse(self.url)


class Http(Section):
    """The listener of `/health` and the demo page: plain HTTP, `address:port`."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        host, port = server_address(value, 0)
        if not port:
            raise ValueError(f"{value!r} is not of the form 127.0.0.1:8080")
        return host_port(host, port)

    @property
    def address(self) -> tuple[str, int]:
        return server_address(self.listen)


class Log(Section):
    """How events are written: one line each, to standard error."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Limits(Section):
    """The whole region, and what is done about those who are no trunk.

    A source that is no trunk's gets `unknown_per_second` answers; `ban_after` offences within
    `ban_window_s` silence it for `ban_s`. `never_ban` adds to the trunks' own networks.
    """

    calls_per_second: Rate | None = None
    concurrent_calls: Count | None = None
    call_duration_s: Seconds | None = None
    unknown_per_second: Rate = 5.0
    ban_after: Count = 20
    ban_window_s: Seconds = 60.0
    ban_s: Seconds = 600.0
    never_ban: tuple[NetworkText, ...] = ()
    scanner_agents: tuple[str, ...] = ("friendly-scanner", "sipvicious", "sipcli", "pplsip")
    scanner_methods: tuple[str, ...] = ()
    scanner_numbers: tuple[str, ...] = ()  # regular expressions, from the first character on

    @field_validator("scanner_numbers")
    @classmethod
    def _check_numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
            if not pattern or re.match(pattern, ""):
                raise ValueError(f"{pattern!r} fits every number")
        return value


class Config(Section):
    """One region as one node serves it."""

    region: Region
    sip: Sip
    media: Media
    recording: Recording = Recording()
    keys: Keys = Keys()
    database: Database = Database()
    audit: Audit = Audit()
    access: Access = Access()
    http: Http | None = None
    log: Log = Log()
    limits: Limits = Limits()
    trunk: tuple[Trunk, ...] = ()
    account: tuple[Account, ...] = ()
    route: tuple[Route, ...] = ()

    @property
    def client_urls(self) -> tuple[str, ...]:
        """Where voice clients connect, as their peers see it."""
        web = [listen for listen in self.sip.listen if listen.transport in WEB_TRANSPORTS]
        seen = {False: self.sip.advertise, True: self.sip.advertise_ipv6}
        return tuple(
            f"{at.transport}://{host_port(seen[':' in at.host] or at.host, at.port)}" for at in web
        )

    @property
    def peers(self) -> tuple[Trunk | Account, ...]:
        """Trunks, then accounts."""
        return (*self.trunk, *self.account)

    @property
    def concurrent_calls(self) -> int:
        """The most calls that the limits allow at once: a call counts on both its peers."""
        limits = [peer.concurrent_calls for peer in self.peers]
        most = min(sum(limits) // 2, sum(limits) - max(limits))
        if any(route.from_ == route.to for route in self.route):
            most = sum(limits)
        return min(most, self.limits.concurrent_calls or most)
