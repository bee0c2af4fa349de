"""What a REGISTER asks for: each Contact, by which device, for how long (RFC 3261 section 10.3,
RFC 5626 section 4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.errors import Refused
from relay.sip.headers import NameAddr
from relay.sip.uri import SipUri

if TYPE_CHECKING:
    from relay.sip.message import Request

LONGEST = 512  # characters of one Contact: so much is kept of each
MOST = 100  # of one REGISTER, as many as an identity may have: a thousand take long to read
_INSTANCE = re.compile(r'"<(urn:[A-Za-z0-9:._+-]{1,120})>"')
_Q = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


Key = tuple[str, ...]


def key_of(contact: SipUri, instance: str, reg_id: int) -> Key:
    """What tells one device of an identity from others: its instance, else its Contact."""
    return (instance, str(reg_id)) if instance else (str(contact),)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One Contact. `text` is it as it goes back."""

    uri: SipUri
    text: str
    instance: str
    reg_id: int
    q: float
    expires_s: int

    @property
    def key(self) -> Key:
        return key_of(self.uri, self.instance, self.reg_id)


def is_everything(request: Request) -> bool:
    """`Contact: *`, which ends every registration of the identity. Raises Refused (400)."""
    values = request.headers.all("Contact")
    if "*" not in values:
        return False
    if len(values) != 1 or (request.headers.get("Expires") or "").strip() != "0":
        raise Refused(400, "Contact: * stands alone, with Expires: 0")
    return True


def asked_s(request: Request, default_s: int) -> list[int]:
    """For how long each Contact is to be registered. Raises MalformedMessage."""
    values = [value for value in request.headers.all("Contact")[:MOST] if value != "*"]
    header = _seconds(request.headers.get("Expires"), default_s)
    return [_seconds(NameAddr.parse(value).param("expires"), header) for value in values]


def wanted(request: Request, default_s: int) -> list[Wanted]:
    """What is to be bound. Raises Refused (400) and MalformedMessage."""
    header = _seconds(request.headers.get("Expires"), default_s)
    values = request.headers.all("Contact")
    if len(values) > MOST:
        raise Refused(400, f"a REGISTER has up to {MOST} Contacts here")
    found = [_wanted(value, header) for value in values]
    if len(found) > 1 and any(each.reg_id for each in found):
        raise Refused(400, "with a reg-id there is one Contact (RFC 5626 section 6)")
    return found


def _wanted(value: str, header_s: int) -> Wanted:
    if len(value) > LONGEST:
        raise Refused(400, f"a Contact has up to {LONGEST} characters here")
    contact = NameAddr.parse(value)
    if not isinstance(contact.uri, SipUri):
        raise Refused(400, "a Contact is a sip: address")
    instance, reg_id = _device(contact)
    q = contact.param("q")
    kept = tuple(
        (name, each)
        for name, each in contact.params
        if name.lower() not in ("expires", "pub-gruu", "temp-gruu")
    )
    return Wanted(
        contact.uri,
        str(NameAddr("", contact.uri, kept)),
        instance,
        reg_id,
        float(q) if q is not None and _Q.fullmatch(q) else 1.0,
        _seconds(contact.param("expires"), header_s),
    )


def _device(contact: NameAddr) -> tuple[str, int]:
    """Its instance and reg-id; a reg-id alone means nothing."""
    value = contact.param("+sip.instance")
    if value is None:
        return "", 0
    match = _INSTANCE.fullmatch(value)
    if match is None:
        raise Refused(400, "+sip.instance is a URN in quotes and angle brackets")
    reg_id = contact.param("reg-id") or "0"
    if not (reg_id.isascii() and reg_id.isdigit() and len(reg_id) < 10):
        raise Refused(400, "reg-id is a number")
    return match[1], int(reg_id)


def _seconds(text: str | None, otherwise: int) -> int:
    """An interval; what is none counts as not given (RFC 3261 section 10.2.1.1)."""
    if text is None or not (text.isascii() and text.isdigit()):
        return otherwise
    return min(int(text[:10]), 2**31)
