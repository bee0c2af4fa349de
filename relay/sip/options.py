"""Option tags: the extensions that a peer understands or insists on (RFC 3261 section 19.2)."""

from __future__ import annotations

from relay.sip.message import Message


def requires(message: Message, option: str) -> bool:
    """Whether Require names an extension (section 20.32)."""
    return _names(message, "Require", option)


def supports(message: Message, option: str) -> bool:
    """Whether a peer understands an extension: what it requires it does too (section 20.37)."""
    return _names(message, "Supported", option) or _names(message, "Require", option)


def _names(message: Message, field: str, option: str) -> bool:
    headers = message.headers
    return field in headers and any(tag.lower() == option for tag in headers.all(field))
