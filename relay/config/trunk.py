"""A trunk of the configuration: who it is, where its calls go, and what it may do."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from relay.config.peer import Peer
from relay.config.values import Identity, NetworkText, Seconds, Secret, Section, Switch
from relay.errors import MalformedMessage
from relay.sdp.crypto import Srtp
from relay.sip.locate import is_numeric
from relay.sip.uri import SipUri

# A host name whose last label is no number: 10.0.1 is a mistyped address.
_NAME = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\.)*[A-Za-z][A-Za-z0-9-]*\.?")
TRANSPORTS = ("udp", "tcp", "tls")
WEB_TRANSPORTS = ("ws", "wss")  # of voice clients, which connect to us
Suite = Literal[
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
]


class Origination(Section):
    """Where a trunk's calls are sent: the lowest priority first, then by weight."""

    uri: str
    priority: Annotated[int, Field(strict=True, ge=0, le=65535)] = 10
    weight: Annotated[int, Field(strict=True, ge=1, le=65535)] = 10
    enabled: Switch = True

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
        if uri.transport in WEB_TRANSPORTS:
            raise ValueError(
                f"transport {uri.transport} is for voice clients, which connect to us: "
                "use udp, tcp or tls"
            )
        if uri.transport not in (None, *TRANSPORTS):
            raise ValueError(f"transport {uri.transport!r} is not udp, tcp or tls")
        if uri.scheme == "sips" and uri.transport == "udp":
            raise ValueError("sips: is TLS, which UDP cannot carry: leave ;transport=udp out")
        if uri.user is not None or uri.headers:
            raise ValueError("an origination URI is an address only: the called number is added")
        if uri.port == 0:
            raise ValueError("the port is not 1 to 65535")
        if not is_numeric(uri.host) and not _NAME.fullmatch(uri.host):
            raise ValueError(f"{uri.host!r} is neither an IP address nor a name")
        return value


def _tls_name(text: str) -> str:
    """A name of a certificate as it is compared: lower case, an address in its normal form."""
    name = text.lower().removeprefix("sip:").strip("[]").rstrip(".")
    if "*" in name:
        raise ValueError(f"{text!r}: a wildcard names nobody (RFC 5922 section 7.2)")
    if is_numeric(name):
        return str(ipaddress.ip_address(name))
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{text!r} is not a name of a certificate such as pbx.example.com")
    return name


class Credential(Section):
    """A digest user name and password (RFC 8760). The password may be `env:NAME`."""

    username: Annotated[str, Field(min_length=1)]
    password: Secret


class Registration(Section):
    """We register at a carrier that wants it (RFC 3261 section 10), with
    `outbound_credentials`, so that it knows where to send its calls."""

    registrar: str
    user: Annotated[str, Field(min_length=1)]
    expires_s: Annotated[int, Field(strict=True, ge=60, le=86400)] = 3600

    @field_validator("user")
    @classmethod
    def _check_user(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9+*#_.!~-]+", value):
            raise ValueError(f"{value!r} is not the user part of a SIP address")
        return value

    @field_validator("registrar")
    @classmethod
    def _check_registrar(cls, value: str) -> str:
        return Origination(uri=value).uri


class Trunk(Peer):
    """A SIP peer: a customer's PBX or a carrier."""

    # Who it is. With both `allow` and `credentials`, both are enforced.
    allow: tuple[NetworkText, ...] = ()
    credentials: tuple[Credential, ...] = ()
    tls_names: tuple[str, ...] = ()
    secure: Switch = False
    srtp: Literal["off", "optional", "required"] = "off"
    srtp_suites: Annotated[tuple[Suite, ...], Field(min_length=1, max_length=5)] = (
        "AES_CM_128_HMAC_SHA1_80",
        "AES_CM_128_HMAC_SHA1_32",
        "AES_256_CM_HMAC_SHA1_80",
        "AEAD_AES_128_GCM",
        "AEAD_AES_256_GCM",
    )
    # Where its calls go.
    origination: Annotated[tuple[Origination, ...], Field(max_length=10)] = ()
    disaster_recovery: str | None = None
    try_next_after_s: Seconds = 4.0
    health_check_s: Annotated[float, Field(strict=True, ge=0, le=3600)] = 0.0
    outbound_credentials: Credential | None = None
    register_at: Annotated[Registration | None, Field(alias="register")] = None
    symmetric_rtp: Switch = False
    # It is of our RFC 3325 trust domain.
    trusted: Switch = False

    transcode: ClassVar[None] = None  # its codecs are its own affair

    @property
    def media_security(self) -> Srtp:
        """What its legs negotiate; `secure` covers signalling and media."""
        return Srtp("required" if self.secure else self.srtp, self.srtp_suites)

    @property
    def known_by(self) -> tuple[str, ...]:
        """What its calls are known by: one of each kind is needed."""
        return (
            *map(str, self.allow),
            *(f"certificate of {name}" for name in self.tls_names),
            *(("a password",) if self.credentials else ()),
        )

    @property
    def targets(self) -> tuple[tuple[str, SipUri], ...]:
        """Every address that its calls may be sent to, with the key that it is written at."""
        found = [
            (f"origination[{at}].uri", entry.sip_uri) for at, entry in enumerate(self.origination)
        ]
        if self.disaster_recovery is not None:
            found.append(("disaster_recovery", SipUri.parse(self.disaster_recovery)))
        return tuple(found)

    @field_validator("disaster_recovery")
    @classmethod
    def _check_recovery(cls, value: str | None) -> str | None:
        return value if value is None else Origination(uri=value).uri

    @field_validator("tls_names")
    @classmethod
    def _check_tls_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_tls_name(name) for name in value)


class Route(Section):
    """Calls of trunk `from` to `number` go to trunk `to`.

    `number` is exact (`+35315550100`), a prefix (`+353*`), any number (`+*`), anything
    (`*`), or the literal name of a service. Either side may be an account: its calls to
    `number` go to the voice client `identity`, without one to the client of the called name.
    """

    from_: Annotated[str, Field(alias="from")]
    number: Annotated[str, Field(min_length=1)]
    to: str
    identity: Identity | None = None

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
