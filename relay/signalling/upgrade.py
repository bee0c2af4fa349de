"""Who may have a WebSocket: what is decided before and in the HTTP upgrade."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.typing import Origin

from relay.call.guard import source_of
from relay.residency.boundary import lies_in
from relay.signalling.places import Allowance, Places

if TYPE_CHECKING:
    from relay.config import WebSocket

MAX_CLIENTS = 16384
MAX_STRANGERS = 1024  # of them: who has not shown a token yet
SHARE = 0.5  # of the handshakes a second that one address may have: others still connect
MOST_SOURCES = 4096  # whose share is known; the one that was idle longest makes room

# What a client reads that is refused after its request was read.
ANSWERS = {
    "outside": (HTTPStatus.FORBIDDEN, "This address is outside of the region's networks."),
    "banned": (HTTPStatus.FORBIDDEN, "This address is banned for a while."),
    "too_many": (HTTPStatus.SERVICE_UNAVAILABLE, "This address has too many connections."),
    "forwarded": (HTTPStatus.BAD_REQUEST, "The proxy does not say for whom: X-Forwarded-For."),
}


class Entrance:
    """What all WebSocket connections share: the configuration, places, handshakes a second."""

    def __init__(
        self,
        config: WebSocket,
        is_banned: Callable[[str], bool],
        is_inside: Callable[[str], bool],
    ) -> None:
        """Both are asked with an address; inside is the region."""
        self.config = config
        self.origins = _origins(config.origins)
        each = config.per_address
        self.places = Places((MAX_CLIENTS, each, MAX_STRANGERS, each))
        self._handshakes = Allowance()
        self._of_one: OrderedDict[str, Allowance] = OrderedDict()
        self._is_banned = is_banned
        self._is_inside = is_inside

    def bars(self, link: int, host: str, now: float) -> str:
        """Why this address may not even begin its handshakes; "" when it may."""
        if self._is_banned(host):
            return "banned"
        if not self._is_proxy(host):
            if not self.places.take(link, host, stranger=True):
                return "too_many"
            if not self._share(host).take(SHARE * self.config.handshakes_per_second, now):
                self.places.leave(link)
                return "too_fast"
        if not self._handshakes.take(self.config.handshakes_per_second, now):
            self.places.leave(link)
            return "too_fast"
        return ""

    def source(self, link: int, host: str, headers: Headers) -> tuple[str, str]:
        """Whose request it is, which a proxy of ours says; and why it is refused, or ""."""
        forwarded = self._is_proxy(host)
        if forwarded:
            client = _forwarded_for(headers.get_all("X-Forwarded-For"))
            if client is None:
                return host, "forwarded"
            host = client
        if not self._is_inside(host):
            return host, "outside"
        if forwarded and self._is_banned(host):
            return host, "banned"
        if forwarded and not self.places.take(link, host, stranger=True):
            return host, "too_many"
        return host, ""

    def _share(self, host: str) -> Allowance:
        """What one address may have of the handshakes."""
        source = source_of(host)
        share = self._of_one.setdefault(source, Allowance())
        self._of_one.move_to_end(source)
        if len(self._of_one) > MOST_SOURCES:
            self._of_one.popitem(last=False)
        return share

    def _is_proxy(self, host: str) -> bool:
        return bool(self.config.proxies) and lies_in(host, self.config.proxies)


def _origins(listed: tuple[str, ...]) -> list[Origin | None] | None:
    """For the library: None is any, and within a list whoever names none."""
    if "*" in listed:
        return None
    return [*(Origin(each) for each in listed), None]


def _forwarded_for(fields: list[str]) -> str | None:
    """The address that a proxy was connected from: the last one, which it added itself."""
    last = ",".join(fields).rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return None
