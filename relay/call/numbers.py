"""Telephone numbers: what a trunk writes becomes E.164 with a leading +.

A number is changed by the trunk's rules first and then, if it is a national or an
international one of the trunk's country, written in full. Emergency and short numbers stay
as they are: only a route that names them leads anywhere.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import phonenumbers
from phonenumbers import ValidationResult

from relay.errors import Refused

if TYPE_CHECKING:
    from relay.config import Peer

# No rule sees more than this, whatever its pattern does with long text. An international
# prefix, a carrier's code and fifteen digits are fewer.
LONGEST = 32

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_WRITTEN = re.compile(r"\+?[0-9().-]+")
# A telephone-subscriber may hold visual separators (RFC 3966 section 5.1.1).
_SEPARATORS = str.maketrans("", "", "-.()")
_TOO_SHORT = frozenset(
    (ValidationResult.TOO_SHORT, ValidationResult.IS_POSSIBLE_LOCAL_ONLY)  # local: no area code
)


def user_of(uri: str) -> str:
    """The part of a SIP URI before the @: the number."""
    return uri.partition(":")[2].rpartition("@")[0]


class NumberingPlan:
    """How one trunk or account writes numbers."""

    __slots__ = ("_country", "_rules")

    def __init__(self, peer: Peer) -> None:
        self._country = peer.country
        self._rules = [(re.compile(rule.match), rule.replace) for rule in peer.number_rules]

    def called(self, user: str) -> str:
        """The user part of a Request-URI as a number, or what is no number unchanged.

        Raises Refused (400) for one that begins with + and cannot be E.164.
        """
        number = self._plain(user)
        if number[:1] == "+":
            check_e164(number)
        return number

    def calling(self, user: str) -> str:
        """A caller's number; one that cannot be understood stays as it is."""
        number = self._plain(user)
        return number if number[:1] != "+" or _E164.fullmatch(number) else user

    def _plain(self, user: str) -> str:
        number = user.partition(";")[0]  # a telephone-subscriber's parameters
        if _WRITTEN.fullmatch(number) is not None:
            number = number.translate(_SEPARATORS)
        if self._rules and len(number) <= LONGEST:
            number = self._ruled(number)
        if self._country is not None and number.isascii() and number.isdigit():
            number = _international(number[: LONGEST + 1], self._country) or number
        return number

    def _ruled(self, number: str) -> str:
        """By the first rule that matches the whole of it."""
        for pattern, replace in self._rules:
            if (match := pattern.fullmatch(number)) is not None:
                return match.expand(replace)
        return number


def check_e164(number: str) -> None:
    """Raises Refused (400) when this cannot be a number of its country.

    The length counts and no more: whether a block of numbers is in use today is for the
    carrier to say. (Splitting off the country code here takes a tenth of what parsing does.)
    """
    if _E164.fullmatch(number) is None:
        raise Refused(400, "not an E.164 number: + and up to 15 digits")
    for length in (1, 2, 3):
        code = int(number[1 : 1 + length])
        if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            break
    else:
        raise Refused(400, "not an E.164 number: there is no such country code")
    national = number[1 + length :]
    zeros = len(national) - len(national.lstrip("0"))
    verdict = phonenumbers.is_possible_number_with_reason(
        phonenumbers.PhoneNumber(
            country_code=code,
            national_number=int(national or "0"),
            italian_leading_zero=zeros > 0,
            number_of_leading_zeros=zeros or None,
        )
    )
    if verdict in _TOO_SHORT:
        raise Refused(400, f"not an E.164 number: too short for country code +{code}")
    if verdict != ValidationResult.IS_POSSIBLE:
        raise Refused(400, f"not an E.164 number: wrong length for country code +{code}")


@lru_cache(maxsize=4096)
def _international(number: str, country: str) -> str | None:
    """Digits as they are dialled in a country as E.164; None when they are no such number.

    Here the number must be one that is in use: a local number without its area code, or an
    extension, may be as long as another one.
    """
    if phonenumbers.is_emergency_number(number, country):
        return None
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
