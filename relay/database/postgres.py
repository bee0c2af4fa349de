"""Connections to PostgreSQL: to addresses inside the region only, and over TLS.

The name is looked up here, each address is asked of the boundary, and the connection goes to that
address: nothing can answer differently in between. Its certificate must still prove the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import Any

import asyncpg

from relay.config import Database as Settings
from relay.errors import DatabaseUnavailable
from relay.residency.boundary import Boundary, Use

CONNECT_S = 5.0
STATEMENT_S = 30.0


class Connector:
    """Connects by the configuration. Raises DatabaseUnavailable, OutsideRegion."""

    def __init__(self, settings: Settings, boundary: Boundary) -> None:
        self._settings = settings
        self._boundary = boundary

    async def connect(self) -> Any:
        """A connection of asyncpg's."""
        place, password = self._settings.place, self._settings.password
        hosts = await self.resolve()
        try:
            return await asyncpg.connect(
                host=hosts,
                port=place.port,
                user=place.user,
                password=password.get_secret_value() if password is not None else None,
                database=place.name,
                ssl=self._tls(place.host),
                timeout=CONNECT_S,
                command_timeout=STATEMENT_S,
            )
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            text = f"{place.host} refuses: {error or type(error).__name__}"
            raise DatabaseUnavailable(f"the database at {text}") from error

    async def resolve(self) -> list[str]:
        """The addresses of its host, each inside the region."""
        place = self._settings.place
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                place.host, place.port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise DatabaseUnavailable(f"the database's host {place.host}: {error}") from error
        hosts = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for host in hosts:
            self._boundary.admit(Use.DATABASE, host)
        return hosts

    def _tls(self, name: str) -> ssl.SSLContext | bool:
        if self._settings.tls == "off" or (self._settings.tls is None and is_local(name)):
            return False
        try:
            return _Named.for_name(name, self._settings.ca)
        except OSError as error:
            raise DatabaseUnavailable(f"database.ca {self._settings.ca}: {error}") from error


async def check_host(settings: Settings, boundary: Boundary) -> None:
    """Raises OutsideRegion when it leads outside; a name that is not found now may be later."""
    try:
        await Connector(settings, boundary).resolve()
    except DatabaseUnavailable:
        return


def is_local(host: str) -> bool:
    """Whether a host is this node: what goes there needs no TLS."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Named(ssl.SSLContext):
    """Asks the certificate for the configured name, although an address is connected to."""

    name = ""

    @classmethod
    def for_name(cls, name: str, ca: str | None) -> _Named:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.name = name
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.name, session)
