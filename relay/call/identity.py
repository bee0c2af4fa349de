"""Who calls and who diverted the call, as the other leg may know it.

Numbers and names cross, the addresses behind them do not. Between trunks that are
`trusted`, our trust domain of RFC 3325, identities cross with the Privacy that was asked
for. A trunk that is not gets none that is to be private; what it asserts itself is not
believed: it names the caller only where From names nobody, as P-Preferred-Identity would.
Who wrote an identity that cannot be read loses that identity and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from relay.call.hiding import ADDRESS, LONGEST
from relay.errors import MalformedMessage
from relay.sip.fields import Headers
from relay.sip.headers import NameAddr
from relay.sip.message import Request
from relay.sip.uri import OtherUri, Params, SipUri, param_of

if TYPE_CHECKING:
    from relay.call.numbers import NumberingPlan
    from relay.config import Account, Trunk

ANONYMOUS = NameAddr("Anonymous", SipUri("sip", "anonymous", None, "anonymous.invalid"))
ASSERTED = ("P-Asserted-Identity", "Remote-Party-ID")
# What may stand behind an identity; anything else could name an address.
_KEPT = {
    "P-Asserted-Identity": frozenset[str](),
    "Remote-Party-ID": frozenset(("party", "id-type", "privacy", "screen")),
    "Diversion": frozenset(("reason", "counter", "limit", "privacy", "screen", "extension")),
    "Referred-By": frozenset(),
    "History-Info": frozenset(("index", "rc", "mp", "np")),
}
_KEPT_URI_PARAMS = frozenset(("user", "cause"))  # user=phone; why it was diverted (RFC 4458)
_KEPT_URI_HEADERS = frozenset(("reason", "privacy"))  # of History-Info (RFC 7044 section 5.1)
_PRIVACY = frozenset(("header", "session", "user", "none", "critical", "id", "history"))
_WITHHOLDS_CALLER = frozenset(("id", "user", "header"))
_WITHHOLDS_HISTORY = frozenset(("history", "session", "header"))
# Of one header field; the rest is dropped, so that a message stays within a datagram.
MOST_VALUES = 16

_USER = re.compile(r"[A-Za-z0-9+*#_.!~'()&=$,?/-]{1,64}")
_QUAD = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_PARAM_VALUE = re.compile(r'[A-Za-z0-9.!%*_+`\'~-]{1,64}|"[A-Za-z0-9 _.-]{0,64}"')
_HEADER_VALUE = re.compile(r"[A-Za-z0-9%_.!~*'()+-]{1,128}")


class Identity:
    """The identities of one INVITE on their way to `target`.

    `from_` is the From without a tag, `fields` the header fields that say more, `dropped`
    how many could not be read. What is asserted counts when it is `believed`: a trusted
    trunk's. `ours` is our address towards `target`.
    """

    __slots__ = ("_numbers", "_ours", "_private", "_trusted", "dropped", "fields", "from_")

    def __init__(
        self,
        request: Request,
        believed: bool,
        target: Trunk | Account,
        ours: SipUri,
        numbers: NumberingPlan,
    ) -> None:
        headers = request.headers
        present = set(headers.names())
        self._ours = ours
        self._numbers = numbers
        self._trusted = target.trusted
        self._private = _privacy(headers) if "Privacy" in present else ()
        self.dropped = 0
        self.fields: list[tuple[str, str]] = []
        caller = request.from_
        number = self._number(caller.uri)
        withheld = not _WITHHOLDS_CALLER.isdisjoint(self._private) or (
            _is_anonymous(number) and "none" not in self._private
        )
        asserted: list[tuple[str, NameAddr]] = []
        for name in ASSERTED:
            if name in present:
                asserted += [(name, found) for found in self._read(headers, name)]
        if not number and not withheld:
            caller, number = self._preferred(asserted)
        if not number or _is_anonymous(number) or (withheld and not self._trusted):
            self.from_ = ANONYMOUS
        else:
            self.from_ = NameAddr(_display(caller), self._rehosted(number))
        if believed and (self._trusted or not withheld):
            self._add(asserted, self._asserted)
        for name, show in (
            ("Diversion", self._asserted),
            ("Referred-By", self._asserted),
            ("History-Info", self._past),
        ):
            if name in present:
                self._add([(name, found) for found in self._read(headers, name)], show)
        if self._private:
            self.fields.append(("Privacy", ";".join(self._private)))
        if "Subject" in present and (self._trusted or "user" not in self._private):
            self.fields.append(("Subject", headers.get("Subject") or ""))

    def _read(self, headers: Headers, name: str) -> Iterator[NameAddr]:
        """The values of a field that can be read."""
        values = headers.all(name)
        self.dropped += len(values[MOST_VALUES:])
        for value in values[:MOST_VALUES]:
            try:
                found = NameAddr.parse(value)
            except MalformedMessage:
                self.dropped += 1
                continue
            if name == "History-Info" or self._number(found.uri):
                yield found
            else:
                self.dropped += 1

    def _add(
        self,
        identities: list[tuple[str, NameAddr]],
        show: Callable[[NameAddr], SipUri | OtherUri | None],
    ) -> None:
        for name, identity in identities:
            uri = show(identity)
            if uri is not None:
                shown = "" if uri is ANONYMOUS.uri else _display(identity)
                kept = _kept(identity.params, _KEPT[name])
                self.fields.append((name, str(NameAddr(shown, uri, kept))))

    # --- how an identity is shown; None leaves it out

    def _asserted(self, identity: NameAddr) -> SipUri | OtherUri | None:
        """Remote-Party-ID and Diversion (RFC 5806) bear their own wish for privacy."""
        if not self._trusted and _is_private(identity):
            return None
        return self._shown(identity.uri)

    def _past(self, identity: NameAddr) -> SipUri | OtherUri | None:
        """RFC 7044 section 10.1.2: a private entry keeps its place in the history."""
        uri = identity.uri
        headers = uri.headers.lower() if isinstance(uri, SipUri) else ""
        private = "privacy=history" in headers or not _WITHHOLDS_HISTORY.isdisjoint(self._private)
        if (private and not self._trusted) or not self._number(uri):
            return ANONYMOUS.uri
        return self._shown(uri)

    def _shown(self, uri: SipUri | OtherUri) -> SipUri | OtherUri:
        number = self._number(uri)
        if isinstance(uri, OtherUri) and number[:1] == "+":
            return OtherUri("tel", number)
        return self._rehosted(number, uri)

    def _rehosted(self, number: str, uri: SipUri | OtherUri | None = None) -> SipUri:
        """The number at our address instead of the one behind the trunk."""
        if not isinstance(uri, SipUri) or not (uri.params or uri.headers):
            return self._ours.replace(user=number, params=())
        headers = "&".join(
            item
            for item in uri.headers.split("&")
            if item.partition("=")[0].lower() in _KEPT_URI_HEADERS
            and _HEADER_VALUE.fullmatch(item.partition("=")[2])
        )
        params = _kept(uri.params, _KEPT_URI_PARAMS)
        return self._ours.replace(user=number, params=params, headers=headers)

    def _number(self, uri: SipUri | OtherUri) -> str:
        """The number or name in a URI as the trunk's plan has it, "" when there is none."""
        user = uri.user if isinstance(uri, SipUri) else uri.rest if uri.scheme == "tel" else ""
        if not user:
            return ""
        user = user.partition(";")[0]
        if "%" in user:
            user = unquote(user)
        if _USER.fullmatch(user) is None or _QUAD.fullmatch(user):
            return ""
        return self._numbers.calling(user)

    def _preferred(self, asserted: list[tuple[str, NameAddr]]) -> tuple[NameAddr, str]:
        for _, identity in asserted:
            if not _is_private(identity):
                return identity, self._number(identity.uri)
        return ANONYMOUS, ""


