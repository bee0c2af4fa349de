"""Where this client is, told to the relay and kept true (RFC 3261 section 10, RFC 5626)."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import TYPE_CHECKING

from relay.client.errors import TokenRefused, refusal
from relay.errors import MalformedMessage
from relay.sip.headers import NameAddr
from relay.sip.message import Response

if TYPE_CHECKING:
    from relay.client.line import Line

WANTED_S = 600
LEAST_S = 5.0


class Registration:
    """REGISTERs of one instance: the same Call-ID, CSeq counted up, also after a reconnect."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._call_id, self._tag = token_hex(12), token_hex(6)
        self._cseq = 0
        self._wanted_s = WANTED_S
        self._turn = asyncio.Lock()  # two at a time would overtake each other
        self.expires_s = 0.0
        self.gruu: str | None = None

    async def register(self) -> None:
        """REGISTER once. Raises Refused, TokenRefused."""
        async with self._turn:
            response = await self._ask(self._wanted_s)
            if response.status == 423:
                self._wanted_s = max(_seconds(response, "Min-Expires"), self._wanted_s)
                response = await self._ask(self._wanted_s)
            if response.status >= 300:
                raise _refused(response)
            self._take(response)

    async def unregister(self) -> None:
        """Say goodbye. Raises Refused."""
        async with self._turn:
            response = await self._ask(0)
            if response.status >= 300:
                raise refusal(response)

    @property
    def renew_in_s(self) -> float:
        """When to register again: well before the end."""
        return max(LEAST_S, self.expires_s - max(30.0, self.expires_s / 4))

    async def _ask(self, expires_s: int) -> Response:
        line = self._line
        self._cseq += 1
        request = line.request("REGISTER", f"sip:{line.host}", self._tag, line.aor)
        request.headers.set("Call-ID", self._call_id)
        request.headers.set("CSeq", f"{self._cseq} REGISTER")
        request.headers.add("Contact", line.registered_contact)
        request.headers.add("Expires", str(expires_s))
        return await line.agent.ask(request)

    def _take(self, response: Response) -> None:
        """What the relay granted (RFC 3261 section 10.3), and our GRUU (RFC 5627)."""
        self.expires_s = float(_seconds(response, "Expires") or self._wanted_s)
        for value in response.headers.all("Contact"):
            try:
                contact = NameAddr.parse(value)
            except MalformedMessage:
                continue
            if (contact.param("+sip.instance") or "").strip('"') != self._line.instance:
                continue
            expires = contact.param("expires") or ""
            if expires.isascii() and expires.isdigit():
                self.expires_s = float(expires)
            self.gruu = (contact.param("pub-gruu") or "").strip('"') or None


def _refused(response: Response) -> Exception:
    error = refusal(response)
    if response.status in (401, 403, 407) and not isinstance(error, TokenRefused):
        return TokenRefused(error.status, error.reason, error.text)
    return error


def _seconds(response: Response, name: str) -> int:
    value = (response.headers.get(name) or "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 9 else 0
