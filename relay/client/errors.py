"""What can go wrong for a voice client, as exceptions that say why."""

from __future__ import annotations

import re
from typing import ClassVar

from relay.errors import Fault, RelayError
from relay.sip.message import Response

_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_BEARER_ERROR = re.compile(r'\berror="([^"]*)"')
_BEARER_TEXT = re.compile(r'\berror_description="([^"]*)"')


class ClientError(RelayError):
    """Base of all failures of the client SDK."""


class BadToken(ClientError):
    """A token that is no JWT with the claims that a voice client needs (known before sending)."""


class ConnectionFailed(ClientError):
    """The relay cannot be reached, or was lost for longer than `reconnect_s`."""

    fault: ClassVar[Fault] = "upstream"


class Refused(ClientError):
    """The relay, or who was called, said no.

    `status` and `reason` are those of the SIP response, 408 when none came; `text` is the
    relay's own explanation (its Warning), "" where there is none.
    """

    fault: ClassVar[Fault] = "upstream"

    def __init__(self, status: int, reason: str, text: str = "") -> None:
        super().__init__(f"{status} {reason}" + (f": {text}" if text else ""))
        self.status = status
        self.reason = reason
        self.text = text


class TokenRefused(Refused):
    """The relay does not take the token: `text` says why (expired, revoked, another region …)."""


class TokenExpired(TokenRefused):
    """The token's time is over, and there was no newer one."""


class CallEnded(ClientError):
    """The call is over; what was asked of it can no longer be done."""


class MediaFailed(ClientError):
    """No audio path (ICE), or no keys for it (DTLS); the text says which."""


def refusal(response: Response) -> Refused:
    """The exception that a final response other than 2xx means."""
    text = warning(response)
    for field in ("WWW-Authenticate", "Proxy-Authenticate"):
        for value in response.headers.fields(field):
            if value[:6].lower() == "bearer":
                return _of_bearer(response, value, text)
    return Refused(response.status, response.reason, text)


def warning(response: Response) -> str:
    """The text of the first Warning (RFC 3261 section 20.43), "" without one."""
    match = _WARNING.search(response.headers.get("Warning") or "")
    return re.sub(r"\\(.)", r"\1", match[1]) if match else ""


def _of_bearer(response: Response, challenge: str, text: str) -> TokenRefused:
    """RFC 8898 section 2.1, RFC 6750 section 3: what is wrong with the token."""
    described = _BEARER_TEXT.search(challenge) or _BEARER_ERROR.search(challenge)
    text = text or (described[1] if described else "")
    kind = TokenExpired if "expired" in text else TokenRefused
    return kind(response.status, response.reason, text)