def proved(request: Request, name: str) -> Request:
    """The identities of a voice client's INVITE: `name` is who its token says that it is.

    Of what it says itself only the wish for privacy counts; an anonymous From is one.
    """
    who = f"<{SipUri('sip', name, None, 'client.invalid')}>"
    wishes = dict.fromkeys(_privacy(request.headers))
    caller = request.from_.uri
    if isinstance(caller, SipUri) and _is_anonymous(caller.user or ""):
        wishes["id"] = None
    fields = [("From", who), ("P-Asserted-Identity", who)]
    if wishes:
        fields.append(("Privacy", ";".join(wishes)))
    if (subject := request.headers.get("Subject")) is not None:
        fields.append(("Subject", subject))
    return Request("INVITE", "", Headers.of_canonical(fields))


def _privacy(headers: Headers) -> tuple[str, ...]:
    """The known values of Privacy (RFC 3323 section 4.2, RFC 3325, RFC 7044)."""
    values = ";".join(headers.fields("Privacy")).replace(",", ";").lower().split(";")
    found = (value.strip() for value in values)
    return tuple(dict.fromkeys(value for value in found if value in _PRIVACY))


def _is_anonymous(number: str) -> bool:
    return number.lower() in ("anonymous", "unavailable", "restricted")


def _is_private(identity: NameAddr) -> bool:
    """The privacy parameter of Remote-Party-ID and Diversion."""
    asked = param_of(identity.params, "privacy")
    return asked is not None and asked.strip('"').lower() != "off"


def _kept(params: Params, names: frozenset[str]) -> Params:
    return tuple(
        (name, value)
        for name, value in params
        if name.lower() in names and (value is None or _PARAM_VALUE.fullmatch(value))
    )


def _display(identity: NameAddr) -> str:
    """The name, unless it is an address; a very long one is cut."""
    shown = identity.display[:LONGEST]
    return "" if ADDRESS.search(shown) else shown
