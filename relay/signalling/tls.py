"""TLS: what is spoken, whose certificate is believed, and ours, read again when it changes."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from relay.config.certificate import (
    WARN_DAYS,
    Certificate,
    check_authorities,
    read_certificate,
)
from relay.errors import CertificateError

if TYPE_CHECKING:
    from relay.config import Tls

# TLS 1.2 with an ephemeral key exchange and authenticated encryption; TLS 1.3 has no other.
SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
OLDEST = ssl.TLSVersion.TLSv1_2
LOOK_EVERY_S = 2.0  # at the files
WARN_EVERY_S = 86400.0


class Credentials:
    """Our certificate and whom we trust, as one context for each direction.

    A context is never changed: new files make new ones, so that a handshake sees one pair.
    `asks` tells whether peers that connect are asked for a certificate (it may be missing,
    it may not be a bad one).
    """

    def __init__(self, config: Tls | None, asks: bool) -> None:
        """Raises CertificateError when what the files hold cannot be served."""
        self._config = config
        self._asks = asks
        self._log = structlog.get_logger()
        self._seen = self._files()
        self._warn_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.certificate: Certificate | None = None
        self.server: ssl.SSLContext | None = None
        self.web: ssl.SSLContext | None = None  # for browsers: it asks for no certificate
        self.client: ssl.SSLContext
        self._load()

    def watch(self) -> None:
        """Look at the files every few seconds, on this loop, until `close`."""
        if self._config is None:
            return
        self.look()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_EVERY_S, self.watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Load what has changed since the last look."""
        files = self._files()
        if files != self._seen:
            self._seen = files
            self.reload()
        self._warn()

    def reload(self) -> None:
        """Take what the files hold now, for handshakes to come; what cannot be used changes
        nothing."""
        try:
            self._load()
        except CertificateError as error:
            self._log.warning("tls_certificate_refused", problem=str(error))
            return
        if self.certificate is not None:
            self._log.info(
                "tls_certificate_loaded",
                subject=self.certificate.subject,
                serial=self.certificate.serial,
                not_after=self.certificate.not_after.isoformat(),
            )
        self._warn_at = 0.0

    def _load(self) -> None:
        certificate, server, web = None, None, None
        client = _context(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False  # the SIP domain is compared instead (RFC 5922)
        config = self._config
        ca = config.ca if config is not None else None
        _trust(client, ca)
        if config is not None and config.certificate is not None and config.key is not None:
            certificate = read_certificate(config.certificate, config.key)
            server = _context(ssl.PROTOCOL_TLS_SERVER)
            web = _context(ssl.PROTOCOL_TLS_SERVER)
            for context in (client, server, web):
                _own(context, config.certificate, config.key)
            if self._asks:
                _trust(server, ca)
                server.verify_mode = ssl.CERT_OPTIONAL
        self.certificate, self.client, self.server, self.web = certificate, client, server, web

    def _warn(self) -> None:
        now = time.monotonic()
        if self.certificate is None or now < self._warn_at:
            return
        self._warn_at = now + WARN_EVERY_S
        days = self.certificate.days_left(datetime.now(UTC))
        if days < WARN_DAYS:
            self._log.warning(
                "tls_certificate_expires",
                subject=self.certificate.subject,
                days_left=round(days, 1),
                not_after=self.certificate.not_after.isoformat(),
            )

    def _files(self) -> list[tuple[int, ...] | None]:
        """What tells one version of a file from the next."""
        config = self._config
        names = (config.certificate, config.key, config.ca) if config is not None else ()
        found: list[tuple[int, ...] | None] = []
        for name in names:
            try:
                status = os.stat(name) if name is not None else None
            except OSError:
                status = None
            found.append(status and (status.st_mtime_ns, status.st_ino, status.st_size))
        return found


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = OLDEST
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    # Connections last: resumption would only keep keys in memory beyond them.
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _trust(context: ssl.SSLContext, ca: str | None) -> None:
    if ca is None:
        context.load_default_certs()
        return
    check_authorities(ca)
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:  # changed since it was checked
        raise CertificateError(f"{ca}: {error}") from None


def _own(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:  # changed since they were checked
        raise CertificateError(f"{certificate}: {error}") from None


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The SIP domains and addresses that a verified certificate is for (RFC 5922 section 7.1).

    `certificate` is what `ssl.SSLObject.getpeercert` gives. Names of type URI count before
    those of type DNS; the common name never does.
    """
    entries = (certificate or {}).get("subjectAltName", ())
    domains = [_sip_domain(value) for kind, value in entries if kind == "URI"]
    found = {domain for domain in domains if domain}
    if not found:
        found = {value.lower() for kind, value in entries if kind == "DNS"}
    found |= {_address(value) for kind, value in entries if kind == "IP Address"}
    return frozenset(name for name in found if "*" not in name)


def _sip_domain(uri: str) -> str:
    """The domain of `sip:domain`; "" for a URI that names a user or is of another scheme."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "sip" or "@" in rest:
        return ""
    return rest.partition(";")[0].partition(":")[0].lower()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text.strip().lower()
