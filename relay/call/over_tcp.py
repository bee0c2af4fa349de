"""A request that is too long for UDP goes over TCP, unless nobody takes it there
(RFC 3261 section 18.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from relay.call.ports import TransactionUser
from relay.sip.message import Request, Response
from relay.sip.transaction import Hop

LONGEST_UDP_OCTETS = 1300  # where the path's MTU is not known
VIA_OCTETS = 120  # ours, which is yet to come


class OverTcp:
    """Listens to a request that went over TCP for its length, in place of its user."""

    __slots__ = ("_back_to_udp", "_heard", "_hop", "_request", "_user")

    def __init__(
        self,
        request: Request,
        hop: Hop,
        user: object,
        back_to_udp: Callable[[Request, Hop, object], None],
    ) -> None:
        """`hop` is where it would have gone over UDP."""
        self._back_to_udp = back_to_udp
        self._request = request
        self._hop = hop
        self._user = cast("TransactionUser", user)
        self._heard = False

    def on_response(self, tx: object, response: Response, now: float) -> None:
        self._heard = True
        self._user.on_response(tx, response, now)

    def on_no_response(self, status: int, now: float) -> None:
        if status == 503 and not self._heard:
            self._back_to_udp(self._request, self._hop, self._user)
        else:
            self._user.on_no_response(status, now)


def is_long(request: Request) -> bool:
    """Whether it may not go over UDP (RFC 3261 section 18.1.1); estimated, as encoding twice
    would cost more."""
    octets = VIA_OCTETS + 2 * len(request.uri) + len(request.body)
    for name, value in request.headers.items():
        octets += len(name) + len(value) + 4
    return octets > LONGEST_UDP_OCTETS
